"""A page on the long-range tasks: which networks solve them, at which distance and cost."""

import json
import os
import re
import statistics
import textwrap
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope

from mmsb.analysis.charts import new_figure, save_figure, style_axes
from mmsb.analysis.reports.differences import EXPLANATION, difference_table
from mmsb.analysis.reports.page import as_text, mean_and_spread, write_page
from mmsb.engine.config import read_model_config
from mmsb.engine.seeds import check_same_settings, read_run
from mmsb.engine.training_log import read_log
from mmsb.inference.loading import load_model
from mmsb.studies.longrange.dataset import CHANCE, IGNORED, ORDER_POOLED, PALETTE, POOLED, TASKS
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing

CONFIG = re.compile(r'fcn_(?P<network>.+)_\d+_longrange-(?P<task>' + '|'.join(TASKS) + ')')
# names of the compared networks in configs -> title, colour; other networks are ablations
NETWORKS = {
    'r14': ('plain', '#7f7f7f'),
    'se_r14': ('SE', '#8c564b'),
    'gc_r14': ('GC', '#2ca02c'),
    'nl_r14': ('NL', '#9467bd'),
    'bat_r14': ('BAT', '#d95f02'),
    'ca_r14': ('coordinate attention', '#e377c2'),
    'gf_r14': ('global filter', '#bcbd22'),
    'lk_r14': ('large kernel', '#17becf'),
    'ea_r14': ('efficient attention', '#d62728'),
    'contmix_r14': ('ContMix', '#ff9896'),
    'sb_r14-size4': ('SB, grid 4', '#c6dbef'),
    'sb_r14-size6': ('SB, grid 6', '#6baed6'),
    'sb_r14': ('SB', '#1f77b4'),
}
# ablations as in the paper's tables -> networks, in the order of the rows
ABLATIONS = dict(
    Grid=['r14', 'sb_r14-size2', 'sb_r14-size4', 'sb_r14-size6', 'sb_r14', 'sb_r14-size16'],
    Maps=['r14', 'sb_r14-bias1', 'sb_r14-bias2', 'sb_r14', *(f'sb_r14-bias{n}' for n in (4, 5, 6))],
    Components=['sb_r14', 'sb_r14-add', 'sb_r14-maxpool', 'sb_r14-pool-only'],
    Stages=['r11', *(f'sb_r11-{stages}' for stages in ('s1', 's2', 's3', 's12', 's123'))],
)
SOLVED = 99  # training accuracy in percent; no image is seen twice
Runs = dict[str, dict[str, list[tuple[Path, dict]]]]  # network, task: folders and records


def write_longrange_report(
    work_dir: str | os.PathLike,
    out_dir: str | os.PathLike | None = None,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Write ``report.html``, ``report.md``, ``results.json`` and their pictures.

    Args:
        work_dir: The work directory of ``tools/train_seeds.py`` with runs of ``configs/longrange``,
            ``CONFIG/seed_N``. Unfinished runs are left out.
        out_dir: Folder to write to; created if missing. Defaults to None: ``work_dir/report``.
        log: Called with each table as text. Defaults to None.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: ``work_dir`` has no finished run of these configs, or a file in it is missing or
            damaged.
    """
    work_dir = Path(work_dir)
    out = Path(out_dir) if out_dir else work_dir / 'report'
    runs = _finished(work_dir)
    compared = {network: runs[network] for network in NETWORKS if network in runs}
    tables = {'Networks': compared, **_ablations(runs)}
    records = [
        dict(record, solved_at=_solved_at(folder))
        for tasks in runs.values()
        for of in tasks.values()
        for folder, record in of
    ]
    devices = ', '.join(dict.fromkeys(record['device'] for record in records))
    with replacing(out / 'results.json') as part:
        part.write_text(json.dumps(dict(runs=records), indent=1) + '\n', encoding='utf-8')

    blocks = [
        ('h1', 'Long-range tasks'),
        (
            'p',
            'Pixel accuracy in percent on validation images, mean ± standard deviation over the '
            f'seeds, whose number is in parentheses. Chance is {CHANCE:.1f}; a network that knows '
            "the keys, not their places (but on 'order' those at the edge), can expect at most "
            + ', '.join(f"{bound:.1f} on '{task}'" for task, bound in POOLED.items())
            + f". '{SOLVED} % after' is the iteration at which the logged training accuracy "
            f'reaches {SOLVED} %, over the seeds that reach it; no training image is seen twice. '
            f'Trained on {devices}; seconds per iteration are medians over the logs.',
        ),
        ('p', EXPLANATION),
    ]
    for title, found in tables.items():
        if found:
            head, rows = _table(found)
            blocks += [('h2', title), ('table', head, rows)]
            if log:
                log(f'{title}\n{as_text(head, rows)}\n')
            if len(found) > 1 and title != 'Others':  # others have no common baseline
                differences = _differences(found)
                blocks.append(('table', *differences))
                if log:
                    log(as_text(*differences) + '\n')
    at_edge = _at_edge(compared)
    if at_edge[1]:
        bounds = ', '.join(f'{bound:.1f}' for bound in ORDER_POOLED)
        text = (
            "Accuracy on 'order' by the number of keys at the image's top or bottom edge. Zero "
            'padding tells a network that such a key is the first or the last. One that knows the '
            f'places of no other keys can expect at most {bounds}.'
        )
        blocks += [('h2', 'Order: keys at the edge'), ('p', text), ('table', *at_edge)]
        if log:
            log(f'{text}\n{as_text(*at_edge)}\n')
    if compared:
        save_figure(_draw_distances(compared), out / 'distance.png')
        save_figure(draw_scenes(compared), out / 'scenes.png')
        blocks += [
            ('h2', 'Accuracy against the distance between object and key'),
            ('img', 'distance.png', 'accuracy against distance'),
            ('h2', 'Images and predictions'),
            ('img', 'scenes.png', 'image, truth and predictions'),
        ]
    return write_page(out, blocks)


def _finished(work_dir: Path) -> Runs:
    """Return the finished runs by network (in the order of `NETWORKS`, then by name) and task."""
    runs = {}
    for path in sorted(work_dir.glob('*/seed_*/run.json')):
        config = CONFIG.fullmatch(path.parents[1].name)
        if config is None:
            continue
        record = read_run(path.parent)
        if 'last' in record:
            of_network = runs.setdefault(config['network'], {})
            of_network.setdefault(config['task'], []).append((path.parent, record))
    if not runs:
        raise UserError(
            f'{work_dir} has no finished run of configs/longrange: train them first, '
            f'python tools/train_seeds.py configs/longrange/*.py --work-dir {work_dir}'
        )
    for tasks in runs.values():
        for of_task in tasks.values():
            check_same_settings([record for _, record in of_task], work_dir)
    order = list(NETWORKS)
    names = sorted(runs, key=lambda name: (order.index(name) if name in order else 99, name))
    return {name: runs[name] for name in names}


def _ablations(runs: Runs) -> dict[str, Runs]:
    """Return the runs for each of `ABLATIONS`, and the other runs; leave out empty tables."""
    known = [network for networks in ABLATIONS.values() for network in networks]
    others = [network for network in runs if network not in (*known, *NETWORKS)]
    tables = {}
    for title, networks in {**ABLATIONS, 'Others': others}.items():
        found = {network: runs[network] for network in networks if network in runs}
        tasks = {task for network in found if network not in NETWORKS for task in found[network]}
        if tasks:
            tables[title] = {
                network: {task: of[task] for task in tasks & set(of)}
                for network, of in found.items()
                if tasks & set(of)
            }
    return tables


def _solved_at(folder: Path) -> int | None:
    """Return the first logged iteration with a training accuracy of `SOLVED` percent."""
    lines = read_log(folder).train
    return next((line['step'] for line in lines if line.get('decode.acc_seg', 0) >= SOLVED), None)


def _tasks(runs: Runs) -> list[str]:
    """Return the tasks that at least one network was trained on."""
    return [task for task in TASKS if any(task in found for found in runs.values())]


def _table(runs: Runs) -> tuple[list[str], list[list[str]]]:
    tasks = _tasks(runs)
    rows = []
    for network, found in runs.items():
        folders = [folder for of_task in found.values() for folder, _ in of_task]
        model = _load(folders[0])[1]
        times = [line['time'] for folder in folders for line in read_log(folder).train]
        cells = [
            NETWORKS.get(network, (network,))[0],
            f'{sum(p.numel() for p in model.parameters()):,}',
            f'{statistics.median(times):.2f}',
        ]
        for task in tasks:
            accuracies = [record['last']['accuracy'] for _, record in found.get(task, [])]
            solved = [_solved_at(folder) for folder, _ in found.get(task, [])]
            cells += [_cell(accuracies, 1), _cell([step for step in solved if step], 0)]
        rows.append(cells)
    columns = [name for task in tasks for name in (task, f'{SOLVED} % after')]
    return ['network', 'parameters', 's / iteration', *columns], rows


def _differences(runs: Runs) -> tuple[list[str], list[list[str]]]:
    """Tabulate the differences in accuracy to the first network, paired by seed."""
    names = {network: NETWORKS.get(network, (network,))[0] for network in runs}
    values = {
        names[network]: {
            task: {record['seed']: record['last']['accuracy'] for _, record in of_task}
            for task, of_task in found.items()
        }
        for network, found in runs.items()
    }
    columns = {t: (t, 1) for t in TASKS if any(t in found for found in runs.values())}
    return difference_table(values, next(iter(values)), columns)


def _at_edge(runs: Runs) -> tuple[list[str], list[list[str]]]:
    """Tabulate the accuracies on 'order' by the number of keys at the edge."""
    rows, names = [], [f'{keys}-at-edge' for keys in range(len(ORDER_POOLED))]
    for network, found in runs.items():
        of_seeds = [record['last'] for _, record in found.get('order', [])]
        if of_seeds and all(names[0] in last for last in of_seeds):
            cells = [_cell([last[name] for last in of_seeds], 1) for name in names]
            rows.append([NETWORKS[network][0], *cells])
    return ['network', 'no key', 'one key', 'two keys'], rows


def _cell(values: list[float], digits: int) -> str:
    """Format mean ± standard deviation over the seeds, and their number."""
    return mean_and_spread(values, digits) + (f' ({len(values)})' if values else '')


def _load(folder: Path) -> tuple[Config, torch.nn.Module]:
    """Load the config and the model of a finished run."""
    cfg = read_model_config(str(folder / f'{folder.parent.name}.py'))
    try:
        checkpoint = (folder / 'last_checkpoint').read_text(encoding='utf-8').strip()
    except OSError as error:
        raise UserError(f'{folder} lacks a file from training ({error}): restore it') from error
    # only the name is used, as the folder may have been moved
    checkpoint = folder / Path(checkpoint).name
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return cfg, load_model(cfg, str(checkpoint))[0]


def _draw_distances(runs: Runs) -> Figure:
    tasks = _tasks(runs)
    figure = new_figure((3 + 4 * len(tasks), 3.8))
    lines = {}
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    widths = np.linspace(6.5, 1.5, len(runs))  # equal lines stay visible behind each other
    for axes, task in zip(panels, tasks, strict=True):
        for bound in (CHANCE, POOLED[task]):
            axes.axhline(bound, color='#bbbbbb', lw=1, ls='--')
        for width, (network, of_network) in zip(widths, runs.items(), strict=True):
            found = [record['last'] for _, record in of_network.get(task, [])]
            if not found:
                continue
            title, colour = NETWORKS[network]
            ranges = [name for name in found[0] if name.endswith('px')]
            centres = [np.mean([int(n) for n in r.removesuffix('px').split('-')]) for r in ranges]
            values = np.array([[last[r] for r in ranges] for last in found])
            (lines[title],) = axes.plot(centres, values.mean(0), color=colour, lw=width)
            axes.fill_between(centres, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
        axes.set(
            title=f"task '{task}'", xlabel='distance from object to key (pixels)', ylim=(0, 104)
        )
        style_axes(axes)
    panels[0].set_ylabel('pixel accuracy (%)')
    place = dict(loc='center left', bbox_to_anchor=(1, 0.5))
    panels[-1].legend(lines.values(), lines.keys(), frameon=False, **place)
    return figure


def draw_scenes(runs: Runs, per_task: int = 2) -> Figure:
    """Draw validation images, their labels and each network's predictions (first seed)."""
    tasks = _tasks(runs)
    shape = len(tasks) * per_task, 2 + len(runs)
    figure = new_figure((1.55 * shape[1], 1.68 * shape[0]))
    grid = figure.subplots(*shape, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, title in zip(
        grid[0], ['image', 'truth', *(NETWORKS[n][0] for n in runs)], strict=True
    ):
        axes.set_title(textwrap.fill(title, 11), fontsize=11)
    for t, task in enumerate(tasks):
        for n, found in enumerate(runs.values()):
            if task not in found:
                continue
            for row, (image, truth, predicted) in zip(
                grid[t * per_task :], _predict(found[task][0][0], per_task), strict=False
            ):
                right = 100 * (predicted == truth)[truth != IGNORED].mean()
                row[0].imshow(image)
                row[0].set_ylabel(f"'{task}'", fontsize=11)
                row[1].imshow(_coloured(image, truth, truth))
                row[2 + n].imshow(_coloured(image, truth, predicted))
                row[2 + n].set_xlabel(f'{right:.0f} %', fontsize=9)
    return figure


@torch.no_grad()
def _predict(folder: Path, number: int) -> Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return the first validation images, their labels and the predicted labels."""
    cfg, model = _load(folder)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(deepcopy(cfg.val_dataloader.dataset))
        packed = [dataset[index] for index in range(number)]
        samples = model.test_step(pseudo_collate(packed))
    return [
        (
            of['inputs'].permute(1, 2, 0).numpy(),
            sample.gt_sem_seg.data[0].numpy(),
            sample.pred_sem_seg.data[0].numpy(),
        )
        for of, sample in zip(packed, samples, strict=True)
    ]


def _coloured(image: np.ndarray, truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Colour objects by label; the rest is pale, keys a little stronger."""
    pale = (255 - (255 - image.astype(int)) // 6).astype(np.uint8)
    objects = truth != IGNORED
    pale[objects] = np.array(PALETTE, np.uint8)[labels[objects]]
    return pale
