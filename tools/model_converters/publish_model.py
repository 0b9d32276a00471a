"""Prepare a trained checkpoint for publication: no training state, a hash in the name."""

import argparse

from mmsb.checkpoints.publishing import publish_checkpoint
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('source', metavar='IN', help='checkpoint from training')
    add('target', metavar='OUT', help='NAME.pth; NAME-<hash>.pth is written')
    add('--force', action='store_true', help='overwrite an existing file')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    print(publish_checkpoint(args.source, args.target, args.force, log=print))


if __name__ == '__main__':
    main()
