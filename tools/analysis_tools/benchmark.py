"""Compare throughput and memory of networks: one process, interleaved rounds, medians."""

import argparse
from pathlib import Path

from mmsb.benchmark.measuring import DTYPES, LAYOUTS
from mmsb.benchmark.results import PARTS
from mmsb.benchmark.running import PRESETS, run_benchmark
from mmsb.deployment.runtime import RUNTIMES
from mmsb.engine import report_user_errors


def shape(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition('x')
    return int(height), int(width or height)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('networks', nargs='*', help="configs, ONNX files, networks named in Tables 8 and 9, "
        "or 'stock', mmdet's ResNet-50; the first is the baseline")  # fmt: skip
    add('--preset', choices=PRESETS, help='a predefined choice of networks and settings')
    add('--mode', choices=PARTS, nargs='+', help='default inference')
    add('--batch', type=int, nargs='+', metavar='N', help='images per step; default 8')
    add('--shape', type=shape, nargs='+', metavar='HxW', help='default 224x224')
    add('--dtype', choices=DTYPES, nargs='+', help='default fp32; the others use autocast, or '
        'with --fuse convert the weights')  # fmt: skip
    add('--layout', choices=LAYOUTS, nargs='+', help='default nchw; nhwc is channels last')
    add('--fuse', action='store_true', help='fold batch norms of all networks (inference)')
    add('--compile', action='store_true', help='use torch.compile for all networks')
    add('--no-kernels', action='store_true', help="run PyTorch's operators instead of the kernels "
        'of unfused networks (GPU)')  # fmt: skip
    add('--graph', action='store_true', help='record each step as a CUDA graph; in training the '
        'forward and backward pass, without the optimizer (GPU)')  # fmt: skip
    add('--data', action='store_true', help="training batches from the configs' own data loaders")
    add('--operators', action='store_true', help="time per operator, from PyTorch's profiler; "
        'on a GPU time per kernel, and the number of launches')  # fmt: skip
    add('--rounds', type=int, default=10, metavar='N', help='measured rounds; default 10')
    add('--min-seconds', type=float, default=0.3, metavar='S', help='per turn; default 0.3')
    add('--threads', type=int, metavar='N', help="CPU threads; default PyTorch's. "
        'With 1, processor time is measured, which other processes disturb less')  # fmt: skip
    add('--runtime', choices=list(RUNTIMES), nargs='+', default=['onnxruntime'],
        help='what runs ONNX files, each file in each; default onnxruntime')  # fmt: skip
    add('--device', choices=('cpu', 'cuda'), help='default a GPU if there is one')
    add('--out', type=Path, metavar='DIR', help='also write NAME.json, .csv and .png there')
    add('--name', help='name of these files; default the preset, or benchmark')
    return parser.parse_args()


@report_user_errors
def main():
    run_benchmark(parse_args())


if __name__ == '__main__':
    main()
