"""Count parameters and multiply-accumulates of a config's model or backbone."""

import argparse

from mmengine.config import DictAction

from mmsb.analysis.config_counts import count_config
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file')
    add(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help="size of the image; default that of the config's test pipeline",
    )
    add('--backbone', action='store_true', help='count only the backbone')
    add(
        '--device',
        default='meta',
        help='meta (default; counts without computing), cpu or cuda',
    )
    add(
        '--convention',
        choices=('macs', 'thop'),
        default='macs',
        help="macs (default): convolution and linear layers; thop: the paper's, from thop 0.0.31",
    )
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    found = count_config(args.config, args.shape, args.device, args.backbone, args.cfg_options)
    counts, (height, width) = found.counts, found.shape
    part = 'backbone' if args.backbone else 'model'
    padding = f', padded to {found.padded[0]} x {found.padded[1]}'
    boxes = f', {found.proposals} proposals' if found.proposals else ''
    print(f'{args.config}, {part}')
    print(f'image       3 x {height} x {width}{padding * (found.padded != found.shape)}{boxes}')
    print(f'parameters  {counts.params:,}')
    if args.convention == 'macs':
        print(f'MACs        {counts.macs:,}  ({counts.macs / 1e9:.2f} G, convolution and linear)')
    else:
        print(f"operations  {counts.thop:,}  ({counts.thop / 1e9:.2f} G, the paper's convention)")
    if counts.matmul_macs:
        print(f'beside      {counts.matmul_macs:,} MACs in products of activations')


if __name__ == '__main__':
    main()
