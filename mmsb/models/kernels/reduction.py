"""Triton kernels for conv1's norm and ReLU with spatial bias's 1x1 reduction in one pass.

u = relu(scale x + shift) goes to conv2. r0 = u W' are the R reduced maps before their norm, stored
as planes, (B, R, H, W). In the backward pass the whole gradient of u is g = du + dr0 W: it is
computed where it is needed and never stored. R is small: sums over it are a few multiplications
per element, which take less time than products of matrices so narrow.
"""

import triton
import triton.language as tl

from .norms import dot, relu


@triton.jit
def planes_at(p, area, R: tl.constexpr):
    """Return the offsets of pixels p of all images in plane 0 of (B, R, H, W), area pixels each."""
    p = p.to(tl.int32)  # division of longer integers is slow
    return p // area * (R * area) + p % area


@triton.jit(do_not_specialize=['pixels', 'area'])
def norm_reduce_kernel(
    x, stats, weight, u, r0, pixels, area,
    C: tl.constexpr, R: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Compute u and r0. BLOCK_C holds all channels."""
    p = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    c, inside = tl.arange(0, BLOCK_C), p < pixels
    at, mask = p[:, None] * C + c[None, :], inside[:, None] & (c < C)[None, :]
    scale = tl.load(stats + 2 * C + c, mask=c < C, other=0.0)
    shift = tl.load(stats + 3 * C + c, mask=c < C, other=0.0)
    v = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    v = relu(v * scale[None, :] + shift[None, :]).to(u.dtype.element_ty)
    tl.store(u + at, v, mask=mask)
    v, plane = v.to(tl.float32), planes_at(p, area, R)
    for r in tl.static_range(R):
        w = tl.load(weight + r * C + c, mask=c < C, other=0.0).to(r0.dtype.element_ty)
        q = tl.sum(v * w.to(tl.float32)[None, :], axis=1)
        tl.store(r0 + plane + r * area, q, mask=inside)


@triton.jit(do_not_specialize=['pixels', 'area'])
def reduce_kernel(
    u, weight, r0, pixels, area,
    C: tl.constexpr, R: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute r0 alone, for inference; without u to write, a product of matrices is faster."""
    p = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    r, ok = tl.arange(0, BLOCK_R), p < pixels
    q = tl.zeros([BLOCK_M, BLOCK_R], tl.float32)
    for start in tl.static_range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        real = (c < C)[None, :]
        v = tl.load(u + p[:, None] * C + c[None, :], mask=ok[:, None] & real, other=0.0)
        mask = (r < R)[:, None] & real
        w = tl.load(weight + r[:, None] * C + c[None, :], mask=mask, other=0.0)
        q = dot(v, tl.trans(w).to(v.dtype), q, PRECISION)
    at = planes_at(p, area, R)[None, :] + r[:, None] * area
    tl.store(r0 + at, tl.trans(q), mask=(r < R)[:, None] & ok[None, :])


@triton.jit(do_not_specialize=['pixels', 'area', 'chunk'])
def plane_moments_kernel(
    r0, part, pixels, area, chunk, R: tl.constexpr, BLOCK_M: tl.constexpr
):  # fmt: skip
    """Compute part (programs, 2, R): mean and sum of squared deviations of chunk pixels of r0."""
    first, r = tl.program_id(0).to(tl.int64) * chunk, tl.program_id(1)
    count = tl.minimum(pixels - first, chunk).to(tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    for start in range(0, chunk, BLOCK_M):
        p = first + start + tl.arange(0, BLOCK_M)
        at = planes_at(p, area, R) + r * area
        total += tl.load(r0 + at, mask=p < pixels, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=0) / count
    total = tl.zeros([BLOCK_M], tl.float32)
    for start in range(0, chunk, BLOCK_M):
        p = first + start + tl.arange(0, BLOCK_M)
        at, mask = planes_at(p, area, R) + r * area, p < pixels
        apart = tl.load(r0 + at, mask=mask, other=0.0).to(tl.float32) - mean
        total += tl.where(mask, apart * apart, 0.0)
    at = tl.program_id(0) * (2 * R) + r
    tl.store(part + at, mean)
    tl.store(part + at + R, tl.sum(total, axis=0))


@triton.jit
def whole_gradient(
    du, dr0, weight, at, p, c, inside, area, C: tl.constexpr, R: tl.constexpr
):  # fmt: skip
    """Return g = du + dr0 W, (pixels, channels)."""
    g = tl.load(du + at, mask=inside[:, None], other=0.0).to(tl.float32)
    plane = planes_at(p, area, R)
    for r in tl.static_range(R):
        w = tl.load(weight + r * C + c).to(dr0.dtype.element_ty).to(tl.float32)
        q = tl.load(dr0 + plane + r * area, mask=inside, other=0.0).to(tl.float32)
        g += q[:, None] * w[None, :]
    return g


@triton.jit(do_not_specialize=['pixels', 'area', 'chunk'])
def norm_reduce_backward_sums_kernel(
    du, x, dr0, stats, weight, part, dweight, pixels, area, chunk,
    C: tl.constexpr, R: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute part (programs, 2, C) for the norm, and dweight (programs, R, C) = dr0' u.

    ROWS divides BLOCK_M: the rows of a tile that different threads hold. Sums over the other rows
    stay within a thread.
    """
    first = tl.program_id(0).to(tl.int64) * chunk
    row, r = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_R)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    mean = tl.load(stats + c)
    scale, shift = tl.load(stats + 2 * C + c), tl.load(stats + 3 * C + c)
    sz = tl.zeros([ROWS, BLOCK_C], tl.float32)
    sx = tl.zeros([ROWS, BLOCK_C], tl.float32)
    dw = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    for start in range(0, chunk, BLOCK_M):
        p = first + start + row
        inside = p < pixels
        ok, at = inside[:, None], p[:, None] * C + c[None, :]
        v = tl.load(x + at, mask=ok, other=0.0).to(tl.float32)
        g = whole_gradient(du, dr0, weight, at, p, c, inside, area, C, R)
        z = v * scale[None, :] + shift[None, :]
        g = tl.where((z > 0) & ok, g, 0.0)
        sz += tl.sum(tl.reshape(g, (BLOCK_M // ROWS, ROWS, BLOCK_C)), axis=0)
        g *= v - mean[None, :]
        sx += tl.sum(tl.reshape(g, (BLOCK_M // ROWS, ROWS, BLOCK_C)), axis=0)
        plane = planes_at(p, area, R)[None, :] + r[:, None] * area
        q = tl.load(dr0 + plane, mask=inside[None, :] & (r < R)[:, None], other=0.0)
        dw = dot(q, tl.where(ok, relu(z), 0.0).to(q.dtype), dw, PRECISION)
    at = tl.program_id(0) * (2 * C) + c
    tl.store(part + at, tl.sum(sz, axis=0))
    tl.store(part + at + C, tl.sum(sx, axis=0))
    at = (tl.program_id(0) * R + r[:, None]) * C + c[None, :]
    tl.store(dweight + at, dw, mask=(r < R)[:, None])


@triton.jit(do_not_specialize=['pixels', 'area'])
def norm_reduce_backward_kernel(
    du, x, dr0, stats, weight, sums, dx, pixels, area,
    C: tl.constexpr, R: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Compute dx from du + dr0 W."""
    p = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = p < pixels
    at = p[:, None] * C + c[None, :]
    mean = tl.load(stats + c)
    scale, shift = tl.load(stats + 2 * C + c), tl.load(stats + 3 * C + c)
    v = tl.load(x + at, mask=inside[:, None], other=0.0).to(tl.float32)
    g = whole_gradient(du, dr0, weight, at, p, c, inside, area, C, R)
    g = tl.where(v * scale[None, :] + shift[None, :] > 0, g, 0.0)
    v = (
        scale[None, :] * g
        - tl.load(sums + c)[None, :]
        - tl.load(sums + C + c)[None, :] * (v - mean[None, :])
    )
    tl.store(dx + at, v, mask=inside[:, None])
