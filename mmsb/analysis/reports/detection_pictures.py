"""Pictures of detections beside the ground truth, and training curves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pycocotools import mask
from pycocotools.coco import COCO

from mmsb.analysis.charts import new_figure, style_axes
from mmsb.analysis.reports.detection_runs import Run, ap_curve, loss_curve
from mmsb.engine.training_log import unit
from mmsb.utils.errors import UserError

MIN_IOU = 0.5  # minimum IoU for a correct box
RUN_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00')
STYLES = {  # kind of box: colour, dashes, text colour, meaning
    'truth': ('#ffffff', 'solid', 'black', 'ground truth'),
    'correct': ('#2bd48a', 'solid', 'black', f'correct: right class, IoU ≥ {MIN_IOU}'),
    'wrong': ('#f0412a', (0, (4, 2)), 'white', 'wrong: other class, poor box or duplicate'),
    'missed': ('#ffd21f', (0, (1, 1.2)), 'black', 'missed object'),
}


class Box(NamedTuple):
    """A box to draw: corners, text, and kind (a key of `STYLES`)."""

    xyxy: tuple[float, float, float, float]
    text: str
    kind: str


def match(
    truths: list[dict], found: dict[str, np.ndarray], coco: COCO, min_score: float
) -> list[Box]:
    """Sort the boxes of an image into correct, wrong and missed, as COCO does at IoU 0.5.

    Boxes are matched in the order of their scores, each to the unmatched object of its class with
    the highest IoU, if that is at least 0.5. A box on a crowd region is neither correct nor wrong.

    Args:
        truths: The image's annotations.
        found: The image's predictions.
        coco: The annotation file, for its categories.
        min_score: Boxes with a lower score are ignored.

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
    return result + truth_boxes(left, coco, 'missed')


def truth_boxes(truths: Iterable[dict], coco: COCO, kind: str) -> list[Box]:
    boxes = []
    for truth in truths:
        if not truth.get('iscrowd', 0):
            x, y, w, h = truth['bbox']
            name = coco.cats[truth['category_id']]['name']
            boxes.append(Box((x, y, x + w, y + h), name, kind))
    return boxes


def count_boxes(boxes: Iterable[Box], kind: str) -> int:
    return sum(box.kind == kind for box in boxes)


def draw_curves(runs: list[Run]) -> Figure:
    """Draw the loss and the APs over the training, with all runs in both plots."""
    figure = new_figure((12.4, 4.4))
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
        style_axes(axes, integers=True)
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
    """A figure in pixel units, with y pointing down."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.figure = new_figure((width / 100, height / 100), layout=None)
        self.renderer = self.figure.canvas.get_renderer()
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.axis('off')

    def text(self, x: float, y: float, text: str, pixels: float = 13, **style):
        """Write text with its top left corner at x, y."""
        style = {'va': 'top', 'color': '#222222', **style}
        style = dict(style, fontsize=pixels * 0.72, parse_math=False)
        return self.axes.text(x, y, text, zorder=4, **style)

    def image(self, x: int, y: int, picture: np.ndarray) -> None:
        """Show an RGB picture with its top left corner at x, y."""
        height, width = picture.shape[:2]
        self.axes.imshow(
            picture, extent=(x, x + width, y + height, y), interpolation='nearest', aspect='auto'
        )
        self.axes.set(xlim=(0, self.size[0]), ylim=(self.size[1], 0))

    def frame(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """Draw a box in its kind's style, with a dark rim that is visible on any picture."""
        colour, dashes, *_ = STYLES[kind]
        for style in (
            dict(ec='#111111', alpha=0.7, ls='solid', lw=3.4),
            dict(ec=colour, ls=dashes, lw=1.9),
        ):
            self.axes.add_patch(Rectangle((x, y), width, height, fill=False, zorder=2, **style))

    def label(self, box: tuple, panel: tuple, text: str, kind: str, taken: list) -> None:
        """Label a box at the spot that overlaps earlier labels least, inside the panel."""
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
            (min(max(x, panel[0]), panel[2] - width), min(max(y, panel[1]), panel[3] - height))
            for x, y in spots
        ]

        def covered(spot):
            x, y = spot
            return sum(
                max(0, min(x + width, r) - max(x, left)) * max(0, min(y + height, b) - max(y, top))
                for left, top, r, b in taken
            )

        x, y = min(spots, key=covered)  # ties: the first
        taken.append((x, y, x + width, y + height))
        self.axes.add_patch(
            Rectangle((x, y), width, height, fc=colour, ec='#111111', lw=0.6, zorder=3)
        )
        drawn.set_position((x + 3, y + 12))


# Layout of the sheet in pixels; LEAST is the width that the legend needs.
COLUMN, ROW, GAP, TOP, CAPTION, LEAST = 400, 310, 16, 76, 26, 930


def draw_detections(
    runs: list[Run], coco: COCO, images: list[dict], folder: Path, min_score: float
) -> Figure:
    """Draw one row per image: the ground truth, then the detections of each run.

    Args:
        runs: The runs, one per column.
        coco: The annotations.
        images: Image entries of the annotation file.
        folder: Folder of the image files.
        min_score: Boxes with a lower score are not drawn.

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
        panels = [truth_boxes(truths, coco, 'truth')]
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
    return ', '.join(
        f'{count_boxes(boxes, kind)} {kind}' for kind in ('correct', 'wrong', 'missed')
    )
