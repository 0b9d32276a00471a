"""Spatial bias at inference in three Triton kernels, where PyTorch's operators take thirteen.

At inference on a GPU spatial bias costs launches of small operators and passes over the features,
not arithmetic. Here the features are read once to be reduced and pooled, and once where ReLU passes
over them anyway, to be written with the maps beside them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _pool_kernel(
    x, weight, bias, pooled, channels, height, width, size, stride_b, stride_c, stride_h, stride_w,
    REDUCED: tl.constexpr, GROUP: tl.constexpr, BLOCK_G: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """GROUP neighbouring cells of one image: 1x1 convolution, ReLU, and their means."""
    groups = tl.cdiv(size, GROUP)
    image = (tl.program_id(0) // (size * groups)).to(tl.int64)
    row = tl.program_id(0) // groups % size
    g = tl.arange(0, BLOCK_G)
    col = tl.program_id(0) % groups * GROUP + g
    real = (g < GROUP) & (col < size)
    top, bottom = row * height // size, ((row + 1) * height + size - 1) // size
    left = col * width // size
    right = ((col + 1) * width + size - 1) // size
    first_column = tl.min(tl.where(real, left, width), axis=0)
    columns = tl.max(tl.where(real, right, 0), axis=0) - first_column
    count = (bottom - top) * columns
    outputs = tl.arange(0, REDUCED)
    shift = tl.load(bias + outputs).to(tl.float32)
    total = tl.zeros([BLOCK_G, REDUCED], tl.float32)
    for start in range(0, count, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        inside = p < count
        column = first_column + p % columns
        at = (top + p // columns) * stride_h + column * stride_w
        reduced = tl.zeros([BLOCK_P, REDUCED], tl.float32)
        for first in range(0, channels, BLOCK_C):
            c = first + tl.arange(0, BLOCK_C)
            features = tl.load(
                x + image * stride_b + at[:, None] + c[None, :] * stride_c,
                mask=inside[:, None] & (c < channels)[None, :],
                other=0.0,
            ).to(tl.float32)
            factors = tl.load(
                weight + outputs[None, :] * channels + c[:, None],
                mask=(c < channels)[:, None],
                other=0.0,
            ).to(tl.float32)
            reduced = tl.dot(features, factors, reduced, input_precision=PRECISION)
        reduced = tl.maximum(reduced + shift[None, :], 0.0)
        belongs = (column[None, :] >= left[:, None]) & (column[None, :] < right[:, None])
        belongs = (belongs & inside[None, :]).to(tl.float32)
        total = tl.dot(belongs, reduced, total, input_precision=PRECISION)
    total = total / ((bottom - top) * (right - left)).to(tl.float32)[:, None]
    cell = row * size + col
    tl.store(
        pooled + (image * REDUCED + outputs[None, :]) * (size * size) + cell[:, None],
        total,
        mask=real[:, None],
    )


@triton.jit
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


@triton.jit
def _join_kernel(
    y, bias, maps, out, channels, extra, height, width, size,
    y_b, y_c, y_p, out_b, out_c, out_p,
    MAPS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """ReLU of the features and of the upsampled maps, side by side; zeros after the maps."""
    image = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = p < height * width
    y += image * y_b
    out += image * out_b
    for first in range(0, channels, BLOCK_C):
        c = first + tl.arange(0, BLOCK_C)
        mask = inside[:, None] & (c < channels)[None, :]
        features = tl.load(y + p[:, None] * y_p + c[None, :] * y_c, mask=mask, other=0.0)
        shift = tl.load(bias + c, mask=c < channels, other=0.0).to(tl.float32)
        features = features.to(tl.float32) + shift[None, :]
        features = tl.where(features < 0, 0.0, features)  # as PyTorch's ReLU, NaN stays
        tl.store(out + p[:, None] * out_p + c[None, :] * out_c, features, mask=mask)
    # bilinear, align_corners=False
    row = tl.maximum((p // width + 0.5) * (size / height) - 0.5, 0.0)
    col = tl.maximum((p % width + 0.5) * (size / width) - 0.5, 0.0)
    top, left = row.to(tl.int32), col.to(tl.int32)
    top, left = tl.minimum(top, size - 1), tl.minimum(left, size - 1)
    low, right = tl.minimum(top + 1, size - 1), tl.minimum(left + 1, size - 1)
    row, col = (row - top)[:, None], (col - left)[:, None]
    e = tl.arange(0, BLOCK_E)
    real = inside[:, None] & (e < MAPS)[None, :]
    maps += (image * MAPS + e[None, :]) * (size * size)
    top, low = (top * size)[:, None], (low * size)[:, None]
    left, right = left[:, None], right[:, None]
    upper = tl.load(maps + top + left, mask=real, other=0.0) * (1 - col)
    upper += tl.load(maps + top + right, mask=real, other=0.0) * col
    lower = tl.load(maps + low + left, mask=real, other=0.0) * (1 - col)
    lower += tl.load(maps + low + right, mask=real, other=0.0) * col
    value = upper * (1 - row) + lower * row
    value = tl.where(value < 0, 0.0, value)
    tl.store(
        out + p[:, None] * out_p + (channels + e)[None, :] * out_c,
        value,
        mask=inside[:, None] & (e < extra)[None, :],
    )


def pool(x: Tensor, weight: Tensor, bias: Tensor, size: int) -> Tensor:
    """1x1 convolution with ReLU, averaged over a grid.

    Args:
        x: (B, C, H, W), any strides.
        weight: (R, C, 1, 1), R a power of two and 16 or more.
        bias: (R,).
        size: Side of the grid in cells.

    Returns:
        (B, R, size * size), float32.
    """
    batch, channels, height, width = x.shape
    pooled = x.new_empty(batch, len(weight), size * size, dtype=torch.float32)
    # a whole row of cells shares its reads; with few images there are too few rows to go round
    group = size if batch * size >= 256 else 1
    pixels = (-(-height // size) + 1) * (-(-width // size) + 1) * group
    _pool_kernel[(batch * size * -(-size // group),)](
        x, weight, bias, pooled, channels, height, width, size, *x.stride(),
        REDUCED=len(weight), GROUP=group, BLOCK_G=_block(group),
        BLOCK_P=_block(pixels, 64), BLOCK_C=_block(channels, 64),
        # tf32 holds bfloat16 and float16 exactly
        PRECISION=_float32_precision() if x.dtype is torch.float32 else 'tf32',
    )  # fmt: skip
    return pooled


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
    block_n = _block(columns, 32)
    _mix_kernel[(-(-cells // 16), -(-columns // block_n))](
        pooled, weight, scale, shift, maps, columns, cells,
        REDUCED=reduced, MAPS=num_maps, TAPS=weight.shape[1] // cells,
        BLOCK_O=16, BLOCK_C=_block(cells, 128), BLOCK_N=block_n,
        PRECISION=_float32_precision(),
    )  # fmt: skip
    return maps


def join(y: Tensor, bias: Tensor, maps: Tensor, size: int, extra: int) -> Tensor:
    """ReLU of features and upsampled maps, concatenated; the features' bias is added first.

    Args:
        y: Features, (B, C, H, W), contiguous or channels last.
        bias: What their convolution adds, (C,).
        maps: (B, num_maps, size * size), float32.
        size: Side of the grid in cells.
        extra: Channels after the features: the maps', the others zero.

    Returns:
        (B, C + extra, H, W) of y's type and layout.
    """
    batch, channels, height, width = y.shape
    nhwc = y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
    memory_format = torch.channels_last if nhwc else torch.contiguous_format
    out = torch.empty(
        (batch, channels + extra, height, width),
        dtype=y.dtype, device=y.device, memory_format=memory_format,
    )  # fmt: skip
    block_p, block_c = (32, 64) if nhwc else (256, 8)
    _join_kernel[(batch, -(-height * width // block_p))](
        y, bias, maps, out, channels, extra, height, width, size,
        y.stride(0), y.stride(1), y.stride(3), out.stride(0), out.stride(1), out.stride(3),
        MAPS=maps.shape[1], BLOCK_P=block_p, BLOCK_C=_block(channels, block_c, 1),
        BLOCK_E=_block(extra, least=1),
    )  # fmt: skip
    return out


def concatenate(
    y: Tensor, y_bias: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mixing: Tensor,
    scale: Tensor, shift: Tensor, size: int, num_maps: int, extra: int,
) -> Tensor:  # fmt: skip
    """All three: ReLU of features y and of the maps made of x, side by side.

    The arguments are those of :func:`join`, :func:`pool` and :func:`mix`, whose weight is mixing.
    """
    maps = mix(pool(x, weight, bias, size), mixing, scale, shift, num_maps)
    return join(y, y_bias, maps, size, extra)


def _float32_precision() -> str:
    """Three tf32 products hold all but float32's last bits; not where convolutions keep those."""
    return 'tf32x3' if torch.backends.cudnn.allow_tf32 else 'ieee'


def _block(number: int, most: int = 1 << 20, least: int = 16) -> int:
    """The power of two that holds number, within bounds."""
    return max(least, min(most, triton.next_power_of_2(number)))
