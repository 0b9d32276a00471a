"""Predicts on images with any trained config: boxes, segments or classes, drawn on copies."""

import argparse

from mmsb.engine import report_user_errors
from mmsb.inference.predicting import predict_images


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('images', nargs='+', metavar='IMAGE', help='images, or folders of them')
    add('config', help='config file')
    add('checkpoint', help='checkpoint file')
    add('--out-dir', default='predictions', help='folder for the drawn images')
    add('--device', help='as cpu or cuda:0; default a GPU where there is one')
    add('--score', type=float, default=0.3, help='lowest score of a box to draw; default 0.3')
    add('--out', metavar='NAME.json', help='write the predictions')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    found = predict_images(
        args.images, args.config, args.checkpoint, args.out_dir, args.device, args.score, args.out
    )
    for path, picture, line in found:
        print(f'{path}: {line} -> {picture}')


if __name__ == '__main__':
    main()
