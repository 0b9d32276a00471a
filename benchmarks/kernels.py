"""Times the project's kernels at batch 128 with the tiles that they are run with and with others.

    PYTHONPATH=. python benchmarks/kernels.py [--out DIR] [--type bf16|fp16|fp32] [WIDTH ...]

A width is conv2's output channels, as in a stage of ResNet-50: 64, 128, 256 or 512. Each kernel is
recorded ten times in a CUDA graph, which leaves the launches out. Tiles are named in the order of
the kernel's BLOCK arguments, and ``*`` marks those that training uses. TB/s are the bytes of all
the kernel's tensors over its time; a few kernels, such as ``adjoint``, need only a part of one.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

if os.environ.get('MMSB_DRY') and __name__ == '__main__':
    import stand_in

    stand_in.install()

import torch

from mmsb.models import SBResNet
from mmsb.models.kernels import training

DTYPES = dict(bf16=torch.bfloat16, fp16=torch.float16, fp32=torch.float32)
SIDES = {64: 56, 128: 28, 256: 14, 512: 7}  # width of a stage -> side of its maps in pixels
BATCH = 128
# The tiles that are varied, and the axis of the grid that counts them, None for loops in a program
TILES = {
    'moments_kernel': dict(BLOCK_M=None, BLOCK_C=1),
    'norm_kernel': dict(BLOCK_M=0, BLOCK_C=1),
    'norm_backward_sums_kernel': dict(BLOCK_M=None, BLOCK_C=1),
    'norm_backward_kernel': dict(BLOCK_M=0, BLOCK_C=1),
    'norm_reduce_kernel': dict(BLOCK_M=0),
    'norm_reduce_backward_sums_kernel': dict(BLOCK_M=None, BLOCK_C=1),
    'norm_reduce_backward_kernel': dict(BLOCK_M=0, BLOCK_C=1),
    'widen_kernel': dict(BLOCK_M=0),
    'mix_kernel': dict(BLOCK_O=0, BLOCK_N=1, BLOCK_K=None),
    'mix_backward_kernel': dict(BLOCK_O=0, BLOCK_N=1, BLOCK_K=None),
    'mix_weight_kernel': dict(BLOCK_O=0, BLOCK_K=1, BLOCK_N=None),
    'grid_backward_kernel': dict(BLOCK_N=0),
}


def measure(dtype: str, widths: list[int], out: Path | None = None) -> list[dict]:
    """Prints the time of every kernel with every tile, and writes ``kernels_DTYPE.json``.

    Returns:
        A row for each: ``width``, ``kernel``, ``tiles``, ``used`` (by training), ``us``, ``bytes``;
        ``us`` is None for tiles that do not fit this GPU.
    """
    rows = []
    for width in widths:
        for name, number, tiles, used, run in _cases(DTYPES[dtype], width):
            try:
                us = _microseconds(run)
            except Exception as error:  # tiles that need too much shared memory
                print(f'{width} {name} {tiles}: {str(error).splitlines()[0][:100]}')
                us = None
            rows.append(dict(width=width, kernel=name, tiles=tiles, used=used, us=us, bytes=number))
            if us:
                speed = f'{number / us / 1e6:.2f} TB/s'
                print(f'{width} {name} {tiles}{" *" * used}: {us:.1f} us, {speed}', flush=True)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        values = dict(device=torch.cuda.get_device_name(), torch=torch.__version__, rows=rows)
        (out / f'kernels_{dtype}.json').write_text(json.dumps(values, indent=1) + '\n')
    return rows


def _microseconds(run: Callable[[], None]) -> float:
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            run()
    times = []
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 100)
    return statistics.median(times)


def _cases(dtype: torch.dtype, width: int) -> Iterator[tuple]:
    """(kernel, bytes, tiles, whether training uses them, a function that launches it)."""
    for kernel, grid, args, warps, constants in _launches(dtype, width):
        name = kernel.__name__.removesuffix('_kernel')
        if 'C' in constants:
            name += f' C={constants["C"]}'
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        number = sum(tensor.nbytes for tensor in tensors)
        axes = TILES.get(kernel.__name__, {})
        shown = dict.fromkeys(name for name in constants if name.startswith('BLOCK_'))
        chunk = args[kernel.arg_names.index('chunk')] if 'chunk' in kernel.arg_names else 0
        for changed, num_warps in _alternatives(constants, axes, warps):
            if chunk % {**constants, **changed}.get('BLOCK_M', 1):
                continue  # the kernel would leave pixels out
            values = {**constants, **changed}
            size = [*grid, 1][:2]
            for tile, axis in axes.items():
                if axis is not None:
                    size[axis] = -(-size[axis] * constants[tile] // values[tile])
            tiles = ' '.join([*(str(values[name]) for name in shown), f'warps={num_warps}'])
            used = not changed and num_warps == warps
            run = partial(kernel[tuple(size)], *args, num_warps=num_warps, **values)
            yield name, number, tiles, used, run


def _launches(dtype: torch.dtype, width: int) -> list[tuple]:
    """(kernel, grid, arguments, warps, constants) of every kernel in a step of a bottleneck."""
    seen = {}

    def record(kernel, grid, *args, num_warps=4, **constants):
        key = (kernel.__name__, *constants.values())
        seen[key] = kernel, grid, args, num_warps, constants
        launch(kernel, grid, *args, num_warps=num_warps, **constants)

    side = SIDES[width]
    stage = list(SIDES).index(width) + 1
    block = getattr(SBResNet(50), f'layer{stage}')[1].to('cuda', memory_format=torch.channels_last)
    x = torch.randn(BATCH, 4 * width, side, side, device='cuda', dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    launch, training.launch = training.launch, record
    try:
        with torch.autocast('cuda', dtype, enabled=dtype is not torch.float32):
            out = block(x)
        out.backward(torch.ones_like(out))
    finally:
        training.launch = launch
    return list(seen.values())


def _alternatives(constants: dict, axes: dict, warps: int) -> Iterator[tuple[dict, int]]:
    """What training uses, and one tile after the other half and twice as large, or other warps."""
    yield {}, warps
    if not axes:
        return
    yield {}, 12 - warps  # 4 or 8
    for tile in axes:
        for size in (constants[tile] // 2, constants[tile] * 2):
            most = constants['C'] if tile == 'BLOCK_C' else 128
            if (
                16 <= size <= most
                and constants.get('C', 0) % (size if tile == 'BLOCK_C' else 1) == 0
            ):
                yield {tile: size}, warps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('widths', nargs='*', type=int, metavar='WIDTH', help='default all')
    parser.add_argument('--type', choices=DTYPES, default='bf16', help='default bf16')
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='also write kernels_TYPE.json there'
    )
    args = parser.parse_args()
    wrong = [width for width in args.widths if width not in SIDES]
    if wrong or not torch.cuda.is_available():
        reason = (
            f'no stage is {wrong[0]} wide: give {[*SIDES]}' if wrong else 'there is no GPU here'
        )
        parser.error(reason)
    measure(args.type, args.widths or [*SIDES], args.out)


if __name__ == '__main__':
    main()
