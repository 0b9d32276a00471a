"""Draw the maps of spatial bias over images, block by block, for any trained config."""

import argparse

from mmsb.analysis.pictures.spatial_bias_maps import draw_images
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('images', nargs='+', metavar='IMAGE', help='images, or folders of them')
    add('config', help='config file')
    add('checkpoint', help='checkpoint file')
    add('--out-dir', default='spatial_bias', help='folder for the sheets; default %(default)s')
    add('--blocks', nargs='+', metavar='NAME', help='e.g. layer1.0; default all')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    found = draw_images(args.images, args.config, args.checkpoint, args.out_dir, args.blocks)
    for path, out, line in found:
        print(f'{path}: {line} -> {out}')


if __name__ == '__main__':
    main()
