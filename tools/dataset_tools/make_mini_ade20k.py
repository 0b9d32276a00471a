"""Render a small synthetic data set in ADE20K's layout, to train a segmentor on a laptop."""

from mmsb.datasets.miniatures.ade20k import SPLITS, count_images, draw_sheet, make_mini_ade20k
from mmsb.datasets.miniatures.folder import maker_arguments, tool_parser
from mmsb.engine.cli import report_user_errors


def parse_args():
    parser = tool_parser(__doc__, 'data/mini_ade20k', 240, 60, 'images', SPLITS)
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        default=(144, 192),
        help='height and width of the images, pixels',
    )
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    root = make_mini_ade20k(args.out, size=tuple(args.size), **maker_arguments(args))
    for name, (train, val) in count_images(root).items():
        print(f'{name:20}{train:6} train{val:6} val')
    if args.show:
        draw_sheet(root, args.show)


if __name__ == '__main__':
    main()
