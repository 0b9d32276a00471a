"""The forward pass of a fused residual block, in its device's own convolutions and our kernels."""

import logging
from functools import cache

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from .backbones.sb_resnet import ResidualBlock


def is_folded(conv: nn.Module) -> bool:
    return type(conv) is nn.Conv2d and conv.bias is not None


def fits(block: ResidualBlock) -> bool:
    """Whether a fused block is what :func:`forward` computes."""
    convs = [getattr(block, f'conv{i}') for i in range(1, block.num_layers + 1)]
    norms = [getattr(block, name) for name in block.norm_names if name]
    fits = (
        all(map(is_folded, convs))
        and all(conv.padding_mode == 'zeros' and conv.padding != 'same' for conv in convs)
        and len(norms) == len(convs)
        and all(isinstance(layer, nn.Identity) for layer in (*norms, block.drop_path))
        and not any(block.plugin_names)
    )
    if not block.spatial_bias_at:
        return fits
    layer = block.spatial_bias
    conv = layer.reduction.conv
    return (
        fits
        and block.norm_split
        and layer.mixing is not None
        and layer.pool is F.adaptive_avg_pool2d
        and is_folded(conv)
        and conv.stride == (1, 1)
        and conv.out_channels & (conv.out_channels - 1) == 0
    )


def forward(block: ResidualBlock, x: Tensor) -> Tensor | None:
    """A fused block in cuDNN's convolutions with ReLU and shortcut within, and Triton's kernels.

    PyTorch's own convolution adds its bias, ReLU and the shortcut in passes over memory of their
    own, which take as long as the convolutions.

    Args:
        block: With folded norms.
        x: (B, in_channels, H, W).

    Returns:
        The block's output; None where its operators one by one have to do: on another device, in
        another type, for gradients, or inside a compiler.
    """
    if not x.is_cuda or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    dtype = torch.get_autocast_dtype('cuda') if torch.is_autocast_enabled('cuda') else x.dtype
    if (
        dtype not in (torch.float32, torch.bfloat16, torch.float16)
        or not x.numel()
        or torch.jit.is_tracing()
        or torch.version.hip
        or not torch.backends.cudnn.enabled
    ):
        return None
    kernels = None
    if block.spatial_bias_at:
        kernels = triton_kernels()
        if kernels is None:
            return None
    shortcut = (x if block.downsample is None else block.downsample(x)).to(dtype)
    out = x.to(dtype)
    for i in range(1, block.num_layers + 1):
        conv = getattr(block, f'conv{i}')
        weight = conv.weight.to(dtype)
        options = conv.stride, conv.padding, conv.dilation
        if i == block.spatial_bias_at:
            y = F.conv2d(out, weight, None, *options, conv.groups)
            out = block.spatial_bias.concatenate_in_kernels(y, conv.bias, out, kernels)
        elif i < block.num_layers:
            out = torch.cudnn_convolution_relu(
                out, weight, conv.bias.to(dtype), *options, conv.groups
            )
        else:
            out = torch.cudnn_convolution_add_relu(
                out, weight, shortcut, 1, conv.bias.to(dtype), *options, conv.groups
            )
    return out


@cache
def triton_kernels():
    """The module of Triton kernels; None, said once, where they do not work."""
    try:
        from .layers import spatial_bias_triton as kernels

        with torch.inference_mode():
            x = torch.zeros(1, 16, 1, 1, device='cuda')
            pooled = kernels.pool(x, x.new_zeros(16, 16, 1, 1), x.new_zeros(16), 1)
            maps = kernels.mix(pooled, x.new_zeros(1, 1), x.new_zeros(1), x.new_zeros(1, 1), 1)
            kernels.join(x, x.new_zeros(16), maps, 1, 8)
    except Exception as error:  # no Triton, no C compiler, a GPU that it does not know
        reason = str(error).strip().partition('\n')[0]
        print_log(
            f'spatial bias runs without its Triton kernels, more slowly on small batches: {reason}',
            'current',
            logging.WARNING,
        )
        return None
    return kernels
