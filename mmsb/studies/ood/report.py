"""Reproduction of the paper's Table 11: models and humans out of ImageNet's distribution."""

from __future__ import annotations

import os
from collections.abc import Iterable

from mmsb.analysis.reports.differences import ONE_SEED
from mmsb.analysis.reports.page import NONE, as_text
from mmsb.studies.ood.responses import read_responses
from mmsb.studies.ood.scores import DATASETS, HUMAN, METRICS, average, score

PAPER = {
    'bat-resnet50-ood': ('BAT-50', '0.069', '0.677'),
    'sb-resnet50-ood': ('SBNet-50', '0.078', '0.668'),
    'gc-resnet50-ood': ('GCNet-50', '0.081', '0.668'),
    'nl-resnet50-ood': ('NLNet-50', '0.086', '0.661'),
    'resnet50-ood': ('ResNet-50', '0.087', '0.657'),
}
"""Model -> the paper's name, accuracy difference and observed consistency, in the paper's order. A
model has the name of its config in configs/ood."""
PUBLISHED = ('0.087', '0.665', '0.208', '0.559')  # ResNet-50, from model-vs-human
TITLES = ('acc. diff. ↓', 'obs. cons. ↑', 'err. cons. ↑', 'OOD acc. ↑', 'shape bias')

Scores = dict[str, dict[str, dict[str, float]]]  # data set -> observer -> metric


def score_observers(folders: Iterable[str | os.PathLike]) -> Scores:
    """Score every model and every human on every data set.

    Args:
        folders: See :func:`mmsb.studies.ood.responses.read_responses`.

    Returns:
        Data set -> observer -> metrics; see :func:`mmsb.studies.ood.scores.score`.

    Raises:
        UserError: Responses cannot be read, or belong to different images.
    """
    return {dataset: score(dataset, found) for dataset, found in read_responses(folders).items()}


def report(scores: Scores) -> str:
    """Format the scores per data set, then Table 11 beside the paper's figures, as text.

    Each data set has other people, so Table 11 has only their mean: over the humans of each data
    set, then over the data sets.

    Args:
        scores: The result of :func:`score_observers`.
    """
    detail = [
        [dataset, observer, *_cells(found)]
        for dataset, observers in scores.items()
        for observer, found in sorted(observers.items(), key=_models_first)
    ]
    head = ['network', TITLES[0], 'paper', TITLES[1], 'paper', *TITLES[2:], 'data sets']
    rows, notes = [], []
    table = _by_network(scores)
    for name in [*PAPER, *(name for name in table if name not in PAPER)]:
        found = table.get(name, {})
        title, *paper = PAPER.get(name, (name, NONE, NONE))
        difference, observed, *others = _cells(average(list(found.values())))
        count = f'{len(found)} of {len(DATASETS)}' if found else NONE
        rows.append([title, difference, paper[0], observed, paper[1], *others, count])
        notes += _missing(title, found) if found else []
    difference, observed, *others = PUBLISHED
    title = 'ResNet-50, published by model-vs-human'
    rows.append([title, difference, NONE, observed, NONE, *others, NONE, '17 of 17'])
    return '\n'.join(
        [
            as_text(['data set', 'observer', *TITLES], detail),
            '',
            'Table 11: models and humans compared with humans (accuracy difference is squared)',
            as_text(head, rows),
            *notes,
            ONE_SEED,
        ]
    )


def _models_first(item: tuple[str, dict]) -> tuple[bool, str]:
    return item[0].startswith(HUMAN), item[0]


def _cells(found: dict[str, float]) -> list[str]:
    return [f'{found[metric]:.3f}' if metric in found else NONE for metric in METRICS]


def _by_network(scores: Scores) -> Scores:
    """Return model -> data set -> metrics, with the mean of the humans as the last model."""
    models, humans = {}, {}
    for dataset, observers in scores.items():
        people = [found for name, found in observers.items() if name.startswith(HUMAN)]
        if people:
            humans[dataset] = average(people)
        for name, found in observers.items():
            if not name.startswith(HUMAN):
                models.setdefault(name, {})[dataset] = found
    return dict(sorted(models.items()), **({'humans': humans} if humans else {}))


def _missing(title: str, found: dict[str, dict[str, float]]) -> list[str]:
    """Return notes on data sets and humans that are missing from a model's averages."""
    absent = [dataset for dataset in DATASETS if dataset not in found]
    alone = [dataset for dataset, metrics in found.items() if METRICS[0] not in metrics]
    lines = [f'{title}: averages without {", ".join(absent)}, which are missing'] * bool(absent)
    return lines + [f'{title}: no human to compare with in {", ".join(alone)}'] * bool(alone)
