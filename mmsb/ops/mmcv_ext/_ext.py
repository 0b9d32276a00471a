"""``mmcv._ext`` without a compiler: mmcv's operators on torchvision's kernels and plain torch.

Functions have the names, arguments (keywords included) and in-place outputs that mmcv's Python
code expects. They run on CPU and CUDA, in float32 and float64; half precision is computed in
float32. Where torchvision or torch define an operator differently (RoI pooling, focal loss,
gradients at borders), mmcv's definition is used. mmcv imports one module; the operators lie
family by family in the files of ``mmsb.ops``. Gradients are written out, because mmcv calls
forward and backward separately.
"""

import torch
import torchvision

from mmsb.ops.attention import (
    ms_deform_attn_backward,
    ms_deform_attn_forward,
    psamask_backward,
    psamask_forward,
)
from mmsb.ops.boxes import bbox_overlaps, line_nms_forward, nms, nms_match, softnms
from mmsb.ops.common import needs_compiled_mmcv
from mmsb.ops.convolutions import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    masked_col2im_forward,
    masked_im2col_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from mmsb.ops.losses import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from mmsb.ops.norms import (
    sync_bn_backward_data,
    sync_bn_backward_param,
    sync_bn_forward_mean,
    sync_bn_forward_output,
    sync_bn_forward_var,
)
from mmsb.ops.rois import (
    deform_roi_pool_backward,
    deform_roi_pool_forward,
    roi_align_backward,
    roi_align_forward,
    roi_align_rotated_backward,
    roi_align_rotated_forward,
    roi_pool_backward,
    roi_pool_forward,
)
from mmsb.ops.rotated_boxes import box_iou_quadri, box_iou_rotated, nms_quadri, nms_rotated
from mmsb.ops.upsampling import (
    carafe_backward,
    carafe_forward,
    carafe_naive_backward,
    carafe_naive_forward,
)

__all__ = [
    'bbox_overlaps',
    'box_iou_quadri',
    'box_iou_rotated',
    'carafe_backward',
    'carafe_forward',
    'carafe_naive_backward',
    'carafe_naive_forward',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'deform_roi_pool_backward',
    'deform_roi_pool_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'line_nms_forward',
    'masked_col2im_forward',
    'masked_im2col_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'nms_match',
    'nms_quadri',
    'nms_rotated',
    'psamask_backward',
    'psamask_forward',
    'roi_align_backward',
    'roi_align_forward',
    'roi_align_rotated_backward',
    'roi_align_rotated_forward',
    'roi_pool_backward',
    'roi_pool_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softnms',
    'sync_bn_backward_data',
    'sync_bn_backward_param',
    'sync_bn_forward_mean',
    'sync_bn_forward_output',
    'sync_bn_forward_var',
]


def __getattr__(name: str):
    """Return a stub for any other operator: mmcv needs it at import; a call raises an error."""
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def unserved(*args, **kwargs):
        raise NotImplementedError(needs_compiled_mmcv(name))

    unserved.__name__ = unserved.__qualname__ = name
    return unserved


def get_compiler_version() -> str:
    return f'none: torchvision {torchvision.__version__} (mmsb.ops)'


def get_compiling_cuda_version() -> str:
    return f'{torch.version.cuda or "not available"}: torchvision (mmsb.ops)'
