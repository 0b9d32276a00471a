"""Draw a miniature of COCO, in COCO's layout, with which a laptop can train a detector."""

import argparse

from mmsb.datasets.mini_coco import count_objects, draw_sheet, make_mini_coco
from mmsb.engine.cli import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add, two = parser.add_argument, {'type': int, 'nargs': 2, 'metavar': ('LO', 'HI')}
    add('out', nargs='?', default='data/mini_coco', help='folder to make')
    add('--train', type=int, default=240, metavar='N', help='images in train2017')
    add('--val', type=int, default=60, metavar='N', help='images in val2017')
    add('--size', **two, default=(160, 320), help='shortest and longest side of an image, pixels')
    add('--objects', **two, default=(4, 8), help='fewest and most annotated objects an image')
    add('--seed', type=int, default=0, help='another seed, other pictures')
    add('--workers', type=int, default=2, metavar='N', help='threads; the result is the same')
    add('--force', action='store_true', help='redraw a miniature that OUT already holds')
    add('--show', metavar='SHEET', help='also write a PNG of the first images with their boxes')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    root = make_mini_coco(
        args.out,
        num_train=args.train,
        num_val=args.val,
        size=tuple(args.size),
        objects=tuple(args.objects),
        seed=args.seed,
        num_workers=args.workers,
        force=args.force,
        log=print,
    )
    for name, (train, val) in count_objects(root).items():
        print(f'{name:15}{train:6} train{val:6} val')
    if args.show:
        draw_sheet(root, args.show)


if __name__ == '__main__':
    main()
