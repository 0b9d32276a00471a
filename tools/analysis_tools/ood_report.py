"""The paper's Table 11: models beside humans on model-vs-human's data, from their responses."""

import argparse

from mmsb.engine import report_user_errors
from mmsb.studies.ood.report import report, score_observers


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Each folder holds DATASET/DATASET_NAME_session-N.csv of any observers: '
        "model-vs-human's raw-data has the humans, tools/test.py with a config of configs/ood "
        'leaves those of a model in WORK_DIR/responses.',
    )
    parser.add_argument('folders', nargs='+', metavar='FOLDER', help='with responses')
    return parser.parse_args()


@report_user_errors
def main():
    print(report(score_observers(parse_args().folders)))


if __name__ == '__main__':
    main()
