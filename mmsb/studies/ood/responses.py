"""Responses of models and humans as CSV files, in the format of model-vs-human's raw-data."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmsb.studies.ood.scores import DATASETS, Responses
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing

COLUMNS = (
    *('subj', 'session', 'trial', 'rt', 'object_response', 'category', 'condition', 'imagename'),
)
READ = ('subj', 'condition', 'imagename', 'category', 'object_response')


def read_responses(folders: Iterable[str | os.PathLike]) -> dict[str, dict[str, Responses]]:
    """Read the responses of all observers.

    Args:
        folders: Folders with one folder per data set, ``sketch/sketch_NAME_session-1.csv``.

    Returns:
        Data set -> observer -> responses, in the benchmark's order of data sets. An observer's
        sessions are joined; '_' in names becomes '-'.

    Raises:
        UserError: A folder does not exist or has no such file, a file cannot be read or lacks a
            column, or an observer is in two folders.
    """
    found = {}
    sources = {}
    for folder in map(Path, folders):
        files = [(d, path) for d in DATASETS for path in sorted((folder / d).glob('*.csv'))]
        if not files:
            what = 'holds no responses' if folder.is_dir() else 'does not exist'
            raise UserError(
                f'{folder} {what}: give folders with files like sketch/sketch_NAME_session-1.csv, '
                "as tools/test.py leaves them in WORK_DIR/responses, or model-vs-human's raw-data"
            )
        for dataset, path in files:
            for observer, rows in _read(path).items():
                if sources.setdefault((dataset, observer), folder) != folder:
                    raise UserError(
                        f'{sources[dataset, observer]} and {folder} both have responses of '
                        f'{observer} to {dataset}: give each observer once, or test the model '
                        'under another name, --cfg-options test_evaluator.model=NAME'
                    )
                found.setdefault(dataset, {}).setdefault(observer, []).extend(rows)
    return {
        dataset: {o: Responses(*zip(*rows, strict=True)) for o, rows in found[dataset].items()}
        for dataset in DATASETS
        if dataset in found
    }


def _read(path: Path) -> dict[str, list[tuple[str, ...]]]:
    """Read a file as observer -> rows of condition, image, category, response."""
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            head, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f'{path} cannot be read ({error}): it must be a CSV file') from error
    head = [name.strip().lower() for name in head]
    if missing := [name for name in READ if name not in head]:
        raise UserError(
            f'{path} has no column {", ".join(missing)}: it must have {", ".join(COLUMNS)}'
        )
    if short := [n for n, row in enumerate(rows, 2) if len(row) != len(head)]:
        raise UserError(f'{path}: row {short[0]} must have {len(head)} cells, as its header has')
    if not rows:
        raise UserError(f'{path} holds no responses: remove it, or write it again')
    observers = {}
    for row in rows:
        cells = dict(zip(head, map(str.strip, row), strict=True))
        observer, *rest = (cells[name] for name in READ)
        observers.setdefault(observer.replace('_', '-'), []).append(tuple(rest))
    return observers


def write_responses(
    folder: str | os.PathLike, dataset: str, observer: str, rows: Iterable[Sequence[object]]
) -> None:
    """Write a model's responses to one data set, one file per session.

    Args:
        folder: ``FOLDER/DATASET/DATASET_OBSERVER_session-N.csv`` is written.
        dataset: One of `DATASETS`.
        observer: The model's name.
        rows: One row per trial: session, trial, response, category, condition and image.

    Raises:
        UserError: The folder cannot be written to.
    """
    sessions = {}
    for session, trial, *rest in sorted(rows):
        sessions.setdefault(session, []).append([observer, session, trial, 'NaN', *rest])
    for session, lines in sessions.items():
        path = Path(folder) / dataset / f'{dataset}_{observer}_session-{session}.csv'
        with replacing(path) as part, part.open('w', newline='', encoding='utf-8') as file:
            csv.writer(file, lineterminator='\n').writerows([COLUMNS, *lines])
