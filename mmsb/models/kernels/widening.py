"""Triton kernel for conv3's input: conv2's output beside the maps, both normalised, with ReLU."""

import triton
import triton.language as tl

from .norms import relu


@triton.jit
def _source(p, pixels, size):
    """Return the cells before and after a pixel, and its place between them (bilinear)."""
    at = tl.maximum((p + 0.5) * (size / pixels) - 0.5, 0.0)
    low = tl.minimum(at.to(tl.int32), size - 1)
    return low, tl.minimum(low + 1, size - 1), at - low


@triton.jit(do_not_specialize=['pixels', 'height', 'width', 'size'])
def widen_kernel(
    y, stats, maps, map_stats, buf, pixels, height, width, size,
    C: tl.constexpr, WIDE: tl.constexpr, MAPS: tl.constexpr, SCALED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """Write buf (pixels, WIDE): relu(scale y + shift), relu(up(scale M + shift)), then zeros.

    y (pixels, C), maps (B, MAPS, size * size); WIDE - C is at most BLOCK_E. Without SCALED the
    norms have been folded: stats is the features' shift alone, map_stats is not read.
    """
    p = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    ok = p < pixels
    for start in tl.static_range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        mask = ok[:, None] & (c < C)[None, :]
        v = tl.load(y + p[:, None] * C + c[None, :], mask=mask, other=0.0).to(tl.float32)
        if SCALED:
            v *= tl.load(stats + 2 * C + c, mask=c < C, other=0.0)[None, :]
            v += tl.load(stats + 3 * C + c, mask=c < C, other=0.0)[None, :]
        else:
            v += tl.load(stats + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
        tl.store(buf + p[:, None] * WIDE + c[None, :], relu(v), mask=mask)
    e = tl.arange(0, BLOCK_E)
    real = ok[:, None] & (e < MAPS)[None, :]
    number = p.to(tl.int32)  # division of longer integers is slow
    image, inner = number // (height * width), number % (height * width)
    top, low, down = _source(inner // width, height, size)
    left, right, across = _source(inner % width, width, size)
    down, across = down[:, None], across[:, None]
    m = maps + (image[:, None] * MAPS + e[None, :]) * (size * size)
    upper = tl.load(m + (top * size + left)[:, None], mask=real, other=0.0) * (1 - across)
    upper += tl.load(m + (top * size + right)[:, None], mask=real, other=0.0) * across
    lower = tl.load(m + (low * size + left)[:, None], mask=real, other=0.0) * (1 - across)
    lower += tl.load(m + (low * size + right)[:, None], mask=real, other=0.0) * across
    v = upper * (1 - down) + lower * down
    if SCALED:
        v *= tl.load(map_stats + 2 * MAPS + e, mask=e < MAPS, other=0.0)[None, :]
        v += tl.load(map_stats + 3 * MAPS + e, mask=e < MAPS, other=0.0)[None, :]
    mask = ok[:, None] & (e < WIDE - C)[None, :]
    tl.store(buf + p[:, None] * WIDE + C + e[None, :], relu(v), mask=mask)
