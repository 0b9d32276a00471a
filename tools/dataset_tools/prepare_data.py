"""Make a data set's folder, as the configs read it, from the archives that its site gives."""

import argparse

from mmsb.datasets.preparing.preparing import check_data, prepare_data
from mmsb.datasets.preparing.recipes import RECIPES
from mmsb.engine.cli import report_user_errors
from mmsb.utils.errors import UserError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('data', choices=RECIPES, help='the data set')
    add('source', nargs='?', help='folder with the archives, or the address of the site')
    add('dest', help='folder to make, e.g. data/coco')
    add('--check', action='store_true', help='verify DEST; SOURCE is not needed')
    add('--subset', action='store_true', help='accept a part of the data set: other counts and MD5')
    add('--workers', type=int, metavar='N', help='processes; default: one per core, at most 16')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    options = dict(subset=args.subset, workers=args.workers)
    if args.check:
        if args.source:
            raise UserError(f'--check verifies one folder: give {args.source} or {args.dest}')
        check_data(args.data, args.dest, **options)
    elif not args.source:
        raise UserError('give the folder with the archives and the folder to make')
    else:
        prepare_data(args.data, args.source, args.dest, **options)


if __name__ == '__main__':
    main()
