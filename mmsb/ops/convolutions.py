"""Deformable and masked convolutions.

Offsets are (B, 2 * groups * kH * kW, outH, outW) with y before x, and masks
(B, groups * kH * kW, outH, outW), in mmcv and torchvision. mmcv's buffers (columns, ones) and
im2col_step are not used.
"""

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from mmsb.ops.common import full


def _deform_conv(backward, input, weight, offset, mask, bias, geometry) -> Tensor | tuple:
    """Run torchvision's kernel, or its backward if ``backward``, the output's gradient, is given.

    Returns:
        Tensor | tuple: The output, or the gradients of input, weight, offset, mask and bias.
    """
    use_mask = mask is not None
    mask = mask if use_mask else input.new_zeros(len(input), 1)
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    tensors = full(input, weight, offset, mask, bias)
    if backward is None:
        return torch.ops.torchvision.deform_conv2d(*tensors, *geometry, use_mask)
    grads = torch.ops.torchvision._deform_conv2d_backward(
        *full(backward), *tensors, *geometry, use_mask
    )
    _clear_one_outside(grads[2], tensors[2], weight.shape[2:], geometry)
    return grads


def _clear_one_outside(grad_offset, offset, kernel, geometry) -> None:
    """Set the offset gradients of samples exactly one cell before the first to 0, in place.

    There the sample begins to differ from 0. mmcv takes the derivative from outside, torchvision
    that from inside. Zero offsets, with which training starts, put samples exactly there.
    """
    (stride, padding, dilation) = (geometry[0:2], geometry[2:4], geometry[4:6])
    outside = False
    shape = (len(offset), -1, *kernel, 2, *offset.shape[2:])
    for axis in (0, 1):
        cells = torch.arange(offset.shape[2 + axis], device=offset.device) * stride[axis]
        taps = torch.arange(kernel[axis], device=offset.device) * dilation[axis] - padding[axis]
        start = taps[:, None] + cells  # (kernel[axis], out[axis])
        start = start[:, None, :, None] if axis == 0 else start[None, :, None, :]
        outside = outside | (offset.reshape(shape)[:, :, :, :, axis] + start == -1)
    grad_offset.view(shape).masked_fill_(outside.unsqueeze(4), 0)


def _read(maps, size) -> Tensor:
    """Read maps larger than the output as mmcv's modulated convolution does.

    mmcv takes the first ``channels * outH * outW`` numbers of an image in memory as its maps. The
    heads of DyHead rely on that, with maps of a level for the one above it.

    Raises:
        ValueError: If the maps are smaller than the output.
    """
    if maps.shape[2:] == size:
        return maps
    if maps.shape[2] * maps.shape[3] < size[0] * size[1]:
        raise ValueError(
            f'offset or mask is {tuple(maps.shape[2:])} and the output {tuple(size)} '
            '(height, width): give one value per output cell'
        )
    used = maps.shape[1] * size[0] * size[1]
    return maps.flatten(1)[:, :used].reshape(len(maps), -1, *size)


def _write(grad, out) -> None:
    """Write the gradient of what :func:`_read` returned to ``out``; the rest is 0."""
    if grad.shape != out.shape:
        unused = out[0].numel() - grad[0].numel()
        grad = F.pad(grad.flatten(1), (0, unused)).view(out.shape)
    out.copy_(grad)


def deform_conv_forward(
    input,
    weight,
    offset,
    output,
    columns,
    ones,
    kW,
    kH,
    dW,
    dH,
    padW,
    padH,
    dilationW,
    dilationH,
    group,
    deformable_group,
    im2col_step,
) -> None:
    """Deformable convolution of ``input`` (B, C, H, W) into ``output``."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_deform_conv(None, input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input,
    offset,
    gradOutput,
    gradInput,
    gradOffset,
    weight,
    columns,
    kW,
    kH,
    dW,
    dH,
    padW,
    padH,
    dilationW,
    dilationH,
    group,
    deformable_group,
    im2col_step,
) -> None:
    """Gradients of input and offset, written to ``gradInput`` and ``gradOffset``."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    grads = _deform_conv(gradOutput, input, weight, offset, None, None, geometry)
    gradInput.copy_(grads[0])
    gradOffset.copy_(grads[2])


def deform_conv_backward_parameters(
    input,
    offset,
    gradOutput,
    gradWeight,
    columns,
    ones,
    kW,
    kH,
    dW,
    dH,
    padW,
    padH,
    dilationW,
    dilationH,
    group,
    deformable_group,
    scale,
    im2col_step,
) -> None:
    """Gradient of the weight, added to ``gradWeight``; it doesn't depend on the weight itself."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    grads = _deform_conv(gradOutput, input, gradWeight, offset, None, None, geometry)
    gradWeight.add_(grads[1], alpha=scale)


def modulated_deform_conv_forward(
    input,
    weight,
    bias,
    ones,
    offset,
    mask,
    output,
    columns,
    kernel_h,
    kernel_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    group,
    deformable_group,
    with_bias,
) -> None:
    """Modulated deformable convolution of ``input`` (B, C, H, W) into ``output``.

    Offset and mask may be larger than the output, see :func:`_read`.
    """
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias = bias if with_bias else None
    offset, mask = (_read(maps, output.shape[2:]) for maps in (offset, mask))
    output.copy_(_deform_conv(None, input, weight, offset, mask, bias, geometry))


def modulated_deform_conv_backward(
    input,
    weight,
    bias,
    ones,
    offset,
    mask,
    columns,
    grad_input,
    grad_weight,
    grad_bias,
    grad_offset,
    grad_mask,
    grad_output,
    kernel_h,
    kernel_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    group,
    deformable_group,
    with_bias,
) -> None:
    """Gradients of every input, written to the ``grad_*`` of the same names."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias = bias if with_bias else None
    offset, mask = (_read(maps, grad_output.shape[2:]) for maps in (offset, mask))
    grads = _deform_conv(grad_output, input, weight, offset, mask, bias, geometry)
    for out, grad in zip((grad_input, grad_weight, grad_offset, grad_mask), grads, strict=False):
        _write(grad, out)
    if with_bias:
        grad_bias.copy_(grads[4])


def masked_im2col_forward(
    im, mask_h_idx, mask_w_idx, col, kernel_h, kernel_w, pad_h, pad_w
) -> None:
    """Copy the patches of ``im`` (1, C, H, W) at M positions to ``col`` (C * kH * kW, M)."""
    patches = F.unfold(im, (kernel_h, kernel_w), padding=(pad_h, pad_w))[0]
    out_w = im.shape[3] + 2 * pad_w - kernel_w + 1
    col.copy_(patches[:, mask_h_idx * out_w + mask_w_idx])


def masked_col2im_forward(col, mask_h_idx, mask_w_idx, im, height, width, channels) -> None:
    """Copy columns ``col`` (C, M) to their positions in ``im`` (1, C, H, W)."""
    im[0, :, mask_h_idx, mask_w_idx] = col
