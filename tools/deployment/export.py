"""Export a model to ONNX, TorchScript or torch.export, and compare the file with the model."""

import argparse

from mmengine.config import DictAction

from mmsb.deployment.exporting import SUFFIXES, export
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file')
    add('checkpoint', help='checkpoint file')
    add('--format', choices=list(SUFFIXES), default='onnx', help='default onnx')
    add('--out', metavar='FILE', help="default beside the checkpoint, with the checkpoint's name")
    add(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help="size of the image; default that of the config's test pipeline, padded",
    )
    add('--batch', type=int, default=1, metavar='N', help='images per batch; default 1')
    add('--dynamic', action='store_true', help='allow any batch size, height and width')
    add('--backbone', action='store_true', help='export only the backbone')
    add('--fuse-conv-bn', action='store_true', help='fold batch norms into convolutions')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


@report_user_errors
def main():
    done = export(**vars(parse_args()))
    if done.note:
        print(f'note: {done.note}')
    print(f'{"input":<18} {"output":<12} {"largest difference":>18}  of the largest value')
    for check in done.checks:
        shape = ' x '.join(map(str, check.shape))
        print(f'{shape:<18} {check.output:<12} {check.absolute:>18.1e}  {check.relative:.1e}')
    print(done.path)


if __name__ == '__main__':
    main()
