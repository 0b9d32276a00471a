"""Test any config: ``python tools/test.py CONFIG CHECKPOINT``; dist_test.sh for N processes."""

from mmsb.engine import report_user_errors, test
from mmsb.engine.arguments import parse_test_args


@report_user_errors
def main():
    test(parse_test_args())


if __name__ == '__main__':
    main()
