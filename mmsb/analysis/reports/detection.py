"""A report on trained detectors: detections beside the ground truth, curves, a table of APs.

Everything comes from the work directories that training and testing leave: mmengine's
``scalars.json`` and logs, and ``predictions.pkl`` (``tools/test.py --out``). The APs are computed
anew from the predictions by pycocotools.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmsb.analysis.reports.page import NONE, as_html, as_markdown, as_text
from mmsb.engine.training_log import TrainingLog, read_log, trained_for, unit
from mmsb.utils.environment import PACKAGES, installed
from mmsb.utils.errors import UserError

METRICS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')  # as pycocotools orders them
SPLIT = 'val2017'
MIN_IOU = 0.5  # from here on a box counts as found in the pictures

RUN_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00')
STYLES = {  # of boxes: colour, dashes, colour of the text on it, what it means
    'truth': ('#ffffff', 'solid', 'black', 'ground truth'),
    'correct': ('#2bd48a', 'solid', 'black', f'correct: right class, IoU ≥ {MIN_IOU}'),
    'wrong': ('#f0412a', (0, (4, 2)), 'white', 'wrong: other class, poor box or duplicate'),
    'missed': ('#ffd21f', (0, (1, 1.2)), 'black', 'missed object'),
}


@dataclass
class Run:
    """One trained and tested detector.

    Attributes:
        name: What to call it.
        train: Lines of the training log: ``loss``, ``step``, ``time`` and mostly ``epoch``.
        val: Lines of the evaluations while training, ``coco/bbox_mAP`` and so on.
        facts: Names and values to show about the training.
        predictions: Of each image id: ``boxes`` (xyxy), ``labels``, ``scores``.
        metrics: AP and its kin on the predictions, by the names in `METRICS`.
        class_ap50: AP50 of each category id that has ground truth.
        note: Something the reader must know, or an empty string.
    """

    name: str
    train: list[dict]
    val: list[dict]
    facts: dict[str, str]
    predictions: dict[int, dict[str, np.ndarray]]
    metrics: dict[str, float]
    class_ap50: dict[int, float]
    note: str = ''


class Box(NamedTuple):
    """A box to draw: its corners, what is written on it, and a key of `STYLES`."""

    xyxy: tuple[float, float, float, float]
    text: str
    kind: str


def write_report(
    out_dir: str | os.PathLike,
    runs: Mapping[str, str | os.PathLike],
    coco_root: str | os.PathLike,
    num_images: int = 6,
    min_score: float = 0.5,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Write ``report.html``, ``report.md``, ``detections.png`` and ``curves.png``.

    ``predictions.pkl`` is a pickle, and opening a pickle can run code: give only work directories
    of your own runs.

    Args:
        out_dir: Folder to write into, made if it is not there.
        runs: Names and work directories. Each holds the logs of a training and
            ``predictions.pkl``.
        coco_root: The dataset that the runs were tested on, in COCO's layout.
        num_images: How many pictures to show: the first ones of ``val2017``.
        min_score: Boxes of a lower score are not drawn. The APs count all boxes, as usual.
        log: Called with the table of APs.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: An argument is out of its range, a work directory lacks something, the
            predictions are of other images, or `out_dir` cannot be written.

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
    try:
        out.mkdir(parents=True, exist_ok=True)
        draw_curves(read).savefig(out / 'curves.png')
        images = coco.dataset['images'][:num_images]
        draw_detections(read, coco, images, coco_root / SPLIT, min_score).savefig(
            out / 'detections.png'
        )
        blocks = list(_content(read, coco, len(images), min_score))
        (out / 'report.html').write_text(as_html(blocks), encoding='utf-8')
        (out / 'report.md').write_text(as_markdown(blocks), encoding='utf-8')
    except OSError as error:
        raise UserError(f'cannot write {out}: {error.strerror or error}') from error
    if log:
        log(as_text(*_ap_table(read)))
        for run in read:
            if run.note:
                log(f'note: {run.note}')
    return out / 'report.html'


# ---------------------------------------------------------------- reading


def read_run(name: str, work_dir: Path, coco: COCO) -> Run:
    """Read a work directory and evaluate its predictions.

    Raises:
        UserError: It lacks something, or the predictions are of other images.
    """
    if not work_dir.is_dir():
        raise UserError(f'{name}: no work directory {work_dir}')
    log = read_log(work_dir)
    predictions = read_predictions(work_dir / 'predictions.pkl', coco)
    metrics, class_ap50 = evaluate(coco, predictions)
    facts = _facts(work_dir, log)
    run = Run(name, log.train, log.val, facts, predictions, metrics, class_ap50)
    logged = _logged_ap(work_dir / 'metrics.json')
    if logged is not None and abs(logged - metrics['AP']) > 0.001:  # it has three digits
        run.note = (
            f'{name}: the test logged AP {logged:.3f} in metrics.json, but predictions.pkl gives '
            f'{metrics["AP"]:.3f}. They are of different tests, or the dataset has changed.'
        )
    return run


def read_coco(path: Path) -> COCO:
    """Read an annotation file.

    Raises:
        UserError: There is none, or it is not one.
    """
    try:
        with redirect_stdout(StringIO()):
            return COCO(str(path))
    except FileNotFoundError as error:
        raise UserError(f'no annotations {path}: give the root of the dataset') from error
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(f'{path} is not a COCO annotation file: {error}') from error


def _logged_ap(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text())['coco/bbox_mAP'])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_predictions(path: Path, coco: COCO) -> dict[int, dict[str, np.ndarray]]:
    """Read predictions that mmdet wrote, ``DumpDetResults``.

    A pickle can run code when opened: read only a file of your own.

    Args:
        path: A list of dicts with ``img_id``, ``ori_shape`` and ``pred_instances``.
        coco: The annotations of exactly those images.

    Returns:
        Of each image id: ``boxes`` (N, 4; xyxy in the original image), ``labels`` and ``scores``,
        highest score first.

    Raises:
        UserError: There is no such file, it is something else, or it is of other images.
    """
    try:
        with path.open('rb') as file:
            samples = pickle.load(file)
    except FileNotFoundError as error:
        raise UserError(f'no {path}: test with --out {path}') from error
    except Exception as error:  # a file that is no pickle can raise nearly anything
        raise UserError(f'{path} cannot be read: {error}') from error
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
    """What the config's name, the log and its first lines say about a training."""
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
        'processes': said('GPU number') or NONE,  # mmengine's word for them
        'device': gpu if gpu and cuda == 'True' else 'CPU' if cuda else NONE,
    }


def training_seconds(train: list[dict]) -> float:
    """Time spent on training iterations: no evaluation, no start."""
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


# ---------------------------------------------------------------- evaluating


def evaluate(
    coco: COCO, predictions: Mapping[int, dict[str, np.ndarray]]
) -> tuple[dict[str, float], dict[int, float]]:
    """COCO's box metrics of predictions.

    Returns:
        The metrics by the names in `METRICS`, and AP50 of each category id that has ground truth.
        A metric for which there is no ground truth is NaN.
    """
    found, ids = COCO(), list(coco.cats)
    boxes = [
        {
            'image_id': image,
            'category_id': ids[label],
            'bbox': [x1, y1, x2 - x1, y2 - y1],
            'area': (x2 - x1) * (y2 - y1),
            'score': score,
            'iscrowd': 0,
        }
        for image, p in predictions.items()
        for (x1, y1, x2, y2), label, score in zip(
            p['boxes'].tolist(), p['labels'].tolist(), p['scores'].tolist(), strict=True
        )
    ]
    # not loadRes, which fails when nothing was found
    found.dataset = {
        'images': coco.dataset['images'],
        'categories': coco.dataset['categories'],
        'annotations': [{**box, 'id': number} for number, box in enumerate(boxes, 1)],
    }
    with redirect_stdout(StringIO()):
        found.createIndex()
        job = COCOeval(coco, found, 'bbox')
        job.evaluate()
        job.accumulate()
        job.summarize()
    metrics = {
        name: float(value) if value >= 0 else math.nan
        for name, value in zip(METRICS, job.stats, strict=False)
    }
    at = int(np.argmin(np.abs(job.params.iouThrs - 0.5)))
    precision = job.eval['precision'][at, :, :, 0, -1]  # recall, category
    ap50 = zip(job.params.catIds, precision.T, strict=True)
    return metrics, {cat: float(p.mean()) for cat, p in ap50 if (p >= 0).all()}


def match(
    truths: list[dict], found: dict[str, np.ndarray], coco: COCO, min_score: float
) -> list[Box]:
    """Sort the boxes of an image into correct, wrong and missed, as COCO does at IoU 0.5.

    The best-scored box takes the object of its class that it overlaps most, if by 0.5 or more. A
    box on a crowd region is neither correct nor wrong.

    Args:
        truths: The image's annotations.
        found: The image's predictions.
        coco: The annotation file, for its categories.
        min_score: Boxes of a lower score are left out.

    Returns:
        Wrong and correct boxes, highest score first, then the missed objects.
    """
    keep = found['scores'] >= min_score
    boxes, labels, scores = (found[key][keep] for key in ('boxes', 'labels', 'scores'))
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    crowd = [int(t.get('iscrowd', 0)) for t in truths]
    overlap = np.zeros((len(boxes), len(truths)))
    if overlap.size:
        overlap = mask.iou(xywh, np.array([t['bbox'] for t in truths], float), crowd)
    result, taken, ids = [], set(), list(coco.cats)
    for n, (box, label, score) in enumerate(zip(boxes, labels, scores, strict=True)):
        rivals = [
            k
            for k, truth in enumerate(truths)
            if truth['category_id'] == ids[label] and overlap[n, k] >= MIN_IOU and k not in taken
        ]
        best = max(rivals, key=lambda k: (not crowd[k], overlap[n, k]), default=None)
        if best is not None and crowd[best]:
            continue
        taken.add(best)
        text = f'{coco.cats[ids[label]]["name"]} {score:.2f}'
        result.append(Box(tuple(box), text, 'wrong' if best is None else 'correct'))
    left = [t for k, t in enumerate(truths) if k not in taken]
    return result + _truth_boxes(left, coco, 'missed')


def _truth_boxes(truths: Iterable[dict], coco: COCO, kind: str) -> list[Box]:
    boxes = []
    for truth in truths:
        if not truth.get('iscrowd', 0):
            x, y, w, h = truth['bbox']
            name = coco.cats[truth['category_id']]['name']
            boxes.append(Box((x, y, x + w, y + h), name, kind))
    return boxes


def _count(boxes: Iterable[Box], kind: str) -> int:
    return sum(box.kind == kind for box in boxes)


# ---------------------------------------------------------------- drawing


def loss_curve(run: Run) -> tuple[list[float], list[float]]:
    """Epochs passed (or iterations, of a training that counts those) and the loss there."""
    length = 1.0
    if unit(run.train) == 'epoch':
        length = max(line['step'] / line['epoch'] for line in run.train)
    return [line['step'] / length for line in run.train], [line['loss'] for line in run.train]


def ap_curve(run: Run, metric: str = 'coco/bbox_mAP') -> tuple[list[float], list[float]]:
    """Epochs (or iterations) of the evaluations while training, and a metric there."""
    lines = [line for line in run.val if metric in line]
    return [line['step'] for line in lines], [line[metric] for line in lines]


def draw_curves(runs: list[Run]) -> Figure:
    """Draw the loss and the APs over the training, all runs in each."""
    figure = Figure(figsize=(12.4, 4.4), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    loss, ap = figure.subplots(1, 2)
    for n, run in enumerate(runs):
        colour = RUN_COLOURS[n % len(RUN_COLOURS)]
        loss.plot(*loss_curve(run), color=colour, lw=1.8, label=run.name)
        for metric, style, name in (
            ('coco/bbox_mAP_50', dict(ls='--', marker='s', mfc='white'), 'AP50'),
            ('coco/bbox_mAP', dict(ls='-', marker='o'), 'AP'),
        ):
            x, y = ap_curve(run, metric)
            if x:
                ap.plot(x, y, color=colour, lw=1.8, ms=6, label=f'{run.name}: {name}', **style)
    loss.set(title='Training loss', ylabel='loss')
    ap.set(title='AP on the validation images', ylabel='AP', ylim=(0, 1))
    for axes in (loss, ap):
        axes.set_xlabel(unit(runs[0].train))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color='#dddddd', lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[['top', 'right']].set_visible(False)
        axes.title.set(fontsize=13, fontweight='bold')
        if axes.lines:
            axes.legend(frameon=False)
    highest = max((max(line.get_ydata()) for line in ap.lines), default=1)
    ap.set_ylim(0, min(1.02, highest * 1.15) or 1.02)
    if not ap.lines:
        ap.text(0.5, 0.5, 'not evaluated while training', ha='center', transform=ap.transAxes)
    low, high = loss.get_ylim()
    loss.set_ylim(min(0, low), high)
    return figure


class _Sheet:
    """A figure on which one unit is one pixel, y downwards."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.axis('off')

    def text(self, x: float, y: float, text: str, pixels: float = 13, **style):
        """Write text, its top left corner at x, y."""
        style = {'va': 'top', 'color': '#222222', **style}
        return self.axes.text(x, y, text, fontsize=pixels * 0.72, zorder=4, **style)

    def image(self, x: int, y: int, picture: np.ndarray) -> None:
        """Show a picture (RGB), its top left corner at x, y."""
        height, width = picture.shape[:2]
        self.axes.imshow(
            picture, extent=(x, x + width, y + height, y), interpolation='nearest', aspect='auto'
        )
        self.axes.set(xlim=(0, self.size[0]), ylim=(self.size[1], 0))

    def frame(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """Draw a box in its kind's style, with a dark rim that shows on any picture."""
        colour, dashes, *_ = STYLES[kind]
        for style in (
            dict(ec='#111111', alpha=0.7, ls='solid', lw=3.4),
            dict(ec=colour, ls=dashes, lw=1.9),
        ):
            self.axes.add_patch(Rectangle((x, y), width, height, fill=False, zorder=2, **style))

    def label(self, box: tuple, panel: tuple, text: str, kind: str, taken: list) -> None:
        """Write on a box where the panel and the labels already there leave most room."""
        colour, _, ink, _ = STYLES[kind]
        drawn = self.text(0, 0, text, 12, color=ink, va='baseline')
        width = drawn.get_window_extent(self.renderer).width + 6
        height, (x1, y1, x2, y2) = 16, box
        spots = [
            (x, y)
            for y in (y1 - height - 1, y1 + 2, y2 + 1, y2 - height - 2)
            for x in (x1 - 1, x2 + 1 - width)
        ]
        spots = [
            (
                min(max(x, panel[0]), panel[2] - width),
                min(max(y, panel[1]), panel[3] - height),
            )
            for x, y in spots
        ]

        def covered(spot):
            x, y = spot
            return sum(
                max(0, min(x + width, r) - max(x, left)) * max(0, min(y + height, b) - max(y, top))
                for left, top, r, b in taken
            )

        x, y = min(spots, key=covered)  # the first of the best
        taken.append((x, y, x + width, y + height))
        self.axes.add_patch(
            Rectangle((x, y), width, height, fc=colour, ec='#111111', lw=0.6, zorder=3)
        )
        drawn.set_position((x + 3, y + 12))


# Pixels of the sheet of detections; the legend needs LEAST.
COLUMN, ROW, GAP, TOP, CAPTION, LEAST = 400, 310, 16, 76, 26, 930


def draw_detections(
    runs: list[Run], coco: COCO, images: list[dict], folder: Path, min_score: float
) -> Figure:
    """Draw images, a row each: the ground truth, then what each run found.

    Args:
        runs: The columns.
        coco: The annotations.
        images: Entries of the annotation file.
        folder: Where the pictures are.
        min_score: Boxes of a lower score are left out.

    Raises:
        UserError: A picture is missing.
    """
    pictures = [_load(folder / image['file_name']) for image in images]
    zooms = [min(COLUMN / p.shape[1], ROW / p.shape[0]) for p in pictures]
    heights = [round(p.shape[0] * z) for p, z in zip(pictures, zooms, strict=True)]
    columns = 1 + len(runs)
    sheet = _Sheet(
        max(LEAST, GAP + columns * (COLUMN + GAP)),
        TOP + sum(heights) + len(images) * (CAPTION + GAP),
    )
    _draw_head(sheet, ['ground truth', *(run.name for run in runs)])
    top = TOP
    for image, picture, zoom, height in zip(images, pictures, zooms, heights, strict=True):
        top += CAPTION
        size = round(picture.shape[1] * zoom), height
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
        truths = coco.imgToAnns[image['id']]
        panels = [_truth_boxes(truths, coco, 'truth')]
        panels += [match(truths, run.predictions[image['id']], coco, min_score) for run in runs]
        for column, boxes in enumerate(panels):
            left = GAP + column * (COLUMN + GAP)
            caption = _outcome(boxes) if column else f'image {image["id"]}: {_objects(len(boxes))}'
            sheet.text(left, top - 5, caption, 13, va='bottom', color='#444444')
            sheet.image(left, top, picture)
            _draw_boxes(sheet, boxes, left, top, size, zoom)
        top += height + GAP
    return sheet.figure


def _draw_head(sheet: _Sheet, titles: list[str]) -> None:
    left = GAP
    for kind, (*_, meaning) in STYLES.items():
        sheet.axes.add_patch(Rectangle((left + 2, 15), 30, 17, fc='#aab4bc', lw=0, zorder=1))
        sheet.frame(left + 2, 15, 30, 17, kind)
        drawn = sheet.text(left + 40, 16, meaning, 13)
        left += 40 + drawn.get_window_extent(sheet.renderer).width + 26
    for column, title in enumerate(titles):
        sheet.text(GAP + column * (COLUMN + GAP), 50, title, 18, weight='bold')


def _draw_boxes(
    sheet: _Sheet, boxes: list[Box], left: int, top: int, size: tuple[int, int], zoom: float
) -> None:
    panel = left, top, left + size[0], top + size[1]
    placed = []
    for box in boxes:
        corners = np.array(box.xyxy) * zoom + (left, top, left, top)
        x1, y1 = np.maximum(corners[:2], (left + 1, top + 1))
        x2, y2 = np.minimum(corners[2:], (panel[2] - 1, panel[3] - 1))
        sheet.frame(x1, y1, x2 - x1, y2 - y1, box.kind)
        placed.append((x1, y1, x2, y2))
    taken = []
    for corners, box in zip(placed, boxes, strict=True):
        sheet.label(corners, panel, box.text, box.kind, taken)


def _load(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path)) if path.is_file() else None
    if picture is None:
        raise UserError(f'no picture {path}')
    return picture[..., ::-1]


def _objects(count: int) -> str:
    return f'{count} object' + 's' * (count != 1)


def _outcome(boxes: list[Box]) -> str:
    return ', '.join(f'{_count(boxes, kind)} {kind}' for kind in ('correct', 'wrong', 'missed'))


# ---------------------------------------------------------------- the page


def _content(runs: list[Run], coco: COCO, shown: int, min_score: float) -> Iterable[tuple]:
    objects = sum(not ann.get('iscrowd', 0) for ann in coco.anns.values())
    names = ' and '.join(', '.join(run.name for run in runs).rsplit(', ', 1))
    yield 'h1', 'Detection report'
    yield 'p', f'{names}, tested on {len(coco.imgs)} images with {objects} objects.'
    for run in runs:
        if run.note:
            yield 'p', f'Note: {run.note}'
    yield 'h2', 'Average precision'
    yield 'table', *_ap_table(runs)
    yield (
        'p',
        "AP is COCO's average precision over IoU 0.50 to 0.95, 1 at best; AP50 and AP75 are at IoU "
        '0.50 and 0.75; APs, APm and APl are of small, medium and large objects. One training of '
        f'each, {len(coco.imgs)} images: another seed can move the APs by some points.',
    )
    yield 'h2', 'Detections'
    yield (
        'p',
        f'The first {shown} validation images. Boxes of score {min_score:g} and above.',
    )
    yield 'img', 'detections.png', 'Images with their true boxes, and with the boxes of each run'
    yield 'p', f'On all {len(coco.imgs)} images, at score {min_score:g} and IoU {MIN_IOU}:'
    yield 'table', *_count_table(runs, coco, min_score)
    yield 'h2', 'Training'
    yield 'img', 'curves.png', 'Loss and AP over the training, of each run'
    heads = list(dict.fromkeys(key for run in runs for key in run.facts))
    rows = [[run.name, *(run.facts.get(key, NONE) for key in heads)] for run in runs]
    yield 'table', ['', *heads], rows
    yield 'p', 'The training time is that of the iterations, without evaluations and start.'
    yield 'h2', 'AP50 of each class'
    yield 'table', *_class_table(runs, coco)
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
        rows.append([run.name, *(str(_count(boxes, kind)) for kind in kinds)])
    return ['', *kinds], rows


def _class_table(runs: list[Run], coco: COCO) -> tuple[list[str], list[list[str]]]:
    rows = []
    for cat in runs[0].class_ap50:
        count = len(coco.getAnnIds(catIds=[cat], iscrowd=0))
        aps = (_number(run.class_ap50[cat]) for run in runs)
        rows.append([coco.cats[cat]['name'], str(count), *aps])
    return ['class', 'objects', *(run.name for run in runs)], rows
