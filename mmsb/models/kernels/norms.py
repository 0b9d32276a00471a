"""Triton kernels for batch norm with what follows it: ReLU, or the shortcut's sum and ReLU.

Tensors are channels last, seen as (pixels, C). Statistics take two steps and no atomics, so that
every run gives the same result: each program writes a partial result for its pixels, and a second
kernel combines them. ``stats`` is (4, C), float32: mean, 1 / std, scale = gamma / std, shift =
beta - mean scale.

With z = scale x + shift and dz, the gradient of z where ReLU passes it, the backward pass is
    dbeta = sum dz,  dgamma = sum dz (x - mean) / std,
    dx = scale dz - scale dbeta / N - scale / std dgamma / N (x - mean),
with N infinite where the statistics are the running ones.
"""

import triton
import triton.language as tl

from .launching import INTERPRETED as _INTERPRETED

# numpy, which the interpreter computes with, has no bfloat16
INTERPRETED = tl.constexpr(_INTERPRETED)


@triton.jit
def dot(a, b, total, PRECISION: tl.constexpr):
    """total + a b."""
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def relu(x):
    """As PyTorch's, NaN stays."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def add_to_moments(mean, m2, v, mask, number):
    """Add the number-th value (from 1) to each element's moments where mask is set (Welford)."""
    delta = tl.where(mask, v - mean, 0.0)
    mean += delta / number
    m2 += delta * (v - mean)
    return mean, m2


@triton.jit
def merge_rows(mean, m2, count):
    """Merge the moments of a tile's rows, each over count (rows, 1) values (Chan's formula)."""
    total = tl.maximum(tl.sum(count, axis=0), 1.0)
    together = tl.sum(mean * count, axis=0) / total
    apart = mean - together[None, :]
    return together, tl.sum(m2 + apart * apart * count, axis=0)


@triton.jit
def values_of_rows(first, pixels, row, chunk, BLOCK_M: tl.constexpr):
    """Count, per row of a tile, its pixels among all tiles of a chunk; (rows, 1), float32."""
    count = (pixels - first - row + BLOCK_M - 1) // BLOCK_M
    return tl.minimum(tl.maximum(count, 0), chunk // BLOCK_M).to(tl.float32)[:, None]


@triton.jit(do_not_specialize=['pixels', 'chunk'])
def moments_kernel(
    x, part, pixels, chunk,
    C: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Compute part (programs, 2, C): mean and sum of squared deviations of chunk pixels."""
    first = tl.program_id(0).to(tl.int64) * chunk
    row, c = tl.arange(0, BLOCK_M), tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    mean = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    m2 = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    for step in range(0, chunk // BLOCK_M):
        p = first + step * BLOCK_M + row
        mask = (p < pixels)[:, None] & (c < C)[None, :]
        v = tl.load(x + p[:, None] * C + c[None, :], mask=mask, other=0.0).to(tl.float32)
        mean, m2 = add_to_moments(mean, m2, v, mask, step + 1.0)
    count = values_of_rows(first, pixels, row, chunk, BLOCK_M)
    mean, m2 = merge_rows(mean, m2, count)
    at = tl.program_id(0) * (2 * C) + c
    tl.store(part + at, mean, mask=c < C)
    tl.store(part + at + C, m2, mask=c < C)


@triton.jit(do_not_specialize=['pixels', 'chunk', 'programs', 'momentum', 'eps'])
def combine_kernel(
    part, gamma, beta, running_mean, running_var, batches, stats,
    pixels, chunk, programs, momentum, eps,
    C: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
    HELD: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """Combine the programs' moments to stats, and move the running statistics.

    Each program had chunk pixels, the last one the rest. With HELD, stats are the running ones.
    With COUNT, the number of batches seen goes up by one.
    """
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    ok = c < C
    old_mean = tl.load(running_mean + c, mask=ok, other=0.0)
    old_var = tl.load(running_var + c, mask=ok, other=0.0)
    if HELD:
        mean, var = old_mean, old_var
    else:
        total = pixels.to(tl.float32)
        mean = tl.zeros([BLOCK_C], tl.float32)
        for start in range(0, programs, BLOCK_P):
            i = start + tl.arange(0, BLOCK_P)
            n = tl.minimum(tl.maximum(pixels - i * chunk, 0), chunk).to(tl.float32)
            at = i[:, None] * (2 * C) + c[None, :]
            m = tl.load(part + at, mask=(i < programs)[:, None] & ok[None, :], other=0.0)
            mean += tl.sum(m * (n / total)[:, None], axis=0)
        m2 = tl.zeros([BLOCK_C], tl.float32)
        for start in range(0, programs, BLOCK_P):
            i = start + tl.arange(0, BLOCK_P)
            n = tl.minimum(tl.maximum(pixels - i * chunk, 0), chunk).to(tl.float32)
            at = i[:, None] * (2 * C) + c[None, :]
            mask = (i < programs)[:, None] & ok[None, :]
            m = tl.load(part + at, mask=mask, other=0.0)
            s = tl.load(part + at + C, mask=mask, other=0.0)
            d = tl.where(mask, m - mean[None, :], 0.0)
            m2 += tl.sum(s + d * d * n[:, None], axis=0)
        var = m2 / total
        unbiased = m2 / tl.maximum(total - 1, 1.0)
        tl.store(running_mean + c, old_mean + momentum * (mean - old_mean), mask=ok)
        tl.store(running_var + c, old_var + momentum * (unbiased - old_var), mask=ok)
        if COUNT:  # noqa: SIM102 (a constant, unlike what follows)
            if tl.program_id(0) == 0:
                tl.store(batches, tl.load(batches) + 1)
    inverse = 1 / tl.sqrt_rn(var + eps)
    scale = tl.load(gamma + c, mask=ok, other=0.0) * inverse
    tl.store(stats + c, mean, mask=ok)
    tl.store(stats + C + c, inverse, mask=ok)
    tl.store(stats + 2 * C + c, scale, mask=ok)
    tl.store(stats + 3 * C + c, tl.load(beta + c, mask=ok, other=0.0) - mean * scale, mask=ok)


@triton.jit(do_not_specialize=['programs', 'total'])
def combine_gradients_kernel(
    part, stats, sums, dgamma, dbeta, weight_part, dweight, programs, total,
    C: tl.constexpr, ROWS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sum to dbeta, dgamma and sums (2, C): scale dbeta / N and scale / std dgamma / N.

    Programs from 1 on along the second axis sum weight_part (programs, ROWS, C) to dweight.
    """
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    ok = c < C
    sz = tl.zeros([BLOCK_C], tl.float32)
    row = tl.program_id(1) - 1
    if row >= 0:
        for start in range(0, programs, BLOCK_P):
            i = start + tl.arange(0, BLOCK_P)
            at = (i[:, None] * ROWS + row) * C + c[None, :]
            mask = (i < programs)[:, None] & ok[None, :]
            sz += tl.sum(tl.load(weight_part + at, mask=mask, other=0.0), axis=0)
        tl.store(dweight + row * C + c, sz, mask=ok)
    else:
        sx = tl.zeros([BLOCK_C], tl.float32)
        for start in range(0, programs, BLOCK_P):
            i = start + tl.arange(0, BLOCK_P)
            at = i[:, None] * (2 * C) + c[None, :]
            mask = (i < programs)[:, None] & ok[None, :]
            sz += tl.sum(tl.load(part + at, mask=mask, other=0.0), axis=0)
            sx += tl.sum(tl.load(part + at + C, mask=mask, other=0.0), axis=0)
        inverse = tl.load(stats + C + c, mask=ok, other=0.0)
        scale = tl.load(stats + 2 * C + c, mask=ok, other=0.0)
        tl.store(dbeta + c, sz, mask=ok)
        tl.store(dgamma + c, sx * inverse, mask=ok)
        tl.store(sums + c, scale * sz / total, mask=ok)
        tl.store(sums + C + c, scale * inverse * inverse * sx / total, mask=ok)


@triton.jit(do_not_specialize=['pixels'])
def norm_kernel(
    x, shortcut, stats, out, pixels,
    C: tl.constexpr, ADD: tl.constexpr, RELU: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Compute scale x + shift, with ADD the sum with the shortcut, with RELU its ReLU."""
    p = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    at, mask = p[:, None] * C + c[None, :], (p < pixels)[:, None] & (c < C)[None, :]
    scale = tl.load(stats + 2 * C + c, mask=c < C, other=0.0)
    shift = tl.load(stats + 3 * C + c, mask=c < C, other=0.0)
    v = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) * scale[None, :] + shift[None, :]
    if ADD:
        v += tl.load(shortcut + at, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        v = relu(v)
    tl.store(out + at, v, mask=mask)


@triton.jit
def norm_gradient(
    dout, out, x_value, at, wide_at, mask, scale, shift, ADD: tl.constexpr, RELU: tl.constexpr
):
    """Return dz: dout where ReLU passed z, which with a shortcut only out tells, else x."""
    g = tl.load(dout + wide_at, mask=mask, other=0.0).to(tl.float32)
    if ADD and RELU:
        g = tl.where(tl.load(out + at, mask=mask, other=0.0).to(tl.float32) > 0, g, 0.0)
    elif RELU:
        g = tl.where(x_value * scale[None, :] + shift[None, :] > 0, g, 0.0)
    return g


@triton.jit(do_not_specialize=['pixels', 'chunk'])
def norm_backward_sums_kernel(
    dout, out, x, stats, part, pixels, chunk,
    C: tl.constexpr, WIDE: tl.constexpr, ADD: tl.constexpr,
    RELU: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Compute part (programs, 2, C): sums of dz and dz (x - mean). dout has WIDE channels."""
    first = tl.program_id(0).to(tl.int64) * chunk
    row, c = tl.arange(0, BLOCK_M), tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    ok = c < C
    mean = tl.load(stats + c, mask=ok, other=0.0)
    scale = tl.load(stats + 2 * C + c, mask=ok, other=0.0)
    shift = tl.load(stats + 3 * C + c, mask=ok, other=0.0)
    sz = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    sx = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    for start in range(0, chunk, BLOCK_M):
        p = first + start + row
        at, mask = p[:, None] * C + c[None, :], (p < pixels)[:, None] & ok[None, :]
        v = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        wide_at = p[:, None] * WIDE + c[None, :]
        g = norm_gradient(dout, out, v, at, wide_at, mask, scale, shift, ADD, RELU)
        sz += g
        sx += g * (v - mean[None, :])
    at = tl.program_id(0) * (2 * C) + c
    tl.store(part + at, tl.sum(sz, axis=0), mask=ok)
    tl.store(part + at + C, tl.sum(sx, axis=0), mask=ok)


@triton.jit(do_not_specialize=['pixels'])
def norm_backward_kernel(
    dout, out, x, stats, sums, dx, dshortcut, pixels,
    C: tl.constexpr, WIDE: tl.constexpr, ADD: tl.constexpr, RELU: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Compute dx, and with ADD the gradient of the shortcut, dz."""
    p = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    ok = c < C
    at, mask = p[:, None] * C + c[None, :], (p < pixels)[:, None] & ok[None, :]
    mean = tl.load(stats + c, mask=ok, other=0.0)
    scale = tl.load(stats + 2 * C + c, mask=ok, other=0.0)
    shift = tl.load(stats + 3 * C + c, mask=ok, other=0.0)
    by_beta = tl.load(sums + c, mask=ok, other=0.0)
    by_gamma = tl.load(sums + C + c, mask=ok, other=0.0)
    v = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    wide_at = p[:, None] * WIDE + c[None, :]
    g = norm_gradient(dout, out, v, at, wide_at, mask, scale, shift, ADD, RELU)
    if ADD:
        tl.store(dshortcut + at, g, mask=mask)
    v = scale[None, :] * g - by_beta[None, :] - by_gamma[None, :] * (v - mean[None, :])
    tl.store(dx + at, v, mask=mask)
