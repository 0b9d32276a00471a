"""Write a page on `make chain`: accuracy, AP and mIoU per start, curves, pictures."""

import argparse

from mmsb.analysis.reports.chain import write_chain_report
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('out', metavar='OUT_DIR', help='folder for report.html, report.md and results.json')
    add('chains', nargs='+', metavar='CHAIN', help='folders from make chain, one per seed')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    path = write_chain_report(args.out, args.chains, log=print)
    print(f'report: {path}')


if __name__ == '__main__':
    main()
