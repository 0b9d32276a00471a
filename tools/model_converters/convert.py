"""Convert a ResNet checkpoint to the layout of torchvision, the authors' release or mmsb."""

import argparse

from mmsb.checkpoints.converting import LAYOUTS, convert_checkpoint
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The source's layout is detected from its keys: torchvision, timm, mmdet, mmseg, "
        'mmpretrain, the release, mmsb.',
    )
    add = parser.add_argument
    add('source', metavar='IN', help='checkpoint to read')
    add('target', metavar='OUT', help='checkpoint to write')
    add('--to', choices=LAYOUTS, required=True, help='the layout to write')
    add('--ema', action='store_true', help="use the averaged weights in timm's file")
    add('--prefix', help='which ResNet, if the file holds several, e.g. encoder_q.')
    add('--force', action='store_true', help='overwrite an existing file')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    convert_checkpoint(
        args.source, args.target, args.to, args.ema, args.force, log=print, prefix=args.prefix
    )


if __name__ == '__main__':
    main()
