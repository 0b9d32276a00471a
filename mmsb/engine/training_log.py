"""mmengine's training log: the ``*/vis_data/scalars.json`` files in a work directory."""

import json
from dataclasses import dataclass
from pathlib import Path

from mmsb.utils.errors import UserError

NOT_METRICS = ('step', 'time', 'data_time')  # keys of an evaluation's line besides metrics


@dataclass
class TrainingLog:
    """The log of one training, including the parts before it was resumed.

    Attributes:
        train: Training lines: ``loss``, ``step``, ``time`` and usually ``epoch``.
        val: Lines of evaluations while training: ``step`` (the epoch or iteration, as
            ``LoggerHook`` counts) and the metrics, e.g. ``coco/bbox_mAP``.
        folder: The folder of the latest part.
        ends_with_val: Whether the last line of the latest part is an evaluation's.
    """

    train: list[dict]
    val: list[dict]
    folder: Path
    ends_with_val: bool


def read_log(work_dir: Path) -> TrainingLog:
    """Read the log of the latest training in a work directory.

    The parts before a resumption are included. Earlier separate trainings, tests, and lines that
    the resumed training wrote again are left out.

    Raises:
        UserError: There is no training log.
    """
    train, val, folder, ends_with_val = [], [], None, False
    for path in sorted(work_dir.glob('*/vis_data/scalars.json'), reverse=True):
        lines = [line for line in _json_lines(path) if 'step' in line]
        losses = [line for line in lines if 'loss' in line]
        # a test has step 0
        tested = [line for line in lines if 'loss' not in line and line['step']]
        if not losses and not tested:
            continue
        if train:
            # the step that it resumed from, 0 if it started anew; lines are evenly spaced
            spacing = train[1]['step'] - train[0]['step'] if len(train) > 1 else 1
            start = train[0]['step'] - spacing
            losses = [line for line in losses if line['step'] <= start]
            last = train[0]['epoch'] - 1 if 'epoch' in train[0] else start
            tested = [line for line in tested if line['step'] <= last]
        if val:  # a resumed training may begin with the validation that was due
            tested = [line for line in tested if line['step'] < val[0]['step']]
        if folder is None:
            folder, ends_with_val = path.parents[1], 'loss' not in lines[-1]
        train, val = losses + train, tested + val
    if not train:
        raise UserError(f'{work_dir} has no training log (*/vis_data/scalars.json): train first')
    return TrainingLog(train, val, folder, ends_with_val)


def unit(train: list[dict]) -> str:
    """Return the unit that the training lines are counted in: 'epoch' or 'iteration'."""
    return 'epoch' if all('epoch' in line for line in train) else 'iteration'


def trained_for(train: list[dict]) -> int:
    """Return the number of epochs or iterations (see :func:`unit`) that the lines reach."""
    return max(line.get('epoch', line['step']) for line in train)


def _json_lines(path: Path) -> list[dict]:
    lines, found = path.read_text(encoding='utf-8').splitlines(), []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):  # the last one may have been cut off
                raise UserError(f'{path}, line {number} is not JSON: restore the file') from error
    return [line for line in found if isinstance(line, dict)]
