"""Triton kernels for conv1's norm and ReLU with spatial bias's 1x1 reduction in one pass.

u = relu(scale x + shift) goes to conv2. r0 = u W' are the R reduced maps before their norm, stored
as planes, (B, R, H, W). In the backward pass the whole gradient of u is g = du + dr0 W: it is
computed where it is needed and never stored.
"""

import triton
import triton.language as tl

from .norms import add_to_moments, dot, merge_rows, relu, values_of_rows


@triton.jit
def planes_at(p, r, area, R: tl.constexpr):
    """Return the offsets (r, p) of pixels p of all images in (B, R, H, W) planes of area pixels."""
    p = p.to(tl.int32)  # division of longer integers is slow
    return (p // area * R)[None, :] * area + r[:, None] * area + (p % area)[None, :]


@triton.jit(do_not_specialize=['pixels', 'area', 'chunk'])
def norm_reduce_kernel(
    x, stats, weight, u, r0, part, pixels, area, chunk,
    C: tl.constexpr, R: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute u, r0 and part (programs, 2, R), r0's moments. C is a multiple of BLOCK_C."""
    first = tl.program_id(0).to(tl.int64) * chunk
    row, r = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_R)
    mean = tl.zeros([BLOCK_M, BLOCK_R], tl.float32)
    m2 = tl.zeros([BLOCK_M, BLOCK_R], tl.float32)
    for step in tl.range(0, chunk // BLOCK_M, num_stages=1):  # more would fill shared memory
        p = first + step * BLOCK_M + row
        ok = p < pixels
        q = tl.zeros([BLOCK_M, BLOCK_R], tl.float32)
        for start in tl.static_range(0, C, BLOCK_C):
            c = start + tl.arange(0, BLOCK_C)
            at = p[:, None] * C + c[None, :]
            scale, shift = tl.load(stats + 2 * C + c), tl.load(stats + 3 * C + c)
            v = tl.load(x + at, mask=ok[:, None], other=0.0).to(tl.float32)
            v = relu(v * scale[None, :] + shift[None, :]).to(u.dtype.element_ty)
            tl.store(u + at, v, mask=ok[:, None])
            w = tl.load(weight + r[None, :] * C + c[:, None], mask=(r < R)[None, :], other=0.0)
            q = dot(v, w.to(v.dtype), q, PRECISION)
        q = q.to(r0.dtype.element_ty)
        mask = ok[:, None] & (r < R)[None, :]
        tl.store(r0 + planes_at(p, r, area, R), tl.trans(q), mask=tl.trans(mask))
        mean, m2 = add_to_moments(mean, m2, q.to(tl.float32), mask, step + 1.0)
    mean, m2 = merge_rows(mean, m2, values_of_rows(first, pixels, row, chunk, BLOCK_M))
    at = tl.program_id(0) * (2 * R) + r
    tl.store(part + at, mean, mask=r < R)
    tl.store(part + at + R, m2, mask=r < R)


@triton.jit(do_not_specialize=['pixels', 'area'])
def reduce_kernel(
    u, weight, r0, pixels, area,
    C: tl.constexpr, R: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute r0 alone, for inference."""
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
    mask = (r < R)[:, None] & ok[None, :]
    tl.store(r0 + planes_at(p, r, area, R), tl.trans(q), mask=mask)


@triton.jit(do_not_specialize=['pixels', 'area', 'chunk'])
def norm_reduce_backward_sums_kernel(
    du, x, dr0, stats, weight, part, dweight, pixels, area, chunk,
    C: tl.constexpr, R: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute part (programs, 2, C) for the norm, and dweight (programs, R, C) = dr0' u."""
    first = tl.program_id(0).to(tl.int64) * chunk
    row, r = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_R)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    mean = tl.load(stats + c)
    scale, shift = tl.load(stats + 2 * C + c), tl.load(stats + 3 * C + c)
    w = tl.load(weight + r[:, None] * C + c[None, :], mask=(r < R)[:, None], other=0.0)
    w = w.to(dr0.dtype.element_ty)
    sz = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    sx = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    dw = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    for start in range(0, chunk, BLOCK_M):
        p = first + start + row
        ok = (p < pixels)[:, None]
        at = p[:, None] * C + c[None, :]
        v = tl.load(x + at, mask=ok, other=0.0).to(tl.float32)
        g = tl.load(du + at, mask=ok, other=0.0).to(tl.float32)
        mask = (p < pixels)[None, :] & (r < R)[:, None]
        q = tl.load(dr0 + planes_at(p, r, area, R), mask=mask, other=0.0)
        g = dot(tl.trans(q), w, g, PRECISION)
        z = v * scale[None, :] + shift[None, :]
        g = tl.where((z > 0) & ok, g, 0.0)
        sz += g
        sx += g * (v - mean[None, :])
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
    BLOCK_R: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute dx from du + dr0 W."""
    p = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    c, r = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_R)
    ok = (p < pixels)[:, None]
    at = p[:, None] * C + c[None, :]
    mean = tl.load(stats + c)
    scale, shift = tl.load(stats + 2 * C + c), tl.load(stats + 3 * C + c)
    w = tl.load(weight + r[:, None] * C + c[None, :], mask=(r < R)[:, None], other=0.0)
    v = tl.load(x + at, mask=ok, other=0.0).to(tl.float32)
    g = tl.load(du + at, mask=ok, other=0.0).to(tl.float32)
    mask = (p < pixels)[None, :] & (r < R)[:, None]
    q = tl.load(dr0 + planes_at(p, r, area, R), mask=mask, other=0.0)
    g = dot(tl.trans(q), w.to(q.dtype), g, PRECISION)
    g = tl.where(v * scale[None, :] + shift[None, :] > 0, g, 0.0)
    v = (
        scale[None, :] * g
        - tl.load(sums + c)[None, :]
        - tl.load(sums + C + c)[None, :] * (v - mean[None, :])
    )
    tl.store(dx + at, v, mask=ok)
