"""Print the results that benchmark.py wrote as Markdown tables."""

import argparse
import json
from pathlib import Path

from mmsb.analysis.reports.page import as_markdown
from mmsb.benchmark.report import as_blocks
from mmsb.benchmark.results import from_json
from mmsb.engine import report_user_errors
from mmsb.utils.errors import UserError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+', type=Path, metavar='NAME.json')
    return parser.parse_args()


@report_user_errors
def main():
    for path in parse_args().files:
        try:
            values = json.loads(path.read_text())
            comparisons = list(map(from_json, values.pop('comparisons')))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path} is not a JSON file from benchmark.py ({error})') from error
        blocks = [('h2', path.stem), ('p', ', '.join(f'{k} {v}' for k, v in values.items()))]
        print(as_markdown(blocks + as_blocks(comparisons)))


if __name__ == '__main__':
    main()
