"""Spatial bias at inference in four Triton kernels, where PyTorch's operators take thirteen.

At inference on a GPU spatial bias costs launches of small operators and passes over the features,
not arithmetic. Here the features are read once for the reduction, and once where ReLU reads them
anyway, to be written with the maps beside them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .grid import pool_kernel
from .launching import launch, power
from .reduction import reduce_kernel
from .tables import axis
from .widening import widen_kernel


@triton.jit(do_not_specialize=['columns', 'cells'])
def _mix_kernel(
    pooled, weight, scale, shift, maps, columns, cells,
    REDUCED: tl.constexpr, MAPS: tl.constexpr, TAPS: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The 1-D convolution over the cells, and the maps' norm; some cells of some images' maps."""
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    image, number = n // MAPS, n % MAPS
    mixed = tl.zeros([BLOCK_O, BLOCK_N], tl.float32)
    for tap in tl.static_range(TAPS):
        for first in range(0, cells, BLOCK_C):
            c = first + tl.arange(0, BLOCK_C)
            factors = tl.load(
                weight + o[:, None] * (TAPS * cells) + tap * cells + c[None, :],
                mask=(o < cells)[:, None] & (c < cells)[None, :],
                other=0.0,
            ).to(tl.float32)
            grid = tl.load(
                pooled + (image * REDUCED + number + tap)[None, :] * cells + c[:, None],
                mask=(n < columns)[None, :] & (c < cells)[:, None],
                other=0.0,
            )
            mixed = tl.dot(factors, grid, mixed, input_precision=PRECISION)
    mask = (o < cells)[:, None] & (n < columns)[None, :]
    mixed *= tl.load(scale + number)[None, :].to(tl.float32)
    at = number[None, :] * cells + o[:, None]
    mixed += tl.load(shift + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(maps + n[None, :] * cells + o[:, None], mixed, mask=mask)


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
    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = x.shape
    reduced, pixels = len(weight), batch * height * width
    # tf32 holds bfloat16 and float16 exactly
    precision = _float32_precision() if x.dtype is torch.float32 else 'tf32'
    r0 = x.new_empty(batch, reduced, height, width)
    launch(
        reduce_kernel, (-(-pixels // 64),), x, weight, r0, pixels, height * width,
        C=channels, R=reduced, BLOCK_M=64, BLOCK_C=power(channels, 16, 64),
        BLOCK_R=power(reduced, 16), PRECISION=precision,
    )  # fmt: skip
    rows, columns = axis(height, size, x.device), axis(width, size, x.device)
    block_w = power(width, 16, 64)
    blocks = -(-width // block_w)
    pooled = x.new_empty(blocks, batch, reduced, size * size, dtype=torch.float32)
    launch(
        pool_kernel, (batch * reduced, blocks),
        r0, bias, pooled, rows.pool, columns.pool, height, width, size,
        R=reduced, SCALED=False, BLOCK_H=power(height, 16, 32), BLOCK_W=block_w,
        BLOCK_S=power(size, 16), PRECISION=precision,
    )  # fmt: skip
    return pooled[0] if blocks == 1 else pooled.sum(0)


def mix(pooled: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, num_maps: int) -> Tensor:
    """The 1-D convolution whose channels are the cells, scaled and shifted.

    Args:
        pooled: (B, R, cells), float32.
        weight: (cells, taps * cells), tap after tap.
        scale: num_maps values or more.
        shift: (num_maps or more, cells).
        num_maps: Maps to make, R - taps + 1 at most.

    Returns:
        (B, num_maps, cells), float32.
    """
    batch, reduced, cells = pooled.shape
    maps = pooled.new_empty(batch, num_maps, cells)
    columns = batch * num_maps
    block_n = power(columns, 16, 32)
    launch(
        _mix_kernel, (-(-cells // 16), -(-columns // block_n)),
        pooled, weight, scale, shift, maps, columns, cells,
        REDUCED=reduced, MAPS=num_maps, TAPS=weight.shape[1] // cells,
        BLOCK_O=16, BLOCK_C=32, BLOCK_N=block_n, PRECISION=_float32_precision(),
    )  # fmt: skip
    return maps


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
    pixels = batch * height * width
    launch(
        widen_kernel, (-(-pixels // 32),), y, bias, maps, None, out, pixels, height, width, size,
        C=channels, WIDE=channels + extra, MAPS=maps.shape[1], SCALED=False,
        BLOCK_M=32, BLOCK_C=power(channels, 1, 64), BLOCK_E=power(extra),
    )  # fmt: skip
    return out


def concatenate(
    y: Tensor, y_bias: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mixing: Tensor,
    scale: Tensor, shift: Tensor, size: int, num_maps: int, extra: int,
) -> Tensor:  # fmt: skip
    """All three: ReLU of features y and of the maps made of x, side by side.

    The arguments are those of :func:`join`, :func:`pool` and :func:`mix`, whose weight is mixing.
    """
    reduced = num_maps + mixing.shape[1] // size**2 - 1  # what is beyond was added for operators
    pooled = pool(x, weight[:reduced], bias[:reduced], size)
    maps = mix(pooled, mixing, scale, shift, num_maps)
    return join(y, y_bias, maps, size, extra)


def _float32_precision() -> str:
    """Three tf32 products hold all but float32's last bits; not where convolutions keep those."""
    return 'tf32x3' if torch.backends.cudnn.allow_tf32 else 'ieee'
