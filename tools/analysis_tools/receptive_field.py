"""Draw the effective receptive field of each stage, for several networks in one picture."""

import argparse

from mmengine.config import DictAction

from mmsb.analysis.pictures.receptive_field import receptive_fields, table
from mmsb.analysis.reports.page import as_text
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file')
    add('checkpoint', nargs='?', help='checkpoint file; default random weights')
    add(
        '--beside',
        nargs='+',
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='another network, with its checkpoint or random weights; may be repeated',
    )
    add('--images', nargs='+', default=[], help='images or folders of them; default noise')
    add('--size', type=int, help="side of the images; default the config's shorter side")
    add('--stages', type=int, nargs='+', help='counted from 1; default all')
    add('--out', default='work_dirs/receptive_field', help='folder; default %(default)s')
    add('--seed', type=int, default=0, help='for random weights, noise and signs; default 0')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


@report_user_errors
def main():
    args = vars(parse_args())
    networks = [[*filter(None, (args.pop('config'), args.pop('checkpoint')))], *args.pop('beside')]
    fields = receptive_fields(networks, **args)
    size = len(fields[0].contribution)
    print(f'{"images" if args["images"] else "noise images"}, {size} x {size} pixels')
    print(as_text(*table(fields)))
    print(f'{args["out"]}/receptive_field.png, .csv')


if __name__ == '__main__':
    main()
