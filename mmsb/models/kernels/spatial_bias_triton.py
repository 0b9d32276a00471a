"""Spatial bias at inference in four Triton kernels, where PyTorch's operators take thirteen.

At inference on a GPU spatial bias costs launches of small operators and passes over the features,
not arithmetic. Here the features are read once for the reduction, and once where ReLU reads them
anyway, to be written with the maps beside them. The maps are made beside the convolution that they
are concatenated to.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from . import training
from .launching import Beside, launch, power
from .reduction import reduce_kernel
from .training import mix


def pool(x: Tensor, weight: Tensor, bias: Tensor, size: int) -> Tensor:
    """1x1 convolution with ReLU, averaged over a grid.

    Args:
        x: (B, C, H, W).
        weight: (R, C, 1, 1).
        bias: (R,).
        size: Side of the grid in cells.

    Returns:
        (B, R, size * size), float32.
    """
    x, precision = x.contiguous(memory_format=torch.channels_last), _precision(x)
    batch, channels, height, width = x.shape
    pixels, reduced = batch * height * width, len(weight)
    r0 = x.new_empty(batch, reduced, height, width)
    launch(
        reduce_kernel, (-(-pixels // 64),), x, weight, r0, pixels, height * width,
        C=channels, R=reduced, BLOCK_M=64, BLOCK_C=power(channels, 16, 64),
        BLOCK_R=power(reduced, 16), PRECISION=precision,
    )  # fmt: skip
    return training.pool(r0, bias, size, precision, scaled=False)


def join(y: Tensor, bias: Tensor, maps: Tensor, size: int, extra: int) -> Tensor:
    """ReLU of features and upsampled maps, concatenated; the features' bias is added first.

    Args:
        y: Features, (B, C, H, W).
        bias: What their convolution adds, (C,).
        maps: (B, num_maps, size * size), float32.
        size: Side of the grid in cells.
        extra: Channels after the features: the maps', the others zero.

    Returns:
        (B, C + extra, H, W) of y's type, channels last.
    """
    y = y.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = y.shape
    out = torch.empty(
        (batch, channels + extra, height, width),
        dtype=y.dtype, device=y.device, memory_format=torch.channels_last,
    )  # fmt: skip
    training.widen(y, bias, maps, None, out, size)
    return out


def concatenate(
    features: Callable[[], Tensor], bias: Tensor, x: Tensor, weight: Tensor, reduction_bias: Tensor,
    mixing: Tensor, scale: Tensor, shift: Tensor, size: int, num_maps: int, extra: int,
) -> Tensor:  # fmt: skip
    """ReLU of features and of the maps made of x, side by side.

    features computes the features, to which bias is added, while the maps are made. The other
    arguments are those of :func:`pool` and :func:`mix`, whose weight is mixing, and :func:`join`.
    """
    reduced = num_maps + mixing.shape[1] // size**2 - 1  # what is beyond was added for operators
    beside = Beside(x)
    with beside.run(x):
        pooled = pool(x, weight[:reduced], reduction_bias[:reduced], size)
        maps = mix(pooled, mixing, scale, shift, num_maps, _precision(x))
    y = features()
    beside.join()
    return join(y, bias, maps, size, extra)


def _precision(x: Tensor) -> str:
    """Products in float32 take three tf32 ones, or none where convolutions keep all bits."""
    if x.dtype is not torch.float32:
        return 'tf32'  # which holds bfloat16 and float16 exactly
    return 'tf32x3' if torch.backends.cudnn.allow_tf32 else 'ieee'
