"""Convert an exported ONNX model to half precision or 8-bit integers."""

import argparse
import os

from mmengine.config import DictAction

from mmsb.deployment.quantizing import quantize
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('model', help='ONNX file')
    add('--to', choices=('fp16', 'int8'), required=True)
    add('--out', metavar='FILE', help='default NAME_fp16.onnx or NAME_int8.onnx')
    add('--config', help='int8: the config whose validation images are used for calibration')
    add('--num-images', type=int, default=64, metavar='N', help='how many; default 64')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    out = quantize(**vars(args))
    before, after = (os.path.getsize(path) / 1e6 for path in (args.model, out))
    print(f'{out}  {after:.2f} MB, from {before:.2f}')


if __name__ == '__main__':
    main()
