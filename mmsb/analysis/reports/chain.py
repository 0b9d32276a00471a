"""Report on ``make chain``: pretraining, transfer and evaluation, compared by initial weights."""

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config

from mmsb.analysis.charts import new_figure, save_figure, style_axes
from mmsb.analysis.reports.differences import EXPLANATION, ONE_SEED, difference_table
from mmsb.analysis.reports.page import as_text, mean_and_spread, write_page
from mmsb.engine.training_log import read_log, trained_for, unit
from mmsb.utils.environment import device_name
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing

# task folder: title and metrics of its table; the first metric is also plotted
TASKS = dict(
    classification=('Classification, mini ImageNet', {'accuracy/top1': 'top-1 (%)'}),
    detection=(
        'Detection, mini COCO',
        {'coco/bbox_mAP': 'AP', 'coco/bbox_mAP_50': 'AP50', 'coco/bbox_mAP_75': 'AP75'},
    ),
    segmentation=('Segmentation, mini ADE20K', {'mIoU': 'mIoU', 'mAcc': 'mAcc', 'aAcc': 'aAcc'}),
)
# run folder: title
RUNS = dict(
    resnet='ResNet-18',
    sb='SB-ResNet-18',
    scratch='SB-ResNet-18, from scratch',
    pretrained='SB-ResNet-18, pretrained',
    grow='SB-ResNet-18, grown from the pretrained ResNet-18',
)
COLOURS = dict(
    resnet='#7f7f7f', sb='#1f77b4', scratch='#7f7f7f', pretrained='#1f77b4', grow='#d95f02'
)


def write_chain_report(
    out_dir: str | os.PathLike,
    chains: Sequence[str | os.PathLike],
    log: Callable[[str], None] | None = None,
) -> Path:
    """Write ``report.html``, ``report.md``, ``results.json`` and their pictures.

    Args:
        out_dir: Folder to write into, created if missing.
        chains: Folders that ``make chain`` wrote, each with another seed. Each ``TASK/RUN`` holds
            the logs of a training, the ``metrics.json`` of its test, and pictures in ``drawn``.
            Curves and pictures are taken from the first.
        log: Called with each table as text. Defaults to None.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: A chain lacks a run, two chains have the same seed, or ``out_dir`` cannot be
            written.
    """
    chains = [Path(chain) for chain in chains]
    if not chains:
        raise UserError('give at least one folder of make chain')
    out = Path(out_dir)
    runs = {task: _runs(chains[0], task) for task in TASKS}
    _check_seeds(chains)
    metrics = {
        task: {run: [_metrics(chain / task / run) for chain in chains] for run in names}
        for task, names in runs.items()
    }
    with replacing(out / 'results.json') as part:
        found = dict(device=device_name(), seeds=len(chains), metrics=metrics)
        part.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    save_figure(_draw_curves(chains[0], runs), out / 'curves.png')

    seeds = f'mean ± standard deviation of {len(chains)} seeds' if len(chains) > 1 else 'one seed'
    blocks = [
        ('h1', 'Pretrain, transfer, evaluate'),
        ('p', f'Synthetic miniature data sets, narrow networks, {seeds}. On {device_name()}.'),
        ('p', EXPLANATION if len(chains) > 1 else ONE_SEED),
    ]
    for task, (title, names) in TASKS.items():
        table = _table(metrics[task], names)
        blocks += [('h2', title), ('table', *table)]
        if task != 'classification':
            blocks.append(('p', 'Pictures: the truth on the left, what was found on the right.'))
        differences = _differences(metrics[task], names)
        if len(chains) > 1:
            blocks.append(('table', *differences))
        if log:
            log(f'{title}\n{as_text(*table)}\n')
            if len(chains) > 1:
                log(as_text(*differences) + '\n')
        for run in runs[task]:
            picture = _draw_pictures(chains[0] / task / run / 'drawn', out / f'{task}_{run}.png')
            if picture:
                blocks += [('p', RUNS[run]), ('img', picture, f'{title}: {RUNS[run]}')]
    blocks += [('h2', 'Validation while training'), ('img', 'curves.png', 'validation curves')]
    return write_page(out, blocks)


def _runs(chain: Path, task: str) -> list[str]:
    names = [name for name in RUNS if (chain / task / name).is_dir()]
    if not names:
        raise UserError(f'{chain} has no run of {task}: make chain has not been through it')
    return names


def _check_seeds(chains: list[Path]) -> None:
    """Raise an error if a chain is given twice, or two were trained with the same seed."""
    seen: dict[object, Path] = {}
    for chain in chains:
        # the config that mmengine writes beside its logs
        found = next(iter(sorted(chain.glob('*/*/*.py'))), None)
        seed = Config.fromfile(found).get('randomness', {}).get('seed') if found else None
        for key in (chain.resolve(), *([] if seed is None else [seed])):
            if key in seen:
                raise UserError(
                    f'{seen[key]} and {chain} have the same seed, so their difference says '
                    'nothing about chance: run make chain CHAIN=FOLDER SEED=N with another N for '
                    'each folder'
                )
            seen[key] = chain


def _metrics(folder: Path) -> dict[str, float]:
    path = folder / 'metrics.json'
    if not path.is_file():
        raise UserError(f'{path} does not exist: this run of make chain is not finished')
    return json.loads(path.read_text(encoding='utf-8'))


def _table(found: dict[str, list[dict]], names: dict[str, str]) -> tuple[list[str], list]:
    rows = []
    for run, of_seeds in found.items():
        values = [[metrics.get(key, math.nan) for metrics in of_seeds] for key in names]
        cells = [mean_and_spread(v, _digits(v)) for v in values]
        rows.append([RUNS[run], *cells])
    return ['start', *names.values()], rows


def _digits(values: list[float]) -> int:
    return 1 if any(value > 1 for value in values) else 3


def _differences(
    found: dict[str, list[dict]], names: dict[str, str]
) -> tuple[list[str], list[list[str]]]:
    """Tabulate the differences to the first run, paired by chain: each has its own seed."""
    values = {
        RUNS[run]: {
            key: {n: metrics[key] for n, metrics in enumerate(of_seeds) if key in metrics}
            for key in names
        }
        for run, of_seeds in found.items()
    }
    columns = {
        key: (name, _digits([v for row in values.values() for v in row[key].values()]))
        for key, name in names.items()
    }
    return difference_table(values, next(iter(values)), columns)


def _draw_curves(chain: Path, runs: dict[str, list[str]]) -> Figure:
    figure = new_figure((13.2, 4))
    for axes, (task, (title, names)) in zip(figure.subplots(1, 3), TASKS.items(), strict=True):
        key, name = next(iter(names.items()))
        for run in runs[task]:
            training = read_log(chain / task / run)
            points = [(line['step'], line[key]) for line in training.val if key in line]
            axes.plot(
                *zip(*points, strict=True) if points else ((), ()),
                color=COLOURS[run], marker='o', lw=1.8, label=RUNS[run].split(', ')[-1],
            )  # fmt: skip
        axes.set(title=title, ylabel=name, xlabel=unit(training.train))
        axes.set_xlim(0, trained_for(training.train) * 1.04)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.3)  # room for the legend
        style_axes(axes, integers=True)
        if points:
            axes.legend(frameon=False, loc='upper left')
    return figure


def _draw_pictures(folder: Path, out: Path, number: int = 4, height: int = 200) -> str | None:
    """Join a folder's first pictures side by side; return the file name, None if no picture."""
    paths = sorted(p for p in folder.rglob('*') if p.suffix in ('.png', '.jpg'))[:number]
    if not paths:
        return None
    pictures = [cv2.imread(str(path)) for path in paths]
    pictures = [cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height)) for p in pictures]
    gap = np.full((height, 8, 3), 255, np.uint8)
    row = [part for picture in pictures for part in (picture, gap)][:-1]
    cv2.imwrite(str(out), cv2.hconcat(row))
    return out.name
