"""Triton kernels that pool pixels to spatial bias's grid of S x S cells, and work on the grid.

Pooling and interpolation are linear and separable: P = Ah r Aw' and up(M) = Uh M Uw'. Tables have
one row per cell, (S, H) or (S, W). The rows of U sum to one, so upsampled maps are normalised on
the grid: with c = U'1 and G = U'U, which is tridiagonal along either side,
    mean = <c, M> / N,  var = (M - mean)' G (M - mean) / N,  norm(up(M)) = up(scale M + shift),
and with D = U' dz, the gradient of the upsampled maps' norm brought to the grid,
    dbeta = sum D,  dgamma = <D, M - mean> / std,
    dM = scale D - scale dbeta / N c - scale / std dgamma / N G (M - mean).
"""

import triton
import triton.language as tl

from .norms import relu


@triton.jit
def _table(table, cell, pixel, size, pixels):
    """Load entries (cell, pixel) of a table with one row per cell, zero outside it."""
    mask = (cell < size) & (pixel < pixels)
    return tl.load(table + cell * pixels + pixel, mask=mask, other=0.0)


@triton.jit
def _part(width, rows, BLOCK_W: tl.constexpr):
    """Return the first column and row of the program's part of a plane: axis 1 of the grid."""
    across = (width + BLOCK_W - 1) // BLOCK_W
    return tl.program_id(1) % across * BLOCK_W, tl.program_id(1) // across * rows


@triton.jit(do_not_specialize=['height', 'width', 'size', 'rows'])
def pool_kernel(
    r0, stats, pooled, pool_h, pool_w, height, width, size, rows,
    R: tl.constexpr, SCALED: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
    BLOCK_S: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Average relu(scale r0 + shift) over the cells; a program takes a part of a plane.

    pooled (parts, B, R, S * S): each part has its own sum. A part is BLOCK_W columns of rows, a
    multiple of BLOCK_H. Without SCALED, stats is the shift alone, from a folded norm.
    """
    plane = tl.program_id(0).to(tl.int64)
    left, first = _part(width, rows, BLOCK_W)
    s, x = tl.arange(0, BLOCK_S), left + tl.arange(0, BLOCK_W)
    if SCALED:
        scale = tl.load(stats + 2 * R + plane % R)
        shift = tl.load(stats + 3 * R + plane % R)
    else:
        scale, shift = 1.0, tl.load(stats + plane % R).to(tl.float32)
    total = tl.zeros([BLOCK_S, BLOCK_W], tl.float32)
    for top in range(first, tl.minimum(first + rows, height), BLOCK_H):
        y = top + tl.arange(0, BLOCK_H)
        mask = (y < height)[:, None] & (x < width)[None, :]
        at = (plane * height + y[:, None]) * width + x[None, :]
        v = relu(tl.load(r0 + at, mask=mask, other=0.0).to(tl.float32) * scale + shift)
        a = _table(pool_h, s[:, None], y[None, :], size, height)
        total = tl.dot(a, tl.where(mask, v, 0.0), total, input_precision=PRECISION)
    b = tl.trans(_table(pool_w, s[:, None], x[None, :], size, width))
    zeros = tl.zeros([BLOCK_S, BLOCK_S], tl.float32)
    cells = tl.dot(total, b, zeros, input_precision=PRECISION)
    at = (tl.program_id(1) * tl.num_programs(0) + plane) * size * size
    at = at + s[:, None] * size + s[None, :]
    tl.store(pooled + at, cells, mask=(s < size)[:, None] & (s < size)[None, :])


@triton.jit(do_not_specialize=['height', 'width', 'size', 'rows'])
def pool_backward_kernel(
    r0, stats, dpooled, pool_h, pool_w, sums, part, dr0, height, width, size, rows,
    R: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_S: tl.constexpr,
    APPLY: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """With APPLY compute dr0, the gradient of the planes, part by part as in pooling.

    Without it compute part (B * parts, 2, R), the sums for the backward pass of their norm.
    """
    plane = tl.program_id(0).to(tl.int64)
    image, r = plane // R, plane % R
    left, first = _part(width, rows, BLOCK_W)
    s, x = tl.arange(0, BLOCK_S), left + tl.arange(0, BLOCK_W)
    mean = tl.load(stats + r)
    scale, shift = tl.load(stats + 2 * R + r), tl.load(stats + 3 * R + r)
    by_beta, by_gamma = 0.0, 0.0
    if APPLY:
        by_beta, by_gamma = tl.load(sums + r), tl.load(sums + R + r)
    cell = plane * size * size + s[:, None] * size + s[None, :]
    cells = tl.load(dpooled + cell, mask=(s < size)[:, None] & (s < size)[None, :], other=0.0)
    b = _table(pool_w, s[:, None], x[None, :], size, width)
    columns = tl.zeros([BLOCK_S, BLOCK_W], tl.float32)
    columns = tl.dot(cells, b, columns, input_precision=PRECISION)
    sz = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
    sx = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
    for top in range(first, tl.minimum(first + rows, height), BLOCK_H):
        y = top + tl.arange(0, BLOCK_H)
        mask = (y < height)[:, None] & (x < width)[None, :]
        at = (plane * height + y[:, None]) * width + x[None, :]
        v = tl.load(r0 + at, mask=mask, other=0.0).to(tl.float32)
        a = tl.trans(_table(pool_h, s[:, None], y[None, :], size, height))
        g = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
        g = tl.dot(a, columns, g, input_precision=PRECISION)
        g = tl.where((v * scale + shift > 0) & mask, g, 0.0)
        if APPLY:
            tl.store(dr0 + at, scale * g - by_beta - by_gamma * (v - mean), mask=mask)
        else:
            sz += g
            sx += g * (v - mean)
    if not APPLY:
        at = (image * tl.num_programs(1) + tl.program_id(1)) * (2 * R) + r
        tl.store(part + at, tl.sum(sz))
        tl.store(part + at + R, tl.sum(sx))


@triton.jit(do_not_specialize=['columns'])
def mix_kernel(
    pooled, weight, scale, shift, maps, columns,
    CELLS: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, TAPS: tl.constexpr,
    SCALED: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Mix the cells with the 1-D convolution, maps[k] = sum_t W_t P[k + t] + bias.

    pooled (B, INPUTS, CELLS), weight (CELLS, CELLS, TAPS), maps (B, OUTPUTS, CELLS) and columns
    B * OUTPUTS. shift is the bias. With SCALED, for folded norms, weight is (CELLS, TAPS, CELLS),
    scale has a factor per map and shift is (OUTPUTS, CELLS).
    """
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    number = n % OUTPUTS
    row, ok, real = n // OUTPUTS * INPUTS + number, n < columns, o < CELLS
    total = tl.zeros([BLOCK_N, BLOCK_O], tl.float32)
    for start in range(0, CELLS * TAPS, BLOCK_K):
        j = start + tl.arange(0, BLOCK_K)
        inside = (j < CELLS * TAPS)[None, :]
        if SCALED:
            tap, k = j // CELLS, j % CELLS
        else:
            tap, k = j % TAPS, j // TAPS
        at = (row[:, None] + tap[None, :]) * CELLS + k[None, :]
        p = tl.load(pooled + at, mask=ok[:, None] & inside, other=0.0)
        at = o[:, None] * (CELLS * TAPS) + j[None, :]
        w = tl.load(weight + at, mask=real[:, None] & inside, other=0.0).to(tl.float32)
        total = tl.dot(p, tl.trans(w), total, input_precision=PRECISION)
    mask = ok[:, None] & real[None, :]
    if SCALED:
        total *= tl.load(scale + number).to(tl.float32)[:, None]
        at = number[:, None] * CELLS + o[None, :]
        total += tl.load(shift + at, mask=mask, other=0.0).to(tl.float32)
    else:
        total += tl.load(shift + o, mask=real, other=0.0).to(tl.float32)[None, :]
    tl.store(maps + n[:, None] * CELLS + o[None, :], total, mask=mask)


@triton.jit(do_not_specialize=['columns'])
def mix_backward_kernel(
    dmaps, weight, dpooled, columns,
    CELLS: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, TAPS: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute dP[k] = sum_t W_t' dM[k - t], (B, INPUTS, CELLS); columns are B * INPUTS."""
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    image, number = n // INPUTS, n % INPUTS
    total = tl.zeros([BLOCK_N, BLOCK_O], tl.float32)
    for start in range(0, CELLS, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = k < CELLS
        for tap in tl.static_range(TAPS):
            source = number - tap
            real = (n < columns) & (source >= 0) & (source < OUTPUTS)
            at = (image * OUTPUTS + source)[:, None] * CELLS + k[None, :]
            d = tl.load(dmaps + at, mask=real[:, None] & inside[None, :], other=0.0)
            at = k[:, None] * (CELLS * TAPS) + o[None, :] * TAPS + tap
            mask = inside[:, None] & (o < CELLS)[None, :]
            w = tl.load(weight + at, mask=mask, other=0.0).to(tl.float32)
            total = tl.dot(d, w, total, input_precision=PRECISION)
    mask = (n < columns)[:, None] & (o < CELLS)[None, :]
    tl.store(dpooled + n[:, None] * CELLS + o[None, :], total, mask=mask)


@triton.jit(do_not_specialize=['columns'])
def mix_weight_kernel(
    dmaps, pooled, dweight, dbias, columns,
    CELLS: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, TAPS: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum dW_t = dM[k]' P[k + t] (CELLS, CELLS, TAPS) and dbias = dM over images and maps.

    columns are B * OUTPUTS. The cells and taps of a row of dW lie side by side.
    """
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    j = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    real, inside = (o < CELLS)[None, :], (j < CELLS * TAPS)[None, :]
    total = tl.zeros([BLOCK_O, BLOCK_K], tl.float32)
    by_bias = tl.zeros([BLOCK_O], tl.float32)
    for start in range(0, columns, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        row, ok = n // OUTPUTS * INPUTS + n % OUTPUTS, (n < columns)[:, None]
        d = tl.load(dmaps + n[:, None] * CELLS + o[None, :], mask=ok & real, other=0.0)
        at = (row[:, None] + (j % TAPS)[None, :]) * CELLS + (j // TAPS)[None, :]
        p = tl.load(pooled + at, mask=ok & inside, other=0.0)
        total = tl.dot(tl.trans(d), p, total, input_precision=PRECISION)
        by_bias += tl.sum(d, axis=0)
    at = o[:, None] * (CELLS * TAPS) + j[None, :]
    tl.store(dweight + at, total, mask=(o < CELLS)[:, None] & inside)
    if tl.program_id(1) == 0:
        tl.store(dbias + o, by_bias, mask=o < CELLS)


@triton.jit
def _neighbours(maps, mean, gram_h, gram_w, row, cell, ok, size):
    """Compute G (M - mean) at the cells of (image, map) rows.

    gram (3, S) holds the diagonals of G below, on and above the main one.
    """
    i, j = cell // size, cell % size
    at = row[:, None] * (size * size) + cell[None, :]
    total = tl.zeros([row.shape[0], cell.shape[0]], tl.float32)
    for a in tl.static_range(3):
        for b in tl.static_range(3):
            y, x = i + a - 1, j + b - 1
            inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
            g = tl.load(gram_h + a * size + i, mask=inside, other=0.0)
            g *= tl.load(gram_w + b * size + j, mask=inside, other=0.0)
            m = tl.load(maps + at + (a - 1) * size + (b - 1), mask=ok & inside[None, :], other=0.0)
            total += g[None, :] * (m - mean)
    return total


@triton.jit
def _shares(sum_h, sum_w, cell, size):
    """Return c = U'1 at the cells, zero beyond the grid."""
    ok = cell < size * size
    share = tl.load(sum_h + cell // size, mask=ok, other=0.0)
    return share * tl.load(sum_w + cell % size, mask=ok, other=0.0)


@triton.jit(do_not_specialize=['batch', 'size', 'area'])
def grid_moments_kernel(
    maps, sum_h, sum_w, gram_h, gram_w, part, batch, size, area,
    MAPS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Compute part (programs, 2, MAPS): moments of the upsampled maps of BLOCK_N images each."""
    k, cell = tl.program_id(1), tl.arange(0, BLOCK_S)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    ok = (n < batch)[:, None] & (cell < size * size)[None, :]
    row = n * MAPS + k
    pixels = (tl.minimum(batch - tl.program_id(0) * BLOCK_N, BLOCK_N) * area).to(tl.float32)
    at = row[:, None] * (size * size) + cell[None, :]
    m = tl.load(maps + at, mask=ok, other=0.0)
    mean = tl.sum(tl.sum(m, axis=0) * _shares(sum_h, sum_w, cell, size), axis=0) / pixels
    near = _neighbours(maps, mean, gram_h, gram_w, row, cell, ok, size)
    m2 = tl.sum(tl.sum(tl.where(ok, (m - mean) * near, 0.0), axis=0), axis=0)
    at = tl.program_id(0) * (2 * MAPS) + k
    tl.store(part + at, mean)
    tl.store(part + at + MAPS, m2)


@triton.jit(do_not_specialize=['batch', 'size'])
def grid_backward_kernel(
    maps, d, stats, sums, dmaps, sum_h, sum_w, gram_h, gram_w, batch, size,
    MAPS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Compute dM from D."""
    k, cell = tl.program_id(1), tl.arange(0, BLOCK_S)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    ok = (n < batch)[:, None] & (cell < size * size)[None, :]
    row = n * MAPS + k
    near = _neighbours(maps, tl.load(stats + k), gram_h, gram_w, row, cell, ok, size)
    at = row[:, None] * (size * size) + cell[None, :]
    v = tl.load(stats + 2 * MAPS + k) * tl.load(d + at, mask=ok, other=0.0)
    v -= tl.load(sums + k) * _shares(sum_h, sum_w, cell, size)[None, :]
    tl.store(dmaps + at, v - tl.load(sums + MAPS + k) * near, mask=ok)


@triton.jit(do_not_specialize=['height', 'width', 'size', 'rows'])
def adjoint_kernel(
    dbuf, buf, maps, stats, d, part, up_h, up_w, height, width, size, rows,
    C: tl.constexpr, WIDE: tl.constexpr, MAPS: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_E: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute D = U' dz, dz = dbuf [buf > 0], for the maps in the channels of dbuf from C on.

    A program takes a part of an image, as in pooling, with all maps, which lie side by side. Its
    matrices hold them as neighbouring columns (x, map), then as rows (cell, map). d (parts, B,
    MAPS, S * S); part (parts * B, 2, MAPS): sums of D and of D (M - mean).
    """
    image = tl.program_id(0).to(tl.int64)
    left, first = _part(width, rows, BLOCK_W)
    s, j = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_W * BLOCK_E)
    x, e = left + j // BLOCK_E, j % BLOCK_E
    total = tl.zeros([BLOCK_S, BLOCK_W * BLOCK_E], tl.float32)
    for top in range(first, tl.minimum(first + rows, height), BLOCK_H):
        y = top + tl.arange(0, BLOCK_H)
        mask = (y < height)[:, None] & ((x < width) & (e < MAPS))[None, :]
        at = ((image * height + y[:, None]) * width + x[None, :]) * WIDE + C + e[None, :]
        g = tl.load(dbuf + at, mask=mask, other=0.0).to(tl.float32)
        g = tl.where(tl.load(buf + at, mask=mask, other=0.0).to(tl.float32) > 0, g, 0.0)
        a = _table(up_h, s[:, None], y[None, :], size, height)
        total = tl.dot(a, g, total, input_precision=PRECISION)
    total = tl.permute(tl.reshape(total, (BLOCK_S, BLOCK_W, BLOCK_E)), (0, 2, 1))
    total = tl.reshape(total, (BLOCK_S * BLOCK_E, BLOCK_W))
    x = left + tl.arange(0, BLOCK_W)
    b = tl.trans(_table(up_w, s[:, None], x[None, :], size, width))
    zeros = tl.zeros([BLOCK_S * BLOCK_E, BLOCK_S], tl.float32)
    cells = tl.dot(total, b, zeros, input_precision=PRECISION)

    q = tl.arange(0, BLOCK_S * BLOCK_E)
    cell, k = q // BLOCK_E, q % BLOCK_E
    ok = ((cell < size) & (k < MAPS))[:, None] & (s < size)[None, :]
    at = (k * size + cell)[:, None] * size + s[None, :]
    block = tl.program_id(1) * tl.num_programs(0) + image
    tl.store(d + block * MAPS * size * size + at, cells, mask=ok)
    m = tl.load(maps + image * MAPS * size * size + at, mask=ok, other=0.0)
    m -= tl.load(stats + k, mask=k < MAPS, other=0.0)[:, None]
    cells = tl.where(ok, cells, 0.0)
    k = tl.arange(0, BLOCK_E)
    for number in tl.static_range(2):
        by_map = tl.sum(tl.reshape(tl.sum(cells, axis=1), (BLOCK_S, BLOCK_E)), axis=0)
        tl.store(part + (block * 2 + number) * MAPS + k, by_map, mask=k < MAPS)
        cells *= m
