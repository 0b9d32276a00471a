"""Batch norms folded into convolutions, for inference."""

from mmcv.cnn import fuse_conv_bn
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn

from mmsb.errors import UserError

from .backbones.sb_resnet import ResidualBlock


def fuse_spatial_bias(model: nn.Module) -> nn.Module:
    """Folds every batch norm that follows a convolution into it, spatial bias's too.

    For a backbone of this package or a whole classifier, detector or segmentor of the toolboxes
    with one, with spatial bias or without. The outputs are the same up to rounding.
    mmcv's ``fuse_conv_bn`` alone fails on the widened norm, which spans a convolution's output
    and the maps: its parts are separated first, the maps' then works on the grid, before the
    upsampling. Norms that are not batch norms stay.

    Args:
        model: A model in eval mode with its weights loaded; changed in place. It can neither be
            trained nor load weights of the unfused model afterwards.

    Returns:
        The model.

    Raises:
        UserError: The model, or a batch norm in it, is in training mode.

    Example:
        >>> from mmsb.models import SBResNet, fuse_spatial_bias
        >>> model = fuse_spatial_bias(SBResNet(depth=50).eval())
        >>> any(isinstance(module, nn.BatchNorm2d) for module in model.layer4.modules())
        False
    """
    norms = (module for module in model.modules() if isinstance(module, _BatchNorm))
    if model.training or any(norm.training for norm in norms):
        raise UserError('a model is fused for inference only: call model.eval() first')
    for module in list(model.modules()):
        if isinstance(module, ResidualBlock):
            module.split_norm()
    return fuse_conv_bn(model)
