"""Render a small synthetic data set in COCO's layout, to train a detector on a laptop."""

from mmsb.datasets.miniatures.coco import SPLITS, count_objects, draw_sheet, make_mini_coco
from mmsb.datasets.miniatures.folder import maker_arguments, tool_parser
from mmsb.engine.cli import report_user_errors


def parse_args():
    parser = tool_parser(__doc__, 'data/mini_coco', 240, 60, 'images', SPLITS)
    add, two = parser.add_argument, {'type': int, 'nargs': 2, 'metavar': ('LO', 'HI')}
    add('--size', **two, default=(160, 320), help='shortest and longest side of an image, pixels')
    add('--objects', **two, default=(4, 8), help='fewest and most annotated objects per image')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    root = make_mini_coco(
        args.out, size=tuple(args.size), objects=tuple(args.objects), **maker_arguments(args)
    )
    for name, (train, val) in count_objects(root).items():
        print(f'{name:15}{train:6} train{val:6} val')
    if args.show:
        draw_sheet(root, args.show)


if __name__ == '__main__':
    main()
