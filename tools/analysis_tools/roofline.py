"""Count the operations and bytes of SB-ResNet-50's blocks; bound their time on this device."""

import argparse

import torch

from mmsb.analysis.reports.page import as_text
from mmsb.analysis.roofline import count_work, measure_device, roofline_table
from mmsb.benchmark.running import versions
from mmsb.engine import report_user_errors
from mmsb.models import SBResNet
from mmsb.utils.errors import UserError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--batch', type=int, default=8, help='images per batch; default 8')
    add('--shape', type=int, nargs=2, default=(224, 224), metavar=('H', 'W'), help='default 224')
    add('--device', choices=('cpu', 'cuda'), help='default a GPU if there is one')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: there is no GPU here; leave it out or give cpu')
    if args.batch < 1 or min(args.shape) < 1:
        raise UserError('--batch and --shape must be positive')
    rates = measure_device(device)
    print(', '.join(f'{key} {value}' for key, value in versions(device).items()))
    print(f'measured: {rates[0] / 1e9:.0f} G MACs/s (fp32), {rates[1] / 1e9:.1f} GB/s')
    height, width = args.shape
    print(f'batch {args.batch}, {height}x{width}, norms folded; "added": by spatial bias')
    print(as_text(*roofline_table(count_work(SBResNet(50), args.batch, args.shape), *rates)))


if __name__ == '__main__':
    main()
