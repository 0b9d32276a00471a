"""Write a page on the long-range tasks: accuracy over seeds and distances, cost, pictures."""

import argparse

from mmsb.engine import report_user_errors
from mmsb.studies.longrange.report import write_longrange_report


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('work_dir', help='work directory of tools/train_seeds.py with runs of configs/longrange')
    add(
        '--out',
        dest='out_dir',
        help='folder for the page and its pictures (default: WORK_DIR/report)',
    )
    return parser.parse_args()


@report_user_errors
def main():
    path = write_longrange_report(**vars(parse_args()), log=print)
    print(f'report: {path}')


if __name__ == '__main__':
    main()
