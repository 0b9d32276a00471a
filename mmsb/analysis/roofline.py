"""Roofline of spatial bias: its minimum time from operations and memory traffic, per block."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mmsb.models import SBResNet
from mmsb.models.backbones.residual_block import Bottleneck


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of some operators, and the tensor elements they read and write."""

    macs: int = 0
    numbers: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.numbers + other.numbers)

    def seconds(self, macs_per_second: float, bytes_per_second: float, itemsize: int = 4) -> float:
        """Minimum time: that of arithmetic or of memory, whichever is longer."""
        return max(self.macs / macs_per_second, self.numbers * itemsize / bytes_per_second)


@dataclass(frozen=True)
class BlockWork:
    """Work of one stage's blocks in fused inference, for one batch.

    Attributes:
        stage: 1 to 4.
        blocks: Number of blocks with spatial bias.
        plain: Operators without spatial bias.
        added: Operators that spatial bias adds, each reading from and writing to memory.
        least: The same if its maps never left the chip: pooled where conv1 writes its output,
            upsampled where conv3 reads its input.
    """

    stage: int
    blocks: int
    plain: list[Work]
    added: list[Work]
    least: list[Work]


def count_work(model: SBResNet, batch: int, shape: Sequence[int]) -> list[BlockWork]:
    """Count operations and bytes of the blocks with spatial bias.

    Args:
        model: A backbone of bottlenecks, with spatial bias beside conv2 and concatenated. It is
            moved to the meta device.
        batch: Number of images.
        shape: Height and width of the images in pixels.

    Returns:
        The stages with spatial bias; norms count as folded into convolutions.
    """
    shapes = {}
    meta = model.to('meta').eval()
    stages = [
        (number, [block for block in getattr(meta, name) if block.spatial_bias_at])
        for number, name in enumerate(meta.res_layers, 1)
    ]
    for _, blocks in stages:
        for block in blocks:
            block.conv2.register_forward_hook(
                lambda conv, args, out: shapes.update({conv: (args[0].shape, out.shape)})
            )
    with torch.no_grad():
        meta(torch.empty(batch, 3, *shape, device='meta'))
    found = []
    for number, blocks in stages:
        columns = zip(*(_block(block, *shapes[block.conv2]) for block in blocks), strict=True)
        works = [[work for works in column for work in works] for column in columns]
        if works:
            found.append(BlockWork(number, len(blocks), *works))
    return found


def _block(block: Bottleneck, before: torch.Size, after: torch.Size) -> tuple[list[Work], ...]:
    """Count a bottleneck's operators, given the shapes of conv2's input and output."""
    bias = block.spatial_bias
    batch, width = before[0], before[1]
    fine, coarse = batch * before[2] * before[3], batch * after[2] * after[3]
    maps, grid = bias.num_channels, batch * bias.size**2
    reduced = bias.reduction.conv.out_channels
    channels = block.conv3.out_channels

    def conv(layer: nn.Conv2d, inputs: int, outputs: int, pixels_in: int, pixels_out: int) -> Work:
        macs = pixels_out * inputs // layer.groups * outputs * math.prod(layer.kernel_size)
        return Work(macs, pixels_in * inputs + pixels_out * outputs)

    def touch(numbers: int) -> Work:  # in place: reads and writes each element
        return Work(0, 2 * numbers)

    wide = block.conv1.in_channels
    plain = [
        conv(block.conv1, wide, width, fine, fine), touch(fine * width),
        conv(block.conv2, width, width, fine, coarse), touch(coarse * width),
        conv(block.conv3, width, channels, coarse, coarse),
        Work(0, 3 * coarse * channels), touch(coarse * channels),
    ]  # fmt: skip
    if block.downsample is not None:
        plain.append(conv(block.downsample[0], wide, channels, coarse, coarse))
    mixing = 0 if bias.mixing is None else grid * maps * bias.mixing.weight[0].numel()
    added = [
        conv(bias.reduction.conv, width, reduced, fine, fine), touch(fine * reduced),
        Work(0, fine * reduced + grid * reduced),  # pooling
        Work(mixing, grid * (reduced + maps)),
        Work(0, grid * maps + coarse * maps),  # upsampling
        touch(coarse * (width + maps)),  # concatenation: read and copied
        touch(coarse * maps),  # ReLU
        Work(coarse * maps * channels, coarse * maps),  # the added input channels of conv3
    ]  # fmt: skip
    macs = fine * width * reduced + mixing + coarse * maps * channels
    return plain, added, [Work(macs, grid * (reduced + maps))]


def measure_device(device: str = 'cpu', rounds: int = 9) -> tuple[float, float]:
    """Measure the rates of a large matrix product and a large copy.

    Returns:
        Multiply-accumulates and bytes per second in float32, medians of the rounds.
    """
    a, b = (torch.randn(2048, 2048, device=device) for _ in range(2))
    big = torch.randn(1 << 26, device=device)
    copy = torch.empty_like(big)
    rates = [(2048**3, lambda: torch.mm(a, b)), (2 * big.nbytes, lambda: copy.copy_(big))]
    found = []
    for amount, run in rates:
        times = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            run()
            if device == 'cuda':
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        found.append(amount / sorted(times[1:])[rounds // 2])
    return tuple(found)


def roofline_table(
    works: Sequence[BlockWork], macs_per_second: float, bytes_per_second: float
) -> tuple[list[str], list[list[str]]]:
    """Tabulate operations, megabytes and minimum times per stage, plain and with spatial bias.

    Returns:
        Head and rows: million MACs and MB of the plain blocks, of spatial bias as implemented and
        at its minimum, and the minimum milliseconds of each on a device with these rates.
    """
    head = [
        'stage',
        'blocks',
        'M MACs',
        'added',
        '%',
        'MB',
        'added',
        'least',
        'ms',
        'added',
        'least',
    ]
    rows, sums = [], [0.0] * 3

    def cells(label, blocks, plain, added, least, seconds):
        macs = [sum(w.macs for w in works) / 1e6 for works in (plain, added)]
        size = [sum(w.numbers for w in works) * 4e-6 for works in (plain, added, least)]
        return [
            label, str(blocks), *(f'{m:.0f}' for m in macs), f'{100 * macs[1] / macs[0]:.2f}',
            *(f'{s:.1f}' for s in size), *(f'{1e3 * s:.2f}' for s in seconds),
        ]  # fmt: skip

    def least_time(work):
        return sum(w.seconds(macs_per_second, bytes_per_second) for w in work)

    for work in works:
        parts = (work.plain, work.added, work.least)
        seconds = [least_time(part) for part in parts]
        sums = [total + s for total, s in zip(sums, seconds, strict=True)]
        rows.append(cells(str(work.stage), work.blocks, *parts, seconds))
    every = [[w for work in works for w in part(work)] for part in
             (lambda w: w.plain, lambda w: w.added, lambda w: w.least)]  # fmt: skip
    rows.append(cells('all', sum(work.blocks for work in works), *every, sums))
    return head, rows
