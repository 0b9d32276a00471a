"""Render a small synthetic data set in ImageNet's layout, to train a classifier on a laptop."""

from mmsb.datasets.miniatures.folder import maker_arguments, tool_parser
from mmsb.datasets.miniatures.imagenet import SPLITS, draw_sheet, make_mini_imagenet
from mmsb.engine.cli import report_user_errors


def parse_args():
    parser = tool_parser(__doc__, 'data/mini_imagenet', 40, 10, 'images per class', SPLITS)
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('LO', 'HI'),
        default=(96, 128),
        help='shortest and longest side of an image, pixels',
    )
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    root = make_mini_imagenet(args.out, size=tuple(args.size), **maker_arguments(args))
    if args.show:
        draw_sheet(root, args.show)


if __name__ == '__main__':
    main()
