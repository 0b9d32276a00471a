"""Train any config: ``python tools/train.py CONFIG [--help]``; dist_train.sh for N processes."""

from mmsb.engine import report_user_errors, train
from mmsb.engine.arguments import parse_train_args


@report_user_errors
def main():
    train(parse_train_args())


if __name__ == '__main__':
    main()
