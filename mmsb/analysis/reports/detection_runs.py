"""Results of a trained and tested detector, read from its work directory."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from pycocotools.coco import COCO

from mmsb.analysis.reports.page import NONE
from mmsb.datasets.coco import check_coco
from mmsb.engine.training_log import TrainingLog, read_log, trained_for, unit
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_pickle

METRICS = {  # names in mmdet's CocoMetric
    'AP': 'coco/bbox_mAP',
    'AP50': 'coco/bbox_mAP_50',
    'AP75': 'coco/bbox_mAP_75',
    'APs': 'coco/bbox_mAP_s',
    'APm': 'coco/bbox_mAP_m',
    'APl': 'coco/bbox_mAP_l',
}


@dataclass
class Run:
    """One trained and tested detector.

    Attributes:
        name: Its name in the report.
        train: Lines of the training log: ``loss``, ``step``, ``time`` and usually ``epoch``.
        val: Lines of the evaluations during training: ``coco/bbox_mAP`` etc.
        facts: Names and values to show about the training.
        predictions: For each image id ``boxes`` (xyxy), ``labels`` and ``scores``.
        metrics: The test evaluator's AP metrics, by the names in `METRICS`.
        class_ap: AP of each category id that has ground truth; None if not ``classwise``.
    """

    name: str
    train: list[dict]
    val: list[dict]
    facts: dict[str, str]
    predictions: dict[int, dict[str, np.ndarray]]
    metrics: dict[str, float]
    class_ap: dict[int, float] | None


def read_run(name: str, work_dir: Path, coco: COCO) -> Run:
    """Read a work directory.

    Raises:
        UserError: A file is missing, or the predictions belong to other images.
    """
    if not work_dir.is_dir():
        raise UserError(f'{name}: no work directory {work_dir}')
    log = read_log(work_dir)
    predictions = read_predictions(work_dir / 'predictions.pkl', coco)
    metrics, class_ap = read_metrics(work_dir / 'metrics.json', coco, predictions)
    facts = _facts(work_dir, log)
    return Run(name, log.train, log.val, facts, predictions, metrics, class_ap)


def read_coco(path: Path, image_dir: Path | None = None) -> COCO:
    """Read an annotation file, mended as training and testing do; what is mended is logged.

    Args:
        path: The file.
        image_dir: Folder of its images, to look for them. Defaults to None.

    Raises:
        UserError: The file is missing, is not a COCO annotation file, or lists images that are
            missing.
    """
    if not path.is_file():
        raise UserError(f'no annotations {path}: give the root of the dataset')
    folder = None if image_dir is None else str(image_dir)
    found = check_coco(str(path), image_dir=folder, training=False)
    for line in found.lines:
        print_log(line, 'current', logging.WARNING)
    with redirect_stdout(StringIO()):
        coco = COCO(None if found.data else str(path))
        if found.data:
            coco.dataset = found.data
            coco.createIndex()
    return coco


def read_metrics(
    path: Path, coco: COCO, predictions: Mapping[int, dict[str, np.ndarray]]
) -> tuple[dict[str, float], dict[int, float] | None]:
    """Read the APs that a test's evaluator computed.

    Args:
        path: File written by ``tools/test.py --metrics-out``.
        coco: Annotations of the test images.
        predictions: Predictions of the same test.

    Returns:
        The metrics by the names in `METRICS`, NaN if there are no such objects, and the AP of each
        category id that has objects, or None if the evaluator was not ``classwise``.

    Raises:
        UserError: The file is missing or holds no box APs.
    """
    try:
        found = {name: float(v) for name, v in json.loads(path.read_text('utf-8')).items()}
    except FileNotFoundError as error:
        raise UserError(f'no {path}: test with --metrics-out {path}') from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f'{path} cannot be read: test again with --metrics-out {path}') from error
    if not any(len(p['scores']) for p in predictions.values()):
        # mmdet returns no metrics if there are no detections at all
        names = {ann['category_id'] for ann in coco.anns.values() if not ann.get('iscrowd', 0)}
        return dict.fromkeys(METRICS, 0.0), {cat: 0.0 for cat in coco.cats if cat in names}
    if missing := [key for key in METRICS.values() if key not in found]:
        raise UserError(f'{path} has no {missing[0]}: give the metrics of a test of a detector')
    metrics = {name: found[key] if found[key] >= 0 else math.nan for name, key in METRICS.items()}
    keys = {cat: f'coco/{value["name"]}_precision' for cat, value in coco.cats.items()}
    classes = {cat: found[key] for cat, key in keys.items() if key in found}
    known = {cat: ap for cat, ap in classes.items() if not math.isnan(ap)}
    return metrics, known if classes else None


def read_predictions(path: Path, coco: COCO) -> dict[int, dict[str, np.ndarray]]:
    """Read predictions written by mmdet's ``DumpDetResults``.

    Args:
        path: Pickle of a list of dicts with ``img_id``, ``ori_shape`` and ``pred_instances``.
        coco: Annotations of exactly the same images.

    Returns:
        For each image id ``boxes`` (N, 4; xyxy in the original image), ``labels`` and ``scores``,
        highest score first.

    Raises:
        UserError: The file is missing, has other content, or belongs to other images.
    """
    try:
        samples = load_pickle(path)
    except FileNotFoundError as error:
        raise UserError(f'no {path}: test with --out {path}') from error
    found = {}
    try:
        for sample in samples:
            boxes, labels, scores = (
                np.asarray(sample['pred_instances'][key]) for key in ('bboxes', 'labels', 'scores')
            )
            order = np.argsort(-scores, kind='stable')
            found[sample['img_id']] = {
                'boxes': boxes.reshape(-1, 4).astype(float)[order],
                'labels': labels.astype(int)[order],
                'scores': scores.astype(float)[order],
            }
        shapes = {sample['img_id']: tuple(sample['ori_shape'][:2]) for sample in samples}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f'{path} does not hold predictions of an mmdet detector') from error
    _check_images(path, shapes, coco)
    classes = len(coco.cats)
    if any(p['labels'].size and p['labels'].max() >= classes for p in found.values()):
        raise UserError(f'{path} has labels above the {classes} classes of the dataset')
    return found


def _check_images(path: Path, shapes: dict[int, tuple[int, int]], coco: COCO) -> None:
    for problem, ids in (
        ('has images that the dataset lacks', set(shapes) - set(coco.imgs)),
        ('lacks images of the dataset', set(coco.imgs) - set(shapes)),
        (
            'has images of another size than the dataset',
            {i for i, s in shapes.items() if s != _height_width(coco.imgs.get(i))},
        ),
    ):
        if ids:
            some = ', '.join(map(str, sorted(ids, key=str)[:3])) + (', ...' if len(ids) > 3 else '')
            raise UserError(f'{path} {problem}: {some}. Test again on the dataset given')


def _height_width(image: dict | None) -> tuple[int, int] | None:
    return image and (image['height'], image['width'])


def _facts(work_dir: Path, log: TrainingLog) -> dict[str, str]:
    """Collect facts about a training from the config's name, the log and its first lines."""
    configs = sorted(work_dir.glob('*.py'), key=lambda p: p.stat().st_mtime)
    text = ''
    for path in sorted(log.folder.glob('*.log')):
        with path.open(encoding='utf-8', errors='replace') as file:
            text += file.read(20_000)  # the environment is at the top

    def said(pattern: str) -> str | None:
        found = re.search(rf'^ *{pattern}: *(\S.*?) *$', text, re.MULTILINE)
        return found[1] if found and found[1] != 'None' else None

    cuda = said('CUDA available')
    gpu = said(r'GPU [\d,]+')
    return {
        'config': configs[-1].stem if configs else NONE,
        'seed': said('seed') or said('numpy_random_seed') or NONE,
        unit(log.train) + 's': str(trained_for(log.train)),
        'training time': _duration(training_seconds(log.train)),
        'processes': said('GPU number') or NONE,  # mmengine logs processes under this name
        'device': gpu if gpu and cuda == 'True' else 'CPU' if cuda else NONE,
    }


def training_seconds(train: list[dict]) -> float:
    """Sum the time of training iterations, without start-up and evaluations."""
    seconds, before = 0.0, 0
    for line in train:
        seconds += line.get('time', 0) * (line['step'] - before)
        before = line['step']
    return seconds


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f'{hours} h {minutes:02} min'
    return f'{minutes} min {seconds:02} s' if minutes else f'{seconds} s'


def loss_curve(run: Run) -> tuple[list[float], list[float]]:
    """Get the training loss over epochs, or over iterations in iteration-based training."""
    length = 1.0
    if unit(run.train) == 'epoch':
        length = max(line['step'] / line['epoch'] for line in run.train)
    return [line['step'] / length for line in run.train], [line['loss'] for line in run.train]


def ap_curve(run: Run, metric: str = 'coco/bbox_mAP') -> tuple[list[float], list[float]]:
    """Get a validation metric over epochs, or over iterations in iteration-based training."""
    lines = [line for line in run.val if metric in line]
    return [line['step'] for line in lines], [line[metric] for line in lines]
