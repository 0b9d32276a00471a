"""Print the paper's Table 11, models compared with humans, from model-vs-human responses."""

import argparse

from mmsb.engine import report_user_errors
from mmsb.studies.ood.report import report, score_observers


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Each folder has files DATASET/DATASET_NAME_session-N.csv from any observers: '
        "model-vs-human's raw-data has the humans' responses; tools/test.py with a config in "
        "configs/ood writes a model's to WORK_DIR/responses.",
    )
    parser.add_argument('folders', nargs='+', metavar='FOLDER', help='folder with responses')
    return parser.parse_args()


@report_user_errors
def main():
    print(report(score_observers(parse_args().folders)))


if __name__ == '__main__':
    main()
