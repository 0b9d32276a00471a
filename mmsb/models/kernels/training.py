"""Autograd functions that run the norms and the spatial bias of a bottleneck in Triton kernels.

They stand around the convolutions, which may be of any kind. :class:`NormReLU` is batch norm with
ReLU or with the shortcut's sum and ReLU, for plain and SB-ResNet alike. :class:`NormReduceMix` is
conv1's norm and ReLU with spatial bias's reduction, pooling and 1-D convolution. :class:`Widen`
makes conv3's input. Held norms (``norm_eval``, frozen stages, inference) use the same kernels.
There are first derivatives only.

The functions share the steps of a batch norm, which is why they are in one long file.
"""

import functools
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .grid import (
    adjoint_kernel,
    grid_backward_kernel,
    grid_moments_kernel,
    mix_backward_kernel,
    mix_kernel,
    mix_weight_kernel,
    pool_backward_kernel,
    pool_kernel,
)
from .launching import Beside, launch, power
from .norms import (
    combine_gradients_kernel,
    combine_kernel,
    moments_kernel,
    norm_backward_kernel,
    norm_backward_sums_kernel,
    norm_kernel,
)
from .reduction import (
    norm_reduce_backward_kernel,
    norm_reduce_backward_sums_kernel,
    norm_reduce_kernel,
    plane_moments_kernel,
)
from .tables import Axis, axis
from .widening import widen_kernel


class Norm(NamedTuple):
    """A batch norm or some of its channels.

    Attributes:
        held: It normalises by its running statistics.
        count: It counts the batches, for the whole norm.
        group: The processes that share the batch of a synchronised norm; None: this one alone.
    """

    mean: Tensor
    var: Tensor
    batches: Tensor | None
    momentum: float
    eps: float
    held: bool
    count: bool
    group: dist.ProcessGroup | None

    @classmethod
    def of(cls, norm: nn.Module, held: bool | None = None, part=slice(None), count=True):
        """The channels in part."""
        held = not norm.training if held is None else held
        return cls(
            norm.running_mean[part], norm.running_var[part], norm.num_batches_tracked,
            norm.momentum, norm.eps, held, count and not held, None if held else _group(norm),
        )  # fmt: skip


def _group(norm: nn.Module) -> dist.ProcessGroup | None:
    if type(norm) is not nn.SyncBatchNorm or not (dist.is_available() and dist.is_initialized()):
        return None
    group = norm.process_group or dist.group.WORLD
    return group if dist.get_world_size(group) > 1 else None


def first_derivatives_only(backward):
    """Refuse second derivatives; torch's ``once_differentiable`` can drop terms silently."""

    @functools.wraps(backward)
    def wrapped(ctx, *gradients):
        if torch.is_grad_enabled():
            raise RuntimeError(
                'the kernels have no second derivatives: give the backbone kernels=False, or set '
                'MMSB_KERNELS=off, to run PyTorch operators, which have them'
            )
        return backward(ctx, *gradients)

    return wrapped


def _cdiv(number: int, by: int) -> int:
    return -(-number // by)


def _divisor(channels: int) -> int:
    """The largest power of two that divides them, 64 at most."""
    return min(64, channels & -channels)


def _chunk(pixels: int, least: int, most: int = 1024) -> int:
    """Pixels a program: about a thousand programs, four to eight on every multiprocessor."""
    return power(_cdiv(pixels, 1024), least, most)


def _new(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _dot_precision(x: Tensor) -> str:
    """Products over features are as precise as convolutions; tf32 holds half types exactly."""
    return 'tf32' if x.dtype is not torch.float32 or torch.backends.cudnn.allow_tf32 else 'ieee'


def _sum_precision(x: Tensor) -> str:
    """Sums over pixels and cells in float32 are three tf32 products, as exact as float32."""
    return 'tf32x3' if x.dtype is torch.float32 else 'tf32'


def _combine(
    part: Tensor, pixels: int, chunk: int, norm: Norm, gamma: Tensor, beta: Tensor
) -> Tensor:
    if norm.group is not None:
        return _combine_processes(part, pixels, chunk, norm, gamma, beta)
    channels = len(gamma)
    stats = _new(gamma, 4, channels)
    programs = 0 if part is None else len(part)
    block_c = power(channels, most=16)
    launch(
        combine_kernel, (_cdiv(channels, block_c),),
        stats if part is None else part, gamma, beta, norm.mean, norm.var, norm.batches, stats,
        pixels, chunk, programs, norm.momentum, norm.eps,
        num_warps=8 if programs > 64 else 4,
        C=channels, BLOCK_P=512 if programs > 64 else 64, BLOCK_C=block_c,
        HELD=norm.held, COUNT=norm.count,
    )  # fmt: skip
    return stats


def _combine_processes(
    part: Tensor, pixels: int, chunk: int, norm: Norm, gamma: Tensor, beta: Tensor
) -> Tensor:
    """(5, C): what :func:`combine_kernel` gives for the pixels of all processes; their number."""

    def merge(moments: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:  # Chan's formula
        mean = (moments[:, 0] * counts).sum(0) / counts.sum()
        return mean, (moments[:, 1] + counts * (moments[:, 0] - mean).square()).sum(0)

    counts = torch.arange(pixels, pixels - chunk * len(part), -chunk, device=part.device)
    moments = merge(part, counts.clamp(max=chunk)[:, None])
    own = torch.cat([*moments, torch.full_like(gamma[:1], pixels)])
    shared = own.new_empty(dist.get_world_size(norm.group), len(own))
    dist.all_gather(list(shared.unbind()), own, norm.group)
    counts = shared[:, -1:]
    mean, m2 = merge(shared[:, :-1].unflatten(1, (2, len(gamma))), counts)
    total = counts.sum()
    norm.mean.lerp_(mean, norm.momentum)
    norm.var.lerp_(m2 / (total - 1), norm.momentum)
    if norm.count:
        norm.batches.add_(1)
    inverse = (m2 / total + norm.eps).rsqrt()
    scale = gamma * inverse
    return torch.stack([mean, inverse, scale, beta - mean * scale, total.expand_as(mean)])


def _statistics(x: Tensor, norm: Norm, gamma: Tensor, beta: Tensor) -> Tensor:
    """(4, C) of channels-last features, or more rows."""
    if norm.held:
        return _combine(None, 1, 1, norm, gamma, beta)
    channels, pixels = x.shape[1], x.numel() // x.shape[1]
    if pixels == 1 and norm.group is None:  # as PyTorch
        raise ValueError(f'Expected more than 1 value per channel when training, got {x.shape}')
    block_m, block_c = 64, 64
    chunk = _chunk(pixels * _cdiv(channels, block_c), 8 * block_m)
    part = _new(x, _cdiv(pixels, chunk), 2, channels)
    launch(
        moments_kernel, (len(part), _cdiv(channels, block_c)), x, part, pixels, chunk,
        C=channels, BLOCK_M=block_m, BLOCK_C=block_c,
    )  # fmt: skip
    return _combine(part, pixels, chunk, norm, gamma, beta)


def _combine_gradients(
    part: Tensor, stats: Tensor, pixels: int, norm: Norm, weight_part: Tensor | None = None,
    into: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """sums, dgamma, dbeta (in the tensors of into) and dweight, None without weight_part."""
    total = float('inf') if norm.held else 1 if norm.group else pixels
    channels = stats.shape[1]
    sums = _new(part, 2, channels)
    dgamma, dbeta = into or (_new(part, channels), _new(part, channels))
    rows = 0 if weight_part is None else weight_part.shape[1]
    dweight = _new(part, rows, channels) if rows else None
    block_c = power(channels, most=4)
    launch(
        combine_gradients_kernel, (_cdiv(channels, block_c), 1 + rows),
        # without rows no program uses the two, but the kernel is compiled for tensors
        part, stats, sums, dgamma, dbeta, weight_part if rows else part, dweight if rows else sums,
        len(part), float(total),
        C=channels, ROWS=rows, BLOCK_P=512 if len(part) > 64 else 64, BLOCK_C=block_c,
    )  # fmt: skip
    if norm.group:
        dist.all_reduce(sums, group=norm.group)
        sums /= stats[4]
    return sums, dgamma, dbeta, dweight


def _norm_backward(dout, out, x, stats, norm, wide, add, relu, into=None):
    """dx, the shortcut's gradient with add, dgamma, dbeta."""
    channels, pixels = x.shape[1], x.numel() // x.shape[1]
    block_m, block_c = 32, 64
    blocks = _cdiv(channels, block_c)
    chunk = _chunk(pixels * blocks, 8 * block_m)
    part = _new(x, _cdiv(pixels, chunk), 2, channels)
    kinds = dict(C=channels, WIDE=wide, ADD=add, RELU=relu)
    launch(
        norm_backward_sums_kernel, (len(part), blocks), dout, out, x, stats, part, pixels, chunk,
        **kinds, BLOCK_M=block_m, BLOCK_C=block_c,
    )  # fmt: skip
    sums, dgamma, dbeta, _ = _combine_gradients(part, stats, pixels, norm, into=into)
    dx = torch.empty_like(x)
    dshortcut = torch.empty_like(x) if add else None
    block_c = power(channels, most=128)
    launch(
        norm_backward_kernel, (_cdiv(pixels, 32), _cdiv(channels, block_c)),
        dout, out, x, stats, sums, dx, dshortcut, pixels,
        num_warps=8, **kinds, BLOCK_M=32, BLOCK_C=block_c,
    )  # fmt: skip
    return dx, dshortcut, dgamma, dbeta


class NormReLU(torch.autograd.Function):
    """(x, shortcut or None, gamma, beta, norm, relu) to relu(norm(x) + shortcut), channels last."""

    @staticmethod
    def forward(ctx, x, shortcut, gamma, beta, norm, relu):
        x, channels = _nhwc(x), x.shape[1]
        pixels, add = x.numel() // channels, shortcut is not None
        if add:
            shortcut = _nhwc(shortcut)
        stats = _statistics(x, norm, gamma, beta)
        out = torch.empty_like(x)
        block_c = power(channels, most=128)
        launch(
            norm_kernel, (_cdiv(pixels, 32), _cdiv(channels, block_c)),
            x, shortcut, stats, out, pixels,
            num_warps=8, C=channels, ADD=add, RELU=relu, BLOCK_M=32, BLOCK_C=block_c,
        )  # fmt: skip
        ctx.save_for_backward(x, stats, out if add and relu else None)
        ctx.settings = norm, add, relu
        return out

    @staticmethod
    @first_derivatives_only
    def backward(ctx, dout):
        x, stats, out = ctx.saved_tensors
        norm, add, relu = ctx.settings
        dx, dshortcut, dgamma, dbeta = _norm_backward(
            _nhwc(dout), out, x, stats, norm, x.shape[1], add, relu
        )
        return dx, dshortcut, dgamma, dbeta, None, None


class Pooling(NamedTuple):
    """How pixels are pooled to the grid and back: tables, tiles and parts of a plane."""

    rows: Axis
    columns: Axis
    size: int
    tiles: dict[str, int]

    @classmethod
    def of(cls, x: Tensor, size: int, most_columns: int = 64) -> 'Pooling':
        rows, columns = axis(x.shape[2], size, x.device), axis(x.shape[3], size, x.device)
        tiles = dict(BLOCK_H=16, BLOCK_W=power(x.shape[3], 16, most_columns))
        return cls(rows, columns, size, tiles | dict(BLOCK_S=power(size, 16)))

    def parts(self, x: Tensor, planes: int, whole: bool = False) -> tuple[int, int]:
        """Parts of a plane and rows of pixels in each, for some 512 programs.

        whole: small planes are not divided, because another kernel has to sum their parts.
        """
        height, width = x.shape[2:]
        across, tiles = _cdiv(width, self.tiles['BLOCK_W']), _cdiv(height, 16)
        down = 1 if whole and across == 1 and tiles <= 4 else min(tiles, 512 // (planes * across))
        rows = _cdiv(tiles, max(1, down)) * 16
        return across * _cdiv(height, rows), rows


def pool(r0: Tensor, stats: Tensor, size: int, precision: str, scaled: bool = True) -> Tensor:
    """relu(norm(r0)) averaged over the cells, (B, R, size * size), float32."""
    batch, reduced, height, width = r0.shape
    pooling = Pooling.of(r0, size)
    parts, part_rows = pooling.parts(r0, batch * reduced, whole=True)
    pooled = _new(r0, parts, batch, reduced, size * size)
    launch(
        pool_kernel, (batch * reduced, parts), r0, stats, pooled, pooling.rows.pool,
        pooling.columns.pool, height, width, size, part_rows,
        R=reduced, SCALED=scaled, **pooling.tiles, PRECISION=precision,
    )  # fmt: skip
    return pooled[0] if parts == 1 else pooled.sum(0)


def mix(
    pooled: Tensor, weight: Tensor, scale: Tensor | None, shift: Tensor, outputs: int,
    precision: str,
) -> Tensor:  # fmt: skip
    """The 1-D convolution whose channels are the cells, and in inference a folded norm.

    Args:
        pooled: (B, R, cells), float32.
        weight: (cells, cells, taps); with scale (cells, taps * cells), tap after tap.
        scale: Factors of the maps, outputs or more. None: there are none.
        shift: The bias, (cells,); with scale (outputs or more, cells).
        outputs: Maps to make, R - taps + 1 at most.
        precision: Of the product, as Triton names it.

    Returns:
        (B, outputs, cells), float32.
    """
    batch, inputs, cells = pooled.shape
    maps = _new(pooled, batch, outputs, cells)
    columns = batch * outputs
    block_o = 16 if columns <= 64 else 32
    launch(
        mix_kernel, (_cdiv(cells, block_o), _cdiv(columns, 16)),
        pooled, weight, scale, shift, maps, columns,
        CELLS=cells, INPUTS=inputs, OUTPUTS=outputs, TAPS=weight.numel() // cells**2,
        SCALED=scale is not None, BLOCK_O=block_o, BLOCK_K=64, BLOCK_N=16,
        PRECISION=precision,
    )  # fmt: skip
    return maps


def _norm_reduce(x: Tensor, stats: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """u = relu(norm(x)) and its 1x1 convolution's planes (B, R, H, W)."""
    batch, channels, height, width = x.shape
    pixels, reduced = batch * height * width, len(weight)
    u, r0 = torch.empty_like(x), x.new_empty(batch, reduced, height, width)
    block_c = power(channels, 16)
    block_m = max(8, min(64, 4096 // block_c))
    launch(
        norm_reduce_kernel, (_cdiv(pixels, block_m),),
        x, stats, weight, u, r0, pixels, height * width,
        C=channels, R=reduced, BLOCK_M=block_m, BLOCK_C=block_c,
    )  # fmt: skip
    return u, r0


def _plane_statistics(r0: Tensor, norm: Norm, gamma: Tensor, beta: Tensor) -> Tensor:
    """(4, R) of the planes."""
    if norm.held:
        return _combine(None, 1, 1, norm, gamma, beta)
    batch, reduced, height, width = r0.shape
    pixels = batch * height * width
    chunk = power(_cdiv(pixels, 128), 512, 4096)
    part = _new(r0, _cdiv(pixels, chunk), 2, reduced)
    launch(
        plane_moments_kernel, (len(part), reduced), r0, part, pixels, height * width, chunk,
        R=reduced, BLOCK_M=512,
    )  # fmt: skip
    return _combine(part, pixels, chunk, norm, gamma, beta)


class NormReduceMix(torch.autograd.Function):
    """conv1's output x to conv2's input relu(norm(x)) and spatial bias's maps on the grid.

    weight belongs to the 1x1 convolution, (R, C, 1, 1), mixing and its bias to the 1-D
    convolution. The maps are (B, R - taps + 1, S * S), float32. They are made beside what follows
    on the current stream: beside must be joined before they are read.
    """

    @staticmethod
    def forward(
        ctx, x, gamma, beta, weight, reduced_gamma, reduced_beta, mixing, mixing_bias,
        norm, reduced_norm, size, beside,
    ):  # fmt: skip
        x, weight = _nhwc(x), weight.contiguous()
        stats = _statistics(x, norm, gamma, beta)
        u, r0 = _norm_reduce(x, stats, weight)
        with beside.run(r0):
            reduced_stats = _plane_statistics(r0, reduced_norm, reduced_gamma, reduced_beta)
            precision = _sum_precision(x)
            pooled = pool(r0, reduced_stats, size, precision)
            outputs = len(weight) - mixing.shape[2] + 1
            maps = mix(pooled, mixing, None, mixing_bias, outputs, precision)
        ctx.save_for_backward(x, r0, pooled, stats, reduced_stats, weight, mixing)
        ctx.settings = size, norm, reduced_norm
        ctx.ahead = None
        return u, maps

    @staticmethod
    @first_derivatives_only
    def backward(ctx, du, dmaps):
        ahead, ctx.ahead = ctx.ahead, None
        if ahead is None or ahead[0].data_ptr() != dmaps.data_ptr():  # another backward pass's
            ahead = NormReduceMix.backward_on_grid(ctx, dmaps)
        _, beside, saved, on_grid = ahead
        x, _, _, stats, _, weight, _ = saved
        dr0, dreduced_gamma, dreduced_beta, dmixing, dbias = on_grid
        norm = ctx.settings[1]
        beside.join()
        reduced, (_, channels, height, width) = len(weight), x.shape
        du, area = _nhwc(du), height * width
        pixels = x.numel() // channels
        block_c = _divisor(channels)
        chunk = _chunk(pixels * (channels // block_c), 256)
        part = _new(x, _cdiv(pixels, chunk), 2, channels)
        weight_part = _new(x, len(part), reduced, channels)
        # a row of a tile takes a thread for 16 bytes
        rows = min(32, 128 * 16 // (block_c * x.element_size()))
        launch(
            norm_reduce_backward_sums_kernel, (len(part), channels // block_c),
            du, x, dr0, stats, weight, part, weight_part, pixels, area, chunk,
            C=channels, R=reduced, BLOCK_M=32, BLOCK_C=block_c, BLOCK_R=power(reduced, 16),
            ROWS=rows, PRECISION=_dot_precision(x),
        )  # fmt: skip
        sums, dgamma, dbeta, dweight = _combine_gradients(part, stats, pixels, norm, weight_part)
        dx = torch.empty_like(x)
        block_m = 32 if x.dtype is torch.float32 else 64
        launch(
            norm_reduce_backward_kernel, (_cdiv(pixels, block_m), channels // block_c),
            du, x, dr0, stats, weight, sums, dx, pixels, area,
            C=channels, R=reduced, BLOCK_M=block_m, BLOCK_C=block_c,
        )  # fmt: skip
        return (
            dx, dgamma, dbeta, dweight.view(weight.shape), dreduced_gamma, dreduced_beta,
            dmixing, dbias, None, None, None, None,
        )  # fmt: skip

    @staticmethod
    def backward_on_grid(ctx, dmaps: Tensor) -> tuple:
        """The part that only dmaps is needed for; Widen starts it, beside conv2's gradients.

        Returns:
            dmaps, what is to be joined, the saved tensors, and the gradients dr0,
            dreduced_gamma, dreduced_beta, dmixing and dbias.
        """
        saved = x, r0, pooled, _, reduced_stats, _, mixing = ctx.saved_tensors
        size, _, norm = ctx.settings
        batch, reduced, height, width = r0.shape
        taps, cells, maps = mixing.shape[2], size * size, dmaps.shape[1]
        precision, given, dmaps = _sum_precision(x), dmaps, dmaps.contiguous()
        kinds = dict(CELLS=cells, INPUTS=reduced, OUTPUTS=maps, TAPS=taps)
        pooling = Pooling.of(r0, size)
        parts, part_rows = pooling.parts(r0, batch * reduced)
        beside = Beside(x)
        with beside.run(dmaps):
            dpooled = torch.empty_like(pooled)
            launch(
                mix_backward_kernel, (_cdiv(cells, 16), _cdiv(batch * reduced, 64)),
                dmaps, mixing, dpooled, batch * reduced,
                **kinds, BLOCK_O=16, BLOCK_K=power(cells, 16, 128), BLOCK_N=64,
                PRECISION=precision,
            )  # fmt: skip
            part, dr0 = _new(r0, batch * parts, 2, reduced), torch.empty_like(r0)
            arguments = r0, reduced_stats, dpooled, pooling.rows.pool, pooling.columns.pool
            sides = height, width, size, part_rows
            run = functools.partial(launch, pool_backward_kernel, (batch * reduced, parts))
            options = dict(R=reduced, **pooling.tiles)
            run(*arguments, None, part, None, *sides, **options, APPLY=False, PRECISION=precision)
            pixels = batch * height * width
            sums, *gradients, _ = _combine_gradients(part, reduced_stats, pixels, norm)
            run(*arguments, sums, None, dr0, *sides, **options, APPLY=True, PRECISION=precision)
            dmixing, dbias = torch.empty_like(mixing), _new(r0, cells)
            launch(
                mix_weight_kernel, (_cdiv(cells, 16), _cdiv(cells * taps, 32)),
                dmaps, pooled, dmixing, dbias, batch * maps,
                **kinds, BLOCK_O=16, BLOCK_K=32, BLOCK_N=64, PRECISION=precision,
            )  # fmt: skip
        return given, beside, saved, (dr0, *gradients, dmixing, dbias)


class Widen(torch.autograd.Function):
    """conv2's output y, (B, C, H, W), and maps on the grid to conv3's input, (B, wide, H, W).

    That is relu(norm(cat(y, up(maps)))) followed by zeros, channels last; gamma and beta belong to
    the whole norm. beside is joined. mixing_node is the maps' ``grad_fn``, or None.
    """

    @staticmethod
    def forward(
        ctx, y, maps, gamma, beta, norm, map_norm, size, wide, beside, mixing_node
    ):  # fmt: skip
        y = _nhwc(y)
        batch, channels, height, width = y.shape
        num_maps, area = maps.shape[1], height * width
        rows, columns = axis(height, size, y.device), axis(width, size, y.device)
        grids = rows.sums, columns.sums, rows.gram, columns.gram
        part = None
        with beside.run():
            if not map_norm.held:
                part = _new(y, _cdiv(batch, 16), 2, num_maps)
                launch(
                    grid_moments_kernel, (len(part), num_maps),
                    maps, *grids, part, batch, size, area,
                    MAPS=num_maps, BLOCK_N=16, BLOCK_S=power(size * size, 16),
                )  # fmt: skip
            map_stats = _combine(
                part, batch * area, 16 * area, map_norm, gamma[channels:], beta[channels:]
            )
        stats = _statistics(y, norm, gamma[:channels], beta[:channels])
        beside.join()
        buf = torch.empty(
            (batch, wide, height, width), dtype=y.dtype, device=y.device,
            memory_format=torch.channels_last,
        )  # fmt: skip
        widen(y, stats, maps, map_stats, buf, size)
        ctx.save_for_backward(y, buf, maps, stats, map_stats)
        ctx.settings = size, norm, map_norm
        ctx.mixing_node = mixing_node
        return buf

    @staticmethod
    @first_derivatives_only
    def backward(ctx, dbuf):
        y, buf, maps, stats, map_stats = ctx.saved_tensors
        size, norm, map_norm = ctx.settings
        batch, channels, height, width = y.shape
        num_maps, wide = maps.shape[1], buf.shape[1]
        dbuf = _nhwc(dbuf)
        dgamma, dbeta = _new(y, channels + num_maps), _new(y, channels + num_maps)
        beside, block_e = Beside(y), power(num_maps, 4)
        pooling = Pooling.of(y, size, max(16, 256 // block_e))
        parts, part_rows = pooling.parts(y, batch, whole=True)
        with beside.run():
            d = _new(y, parts, batch, num_maps, size * size)
            part = _new(y, parts * batch, 2, num_maps)
            launch(
                adjoint_kernel, (batch, parts), dbuf, buf, maps, map_stats, d, part,
                pooling.rows.up, pooling.columns.up, height, width, size, part_rows, num_warps=8,
                C=channels, WIDE=wide, MAPS=num_maps, **pooling.tiles, BLOCK_E=block_e,
                PRECISION=_sum_precision(y),
            )  # fmt: skip
            d = d[0] if parts == 1 else d.sum(0)
            into = dgamma[channels:], dbeta[channels:]
            pixels = batch * height * width
            sums, *_ = _combine_gradients(part, map_stats, pixels, map_norm, into=into)
            dmaps = torch.empty_like(maps)
            rows, columns = pooling.rows, pooling.columns
            launch(
                grid_backward_kernel, (_cdiv(batch, 16), num_maps), maps, d, map_stats, sums, dmaps,
                rows.sums, columns.sums, rows.gram, columns.gram, batch, size,
                MAPS=num_maps, BLOCK_N=16, BLOCK_S=power(size * size, 16),
            )  # fmt: skip
        into = dgamma[:channels], dbeta[:channels]
        dy, *_ = _norm_backward(dbuf, None, y, stats, norm, wide, False, True, into)
        beside.join()
        if ctx.mixing_node is not None:
            ctx.mixing_node.ahead = NormReduceMix.backward_on_grid(ctx.mixing_node, dmaps)
        return dy, dmaps, dgamma, dbeta, None, None, None, None, None, None


def widen(
    y: Tensor, stats: Tensor, maps: Tensor, map_stats: Tensor | None, out: Tensor, size: int
) -> None:  # fmt: skip
    """Write relu(norm(y)), the upsampled maps and zeros to out; see :func:`widen_kernel`."""
    batch, channels, height, width = y.shape
    pixels, wide = batch * height * width, out.shape[1]
    launch(
        widen_kernel, (_cdiv(pixels, 32),),
        y, stats, maps, map_stats, out, pixels, height, width, size,
        C=channels, WIDE=wide, MAPS=maps.shape[1], SCALED=map_stats is not None,
        BLOCK_M=32, BLOCK_C=power(channels, most=64), BLOCK_E=power(wide - channels),
    )  # fmt: skip


def is_supported(norm: nn.Module | None) -> bool:
    """Tell whether the kernels can run this norm."""
    return (
        type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm)
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and norm.weight.dtype is torch.float32
    )


def norm_relu(
    x: Tensor, norm: nn.BatchNorm2d, shortcut: Tensor | None = None, relu: bool = True
) -> Tensor:
    """relu(norm(x) + shortcut) of a supported norm."""
    return NormReLU.apply(x, shortcut, norm.weight, norm.bias, Norm.of(norm), relu)


def pad_inputs(conv: nn.Conv2d, inputs: int) -> Tensor:
    """A 1x1 convolution's weights with zeros for further inputs."""
    return F.pad(conv.weight, (0, 0, 0, 0, 0, inputs - conv.in_channels))
