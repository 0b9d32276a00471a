"""Render a small synthetic data set in CIFAR-100's format, to train a classifier on a laptop."""

from mmsb.datasets.miniatures.cifar100 import SPLITS, draw_sheet, make_mini_cifar100
from mmsb.datasets.miniatures.folder import maker_arguments, tool_parser
from mmsb.engine.cli import report_user_errors


@report_user_errors
def main():
    parser = tool_parser(__doc__, 'data/mini_cifar100', 100, 20, 'images per class', SPLITS)
    args = parser.parse_args()
    root = make_mini_cifar100(args.out, **maker_arguments(args))
    if args.show:
        draw_sheet(root, args.show)


if __name__ == '__main__':
    main()
