"""Write a page on trained detectors: pictures with boxes, loss and AP curves, a table of APs."""

import argparse
import os
from pathlib import Path

from mmsb.analysis.reports.detection import write_report
from mmsb.engine import report_user_errors
from mmsb.utils.errors import UserError


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Each work directory must have the logs of a training and what a test writes: '
        'tools/dist_test.sh CONFIG CHECKPOINT N --work-dir WORK_DIR --out WORK_DIR/predictions.pkl '
        '--metrics-out WORK_DIR/metrics.json. Pickles can run code: open only files that you made.',
    )
    add = parser.add_argument
    add('out', metavar='OUT_DIR', help='folder for report.html, report.md and their pictures')
    add('--run', action='append', required=True, metavar='NAME=WORK_DIR', help='once per run')
    add(
        '--coco',
        default=os.environ.get('MMSB_COCO_ROOT', 'data/mini_coco'),
        metavar='ROOT',
        help='the data set of the tests; default $MMSB_COCO_ROOT or data/mini_coco',
    )
    add('--images', type=int, default=6, metavar='N', help='pictures to show; default 6')
    add('--score', type=float, default=0.5, help='lowest score of boxes to show; default 0.5')
    return parser.parse_args()


def parse_runs(texts: list[str]) -> dict[str, Path]:
    runs = {}
    for text in texts:
        name, _, work_dir = text.partition('=')
        if not name or not work_dir:
            raise UserError(f'--run {text}: give NAME=WORK_DIR')
        if name in runs:
            raise UserError(f'--run {text}: {name} is given twice, give another name')
        runs[name] = Path(work_dir)
    return runs


@report_user_errors
def main():
    args = parse_args()
    path = write_report(
        args.out,
        parse_runs(args.run),
        args.coco,
        num_images=args.images,
        min_score=args.score,
        log=print,
    )
    print(f'report: {path}')


if __name__ == '__main__':
    main()
