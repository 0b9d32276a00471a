"""Mean and standard deviation over seeds, as in the paper's Table 1, and differences of configs."""

import math
import re
from pathlib import Path

from mmsb.analysis.reports.differences import EXPLANATION, difference_table
from mmsb.analysis.reports.page import as_markdown, mean_and_spread


def seed_table(runs: list[dict], baseline: str | None = None) -> str:
    """Format each config's last and best validation over its seeds as Markdown tables.

    The first table has mean and sample standard deviation (n - 1), omitted for one seed. Of
    several configs, two more have the differences to the baseline, paired by seed (see
    :mod:`mmsb.analysis.reports.differences`). Top-k accuracies are shown as errors in percent,
    other metrics as logged, without the prefix. Configs that were validated on other data than the
    baseline are named, not compared. NaN and COCO's -1, of sizes without objects, are left out.

    Args:
        runs: What :func:`mmsb.engine.seeds.train_seeds` returns; ``best`` may be missing.
        baseline: The config that the others are compared with. Defaults to None: the first.
    """
    metrics = list(dict.fromkeys(name for run in runs for name in run['last']))
    columns = {name: (_title(name), _digits(runs, name)) for name in metrics}
    configs = list(dict.fromkeys(Path(run['config']).stem for run in runs))
    shown = {'last': {}, 'best': {}}  # validation -> config -> metric -> seed -> value
    rows = []
    for config in configs:
        for which, of_configs in shown.items():
            found = [run for run in runs if Path(run['config']).stem == config and which in run]
            if found:
                values = of_configs[config] = {
                    name: _values(found, which, name) for name in metrics
                }
                cells = [mean_and_spread(list(values[n].values()), columns[n][1]) for n in metrics]
                rows.append([config, str(len(found)), which, *cells])
    blocks = [
        ('table', ['config', 'seeds', 'validation', *map(_title, metrics)], rows),
        (
            'p',
            'Mean ± standard deviation over the seeds (of a sample, n - 1). Last: the '
            'validation that ends a training; best: the one with the highest mIoU or box AP, for '
            'other tasks the highest first metric.',
        ),
    ]
    name = Path(baseline).stem if baseline else configs[0]
    if name not in configs:
        blocks.append(('p', f'No differences: no run of the baseline, {name}, is finished.'))
    elif len(configs) > 1:
        data = {Path(run['config']).stem: run.get('validation_sha256') for run in runs}
        others = [c for c in configs if None not in (data[c], data[name]) and data[c] != data[name]]
        for which, values in shown.items():
            compared = {config: of for config, of in values.items() if config not in others}
            if len(compared) > 1:
                title = f'{which} validation, difference to {{}}'
                blocks.append(('table', *difference_table(compared, name, columns, title)))
        if others:
            listed = ', '.join(others)
            blocks.append(('p', f'Not compared, as validated on other data than {name}: {listed}.'))
        if len(others) < len(configs) - 1:
            blocks.append(('p', EXPLANATION))
    return as_markdown(blocks)


def _error(metric: str) -> str | None:
    """Get k of a top-k accuracy metric, which is shown as an error; None for other metrics."""
    found = re.fullmatch(r'accuracy/top(\d+)', metric)
    return found and found[1]


def _title(metric: str) -> str:
    return f'Top-{k} error (%)' if (k := _error(metric)) else metric.split('/')[-1]


def _values(runs: list[dict], which: str, metric: str) -> dict[int, float]:
    """Return seed -> value as shown; NaN if a run lacks the metric, and for COCO's -1."""
    found = {run['seed']: run[which].get(metric, math.nan) for run in runs}
    if re.search(r'mAP|AR(_[sml])?@|_precision$', metric):
        found = {seed: value if value >= 0 else math.nan for seed, value in found.items()}
    return {seed: 100 - v if _error(metric) else v for seed, v in found.items()}


def _digits(runs: list[dict], metric: str) -> int:
    """Return the number of decimals that a metric is shown with."""
    values = [run['last'].get(metric, 0) for run in runs]
    return 2 if _error(metric) or any(abs(value) > 1 for value in values) else 3
