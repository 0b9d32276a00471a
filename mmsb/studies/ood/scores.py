"""Scores of the model-vs-human benchmark (Geirhos et al. 2021; the paper's Table 11).

Models and humans choose one of 16 categories for each image in 17 data sets outside ImageNet's
distribution. A model's correct answers and errors are compared with those of each human.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmsb.utils.errors import UserError

DATASETS = (
    *('sketch', 'stylized', 'edge', 'silhouette', 'cue-conflict'),
    *('colour', 'contrast', 'high-pass', 'low-pass', 'phase-scrambling', 'power-equalisation'),
    *('false-colour', 'rotation', 'eidolonI', 'eidolonII', 'eidolonIII', 'uniform-noise'),
)

CONDITIONS = {
    'colour': ('bw',),
    'contrast': ('c50', 'c30', 'c15', 'c10', 'c05'),
    'high-pass': ('3.0', '1.5', '1.0', '0.7'),
    'low-pass': ('1', '3', '5', '7', '10'),
    'phase-scrambling': ('30', '60', '90', '120'),
    'power-equalisation': ('pow',),
    'false-colour': ('False',),
    'rotation': ('90', '180', '270'),
    'eidolonI': ('2-10-10', '4-10-10', '8-10-10', '16-10-10', '32-10-10'),
    'eidolonII': ('2-3-10', '4-3-10', '8-3-10', '16-3-10'),
    'eidolonIII': ('2-0-10', '4-0-10', '8-0-10'),
    'uniform-noise': ('0.03', '0.05', '0.1', '0.2', '0.35'),
}
"""The conditions that count: not undistorted images, nor those that humans hardly recognise. In the
other data sets all trials are one condition."""

CATEGORIES = {
    'airplane': (404,),
    'bear': (294, 295, 296, 297),
    'bicycle': (444, 671),
    'bird': (
        *(8, *range(10, 17), 18, 19, 20, 22, 23, 24, *range(80, 84), *range(87, 97), 98, 99, 100),
        *(*range(127, 134), *range(135, 146)),
    ),
    'boat': (472, 554, 625, 814, 914),
    'bottle': (440, 720, 737, 898, 899, 901, 907),
    'car': (436, 511, 817),
    'cat': (281, 282, 283, 284, 285, 286),
    'chair': (423, 559, 765, 857),
    'clock': (409, 530, 892),
    'dog': (
        *(*range(152, 192), *range(193, 204), *range(205, 227), *range(228, 242), *range(243, 251)),
        *(*range(252, 258), 259, 261, 262, 263, 265, 266, 267, 268),
    ),
    'elephant': (385, 386),
    'keyboard': (508, 878),
    'knife': (499,),
    'oven': (766,),
    'truck': (555, 569, 656, 675, 717, 734, 864, 867),
}
"""Category -> its classes among ImageNet's 1000."""

HUMAN = 'subject-'  # prefix of the names of humans

METRICS = (
    'accuracy_difference',
    'observed_consistency',
    'error_consistency',
    'ood_accuracy',
    'shape_bias',
)


class Responses(NamedTuple):
    """Responses of one observer, a model or a human, to the images in one data set.

    Attributes:
        condition: The condition of each trial, (N,), strings.
        image: File names, (N,).
        category: True categories, (N,).
        response: The observer's answers, (N,); anything but a category, e.g. 'na', is wrong.
    """

    condition: Sequence[str]
    image: Sequence[str]
    category: Sequence[str]
    response: Sequence[str]


def decide(scores: np.ndarray) -> np.ndarray:
    """Choose each image's category: the one whose classes have the highest mean probability.

    Args:
        scores: Softmax over ImageNet's 1000 classes, (N, 1000).

    Returns:
        Categories, (N,), strings. A tie goes to the last in the alphabet, as in the benchmark,
        which sorts in reverse.

    Raises:
        UserError: There are not 1000 classes.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape[-1] != 1000:
        raise UserError(
            f"the 16 categories are made of ImageNet's 1000 classes, but the model has "
            f'{scores.shape[-1]}: give a config and a checkpoint with 1000 classes'
        )
    means = [scores[:, list(classes)].mean(1) for classes in reversed(CATEGORIES.values())]
    return np.array(list(reversed(CATEGORIES)))[np.argmax(means, 0)]


def image_id(name: str) -> str:
    """Return the part of a file name that identifies the image, without trial and observer.

    Example:
        >>> image_id('0001_cl_s01_bw_boat_40_n02951358_5952.png'), image_id('0002_ske_car-9.png')
        ('n02951358_5952.png', 'car-9.png')
    """
    *_, before, last = ('', *name.split('_'))
    return f'{before}_{last}' if before.startswith('n0') else last


def condition_key(condition: str) -> str:
    """Return one spelling for equal conditions: 'true' and 'True', '3' and '3.0'."""
    try:
        return str(float(condition))
    except ValueError:
        return condition.strip().lower()


def observed_consistency(right: np.ndarray, others: np.ndarray) -> float:
    """Return the share of trials that both observers get right or both get wrong.

    Args:
        right: Whether one observer is right, (N,), bool.
        others: Whether the other observer is right, on the same images.
    """
    return float(np.mean(np.equal(right, others)))


def error_consistency(right: np.ndarray, others: np.ndarray) -> float:
    """Return Cohen's kappa of both observers being right or wrong, -1 to 1; 1 if they always agree.

    Args:
        right: Whether one observer is right, (N,), bool.
        others: Whether the other observer is right, on the same images.
    """
    observed, p, q = observed_consistency(right, others), np.mean(right), np.mean(others)
    expected = p * q + (1 - p) * (1 - q)
    return 1.0 if observed == 1 else float((observed - expected) / (1 - expected))


def shape_bias(responses: Responses) -> float | None:
    """Return the share of shape answers among all answers that name the shape or the texture.

    Args:
        responses: Responses to cue-conflict. Its image 'airplane1-bicycle2.png' has the shape of
            an airplane and the texture of a bicycle. Images without conflict do not count.

    Returns:
        0 to 1, or None if no answer names either.
    """
    shapes = textures = 0
    for image, shape, response in zip(
        responses.image, responses.category, responses.response, strict=True
    ):
        texture = image_id(image).partition('.')[0].rpartition('-')[2].rstrip('0123456789')
        if shape != texture:
            shapes += response == shape
            textures += response == texture
    return shapes / (shapes + textures) if shapes + textures else None


def score(
    dataset: str, observers: Mapping[str, Responses], names: Iterable[str] | None = None
) -> dict[str, dict[str, float]]:
    """Score observers on one data set.

    Each observer is compared with each human, a human with the other humans. Consistencies and the
    squared accuracy difference are means over the counted conditions, then over the humans. OOD
    accuracy is over all trials in counted conditions.

    Args:
        dataset: One of `DATASETS`.
        observers: Name -> responses; the names of humans begin with `HUMAN`.
        names: The observers to score. Defaults to None: all.

    Returns:
        Name -> `METRICS`. Metrics without a value are left out: comparisons if there is no human,
        shape bias except on cue-conflict.

    Raises:
        UserError: An image was shown twice, a condition is missing, or an observer and a human
            did not see the same images.
    """
    trials = {name: _counted(dataset, name, found) for name, found in observers.items()}
    scores = {}
    for name in observers if names is None else names:
        others = [other for other in trials if other.startswith(HUMAN) and other != name]
        pairs = [_compare(dataset, name, other, trials) for other in others]
        found = dict(zip(METRICS, np.mean(pairs, 0).tolist(), strict=False)) if pairs else {}
        rights = [right for shown in trials[name].values() for right in shown.values()]
        found['ood_accuracy'] = float(np.mean(rights))
        bias = shape_bias(observers[name]) if dataset == 'cue-conflict' else None
        scores[name] = found if bias is None else dict(found, shape_bias=bias)
    return scores


def average(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return means over data sets (or observers), each metric over those that have it."""
    values = {metric: [s[metric] for s in scores if metric in s] for metric in METRICS}
    return {metric: float(np.mean(found)) for metric, found in values.items() if found}


Trials = dict[str, dict[str, bool]]  # counted condition -> image -> whether the answer was right


def _counted(dataset: str, observer: str, responses: Responses) -> Trials:
    counted = [condition_key(condition) for condition in CONDITIONS.get(dataset, ['all'])]
    trials = {condition: {} for condition in counted}
    twice = []
    for condition, image, category, response in zip(*responses, strict=True):
        key = condition_key(condition) if dataset in CONDITIONS else 'all'
        if key not in trials:
            continue
        name = image_id(image)
        if name in trials[key]:
            twice.append(name)
        trials[key][name] = response == category
    if twice:
        raise UserError(
            f'{dataset}: {observer} answered {len(twice)} images more than once ({_some(twice)}): '
            'keep one file per session'
        )
    if empty := [condition for condition, found in trials.items() if not found]:
        raise UserError(
            f'{dataset}: {observer} has no response in condition {_some(empty)}: the data set or '
            'the file of responses is incomplete; copy it again'
        )
    return trials


def _compare(dataset: str, name: str, human: str, trials: dict[str, Trials]) -> np.ndarray:
    """Return the first three of `METRICS`, as means over conditions."""
    own, theirs = trials[name], trials[human]
    for who, has, other, lacks in ((human, theirs, name, own), (name, own, human, theirs)):
        missing = [i for key, shown in has.items() for i in sorted({*shown} - {*lacks[key]})]
        if missing:
            raise UserError(
                f'{dataset}: {other} has no response to {len(missing)} images of {who} '
                f'({_some(missing)}): both must see the same images under the same conditions'
            )
    rows = []
    for key, shown in own.items():
        right = np.array(list(shown.values()))
        others = np.array([theirs[key][image] for image in shown])
        difference = (right.mean() - others.mean()) ** 2
        rows.append(
            [difference, observed_consistency(right, others), error_consistency(right, others)]
        )
    return np.mean(rows, 0)


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + ', ...' * (len(names) > 3)
