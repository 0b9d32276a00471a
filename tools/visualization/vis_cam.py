"""Draw class activation maps of classifiers, detectors and segmentors, side by side."""

import argparse

from mmsb.analysis.pictures.cam import METHODS
from mmsb.analysis.pictures.cam_sheets import explain_images
from mmsb.engine import report_user_errors


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage='%(prog)s IMAGE [IMAGE ...] CONFIG CHECKPOINT [options]\n'
        '       %(prog)s IMAGE [IMAGE ...] --network NAME CONFIG CHECKPOINT '
        '[--network ...] [options]',
    )
    add = parser.add_argument
    add('paths', nargs='+', metavar='IMAGE', help='images, or folders of them')
    add(
        '--network',
        nargs=3,
        action='append',
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='a network, one column of the sheet; may be repeated',
    )
    add('--out-dir', default='cams', help='folder for the sheets, one per image; default cams')
    add('--method', help=f'{", ".join(METHODS)}; default gradcam, for detectors layercam')
    add(
        '--layers',
        nargs='+',
        default=(),
        metavar='NAME',
        help="layers, one row each, e.g. backbone.layer3; default the backbone's last stage",
    )
    add(
        '--spatial-bias',
        action='store_true',
        help="compare the convolution's channels with spatial bias's inside blocks; --layers names "
        'the blocks, e.g. backbone.layer2.1; default the last block of each stage',
    )
    add('--category', help='class to explain, by name or index; default the predicted one')
    add('--score', type=float, default=0.3, help='lowest score of boxes to explain; default 0.3')
    args = parser.parse_args()
    if args.network is None:
        if len(args.paths) < 3:
            parser.error('give images, a config and a checkpoint, or images and --network')
        *args.paths, config, checkpoint = args.paths
        args.network = [('network', config, checkpoint)]
    return args


@report_user_errors
def main():
    args = parse_args()
    found = explain_images(
        args.paths,
        args.network,
        args.out_dir,
        args.method,
        args.layers,
        args.category,
        args.score,
        args.spatial_bias,
    )
    for path, out, line in found:
        print(f'{path}: {line} -> {out or "no sheet"}')


if __name__ == '__main__':
    main()
