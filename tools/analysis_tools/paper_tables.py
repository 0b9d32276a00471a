"""Reproduce the paper's Tables 1-10: our Param and FLOPs beside the printed ones."""

import argparse
from pathlib import Path

from mmsb.engine import report_user_errors
from mmsb.studies.paper.tables import FORMATS, build_tables
from mmsb.utils.errors import UserError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--table', nargs='+', default=(), metavar='T1', help='only these tables, T1 to T10')
    add('--row', nargs='+', default=(), metavar='NAME', help='only these rows, by printed name')
    add('--format', choices=FORMATS, default='text', help='default text')
    add('--out', type=Path, metavar='FILE', help='file to write; default the terminal')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    text = FORMATS[args.format](build_tables(args.table, args.row))
    if args.out is None:
        print(text, end='')
        return
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding='utf-8')
    except OSError as error:
        raise UserError(f'cannot write {args.out}: {error.strerror or error}') from error


if __name__ == '__main__':
    main()
