"""Mean and standard deviation over seeds, as in the paper's Table 1."""

import re
from pathlib import Path

from mmsb.analysis.reports.page import NONE, as_markdown, mean_and_spread


def seed_table(runs: list[dict]) -> str:
    """Format each config's last and best validation over its seeds as a Markdown table.

    The standard deviation is the sample's (n - 1) and is omitted for one seed. Top-k accuracies
    are shown as errors in percent, other metrics as logged, without the prefix.

    Args:
        runs: What :func:`mmsb.engine.seeds.train_seeds` returns; ``best`` may be missing.
    """
    metrics = list(dict.fromkeys(name for run in runs for name in run['last']))
    rows = []
    for config in dict.fromkeys(Path(run['config']).stem for run in runs):
        for which in ('last', 'best'):
            of_config = [run for run in runs if Path(run['config']).stem == config and which in run]
            if of_config:
                found = [run[which] for run in of_config]
                cells = [_cell(name, [f[name] for f in found if name in f]) for name in metrics]
                rows.append([config, str(len(found)), which, *cells])
    head = ['config', 'seeds', 'validation', *map(_title, metrics)]
    return as_markdown(
        [
            ('table', head, rows),
            (
                'p',
                'Mean ± standard deviation over the seeds (of a sample, n - 1). Last: the '
                'validation that ends a training; best: the one whose first metric is highest.',
            ),
        ]
    )


def _error(metric: str) -> str | None:
    """Get k of a top-k accuracy metric, which is shown as an error; None for other metrics."""
    found = re.fullmatch(r'accuracy/top(\d+)', metric)
    return found and found[1]


def _title(metric: str) -> str:
    return f'Top-{k} error (%)' if (k := _error(metric)) else metric.split('/')[-1]


def _cell(metric: str, values: list[float]) -> str:
    if not values:
        return NONE
    if _error(metric):
        values = [100 - value for value in values]
    digits = 2 if _error(metric) or max(map(abs, values)) > 1 else 3
    return mean_and_spread(values, digits)
