"""A miniature of the model-vs-human benchmark: folders, file names, and the humans' quirks."""

import csv

import cv2
import numpy as np

from mmsb.studies.ood.dataset import BY_CATEGORY
from mmsb.studies.ood.scores import CATEGORIES, CONDITIONS, DATASETS

NAMES = list(CATEGORIES)
HEAD = ['subj', 'session', 'trial', 'rt', 'object_response', 'category', 'condition', 'imagename']
# how some files of the humans spell conditions
SPELLINGS = {'False': 'false', 'True': 'true', '3.0': '3', '1.0': '1', '0.1': '0.10'}
LEFT_OUT = {'colour': 'cr', 'false-colour': 'True', 'uniform-noise': '0.0'}


def write_csv(path, head, rows):
    """Rows of a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='') as file:
        csv.writer(file).writerows([head, *rows])


def trials(dataset, count):
    """Trial, condition, category and the image's own name of some images."""
    conditions = [*CONDITIONS.get(dataset, ['0'])]
    if dataset in LEFT_OUT:
        conditions.append(LEFT_OUT[dataset])
    for trial in range(count * len(conditions)):
        condition, category = conditions[trial // count], NAMES[trial * 5 % 16]
        if dataset in CONDITIONS:
            image = f'n0{2951358 + trial}_{trial}.png'
        elif dataset == 'cue-conflict':
            image = f'{category}{trial}-{NAMES[trial * 7 % 16]}{trial + 1}.png'
        else:
            image = f'{category}{trial}.png'
        yield trial + 1, condition, category, image


def make_mini_ood(root, datasets=DATASETS, count=4, humans=3, side=32, seed=0):
    """Draws coloured noise in the layout of the benchmark; humans answer right more often than not.

    Returns:
        The root, of ``datasets`` and ``raw-data``.
    """
    rng = np.random.default_rng(seed)
    for dataset in datasets:
        found = list(trials(dataset, count))
        for trial, condition, category, image in found:
            if dataset in BY_CATEGORY:
                path = root / 'datasets' / dataset / category / image
            else:
                name = f'{trial:04}_xx_dnn_{condition}_{category}_00_{image}'
                path = root / 'datasets' / dataset / 'dnn' / 'session-1' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            colour, noise = rng.integers(0, 206, 3), rng.integers(0, 50, (side, side, 3))
            cv2.imwrite(str(path), (colour + noise).astype(np.uint8))
        for human in range(1, humans + 1):
            rows = []
            for number, n in enumerate(rng.permutation(len(found)), 1):
                _, condition, category, image = found[n]
                response = category if rng.random() < 0.7 else rng.choice([*NAMES, 'na'])
                spelt = SPELLINGS.get(condition, condition) if human == 1 else condition
                name = f'{number:04}_xx_s{human:02}_{condition}_{category}_00_{image}'
                rows.append(
                    [f'subject-{human:02}', 1, number, 0.5, response, category, spelt, name]
                )
            head = ['subj', 'Session', *HEAD[2:]] if human == 1 else HEAD
            name = f'{dataset}_subject-{human:02}_session_1.csv'
            write_csv(root / 'raw-data' / dataset / name, head, rows)
    return root
