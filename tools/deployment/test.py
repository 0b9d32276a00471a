"""Test an exported model with the data and metrics of its config."""

import argparse

from mmengine.config import DictAction

from mmsb.deployment.evaluating import evaluate
from mmsb.deployment.runtime import RUNTIMES
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file')
    add('model', help='ONNX file')
    add('--runtime', choices=list(RUNTIMES), default='onnxruntime', help='default onnxruntime')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


@report_user_errors
def main():
    for name, value in evaluate(**vars(parse_args())).items():
        print(f'{name:<20} {value:.4f}')


if __name__ == '__main__':
    main()
