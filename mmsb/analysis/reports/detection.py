"""Report on trained detectors: detections beside the ground truth, curves, a table of APs.

The data come from the work directories of training and testing: mmengine's ``scalars.json`` and
logs, ``predictions.pkl`` (``tools/test.py --out``) and the evaluator's APs in ``metrics.json``
(``--metrics-out``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pycocotools.coco import COCO

from mmsb.analysis.charts import save_figure
from mmsb.analysis.reports.detection_pictures import (
    MIN_IOU,
    count_boxes,
    draw_curves,
    draw_detections,
    match,
)
from mmsb.analysis.reports.detection_runs import METRICS, Run, read_coco, read_run
from mmsb.analysis.reports.differences import ONE_SEED
from mmsb.analysis.reports.page import NONE, as_text, write_page
from mmsb.utils.environment import PACKAGES, installed
from mmsb.utils.errors import UserError

SPLIT = 'val2017'


def write_report(
    out_dir: str | os.PathLike,
    runs: Mapping[str, str | os.PathLike],
    coco_root: str | os.PathLike,
    num_images: int = 6,
    min_score: float = 0.5,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Write ``report.html``, ``report.md``, ``detections.png`` and ``curves.png``.

    ``predictions.pkl`` is read as data: code in it is refused, not run.

    Args:
        out_dir: Folder to write into, created if missing.
        runs: Names and work directories. Each holds the logs of a training, ``predictions.pkl``
            and ``metrics.json``.
        coco_root: Root of the dataset that the runs were tested on, in COCO's layout.
        num_images: Number of pictures to show, the first ones of ``val2017``. Defaults to 6.
        min_score: Boxes with a lower score are not drawn; the APs use all boxes. Defaults to 0.5.
        log: Called with the table of APs as text. Defaults to None.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: An argument is out of range, a work directory lacks a file, the predictions
            belong to other images, or `out_dir` cannot be written.

    Example:
        >>> write_report('report', {'baseline': 'work_dirs/a', 'SB': 'work_dirs/b'}, 'data/coco')
        PosixPath('report/report.html')
    """
    if not runs:
        raise UserError('give at least one run')
    if num_images < 1:
        raise UserError(f'images must be 1 or more, got {num_images}')
    if not 0 <= min_score <= 1:
        raise UserError(f'score must be within 0 and 1, got {min_score}')
    coco_root, out = Path(coco_root), Path(out_dir)
    coco = read_coco(coco_root / 'annotations' / f'instances_{SPLIT}.json')
    read = [read_run(name, Path(work_dir), coco) for name, work_dir in runs.items()]
    images = coco.dataset['images'][:num_images]
    save_figure(draw_curves(read), out / 'curves.png')
    detections = draw_detections(read, coco, images, coco_root / SPLIT, min_score)
    save_figure(detections, out / 'detections.png')
    path = write_page(out, list(_content(read, coco, len(images), min_score)))
    if log:
        log(as_text(*_ap_table(read)))
    return path


def _content(runs: list[Run], coco: COCO, shown: int, min_score: float) -> Iterable[tuple]:
    objects = sum(not ann.get('iscrowd', 0) for ann in coco.anns.values())
    names = ' and '.join(', '.join(run.name for run in runs).rsplit(', ', 1))
    yield 'h1', 'Detection report'
    yield 'p', f'{names}, tested on {len(coco.imgs)} images with {objects} objects.'
    yield 'h2', 'Average precision'
    yield 'table', *_ap_table(runs)
    yield (
        'p',
        "AP is COCO's average precision over IoU 0.50 to 0.95, 1 at best; AP50 and AP75 are at IoU "
        '0.50 and 0.75; APs, APm and APl are of small, medium and large objects. Tested on '
        f'{len(coco.imgs)} images. {ONE_SEED}',
    )
    yield 'h2', 'Detections'
    yield ('p', f'The first {shown} validation images. Boxes of score {min_score:g} and above.')
    yield 'img', 'detections.png', 'Images with their true boxes, and with the boxes of each run'
    yield 'p', f'On all {len(coco.imgs)} images, at score {min_score:g} and IoU {MIN_IOU}:'
    yield 'table', *_count_table(runs, coco, min_score)
    yield 'h2', 'Training'
    yield 'img', 'curves.png', 'Loss and AP over the training, of each run'
    heads = list(dict.fromkeys(key for run in runs for key in run.facts))
    rows = [[run.name, *(run.facts.get(key, NONE) for key in heads)] for run in runs]
    yield 'table', ['', *heads], rows
    yield 'p', 'The training time is that of the iterations, without evaluations and start.'
    yield 'h2', 'AP of each class'
    if all(run.class_ap is not None for run in runs):
        yield 'table', *_class_table(runs, coco)
    else:
        yield 'p', 'Left out: a test had no test_evaluator.classwise=True.'
    found = {k: v for names in PACKAGES.values() for k, v in installed(names).items()}
    yield (
        'p',
        'Made with ' + ', '.join(f'{name} {version}' for name, version in found.items()) + '.',
    )


def _number(value: float) -> str:
    return NONE if math.isnan(value) else f'{value:.3f}'


def _ap_table(runs: list[Run]) -> tuple[list[str], list[list[str]]]:
    rows = [[run.name, *(_number(run.metrics[name]) for name in METRICS)] for run in runs]
    return ['', *METRICS], rows


def _count_table(
    runs: list[Run], coco: COCO, min_score: float
) -> tuple[list[str], list[list[str]]]:
    kinds, rows = ('correct', 'wrong', 'missed'), []
    for run in runs:
        boxes = [
            box
            for image in coco.imgs
            for box in match(coco.imgToAnns[image], run.predictions[image], coco, min_score)
        ]
        rows.append([run.name, *(str(count_boxes(boxes, kind)) for kind in kinds)])
    return ['', *kinds], rows


def _class_table(runs: list[Run], coco: COCO) -> tuple[list[str], list[list[str]]]:
    rows = []
    for cat in runs[0].class_ap:
        count = len(coco.getAnnIds(catIds=[cat], iscrowd=0))
        aps = (_number(run.class_ap.get(cat, math.nan)) for run in runs)
        rows.append([coco.cats[cat]['name'], str(count), *aps])
    return ['class', 'objects', *(run.name for run in runs)], rows
