"""Synthetic miniature of CIFAR-100 with the pickles, names and class numbers of the real one."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mmsb.datasets.cifar100 import MINIATURE
from mmsb.utils.safe_load import load_pickle

from . import things
from .figures import food, household, living, outdoors
from .folder import MAX_OF_A_CLASS, Recipe, make_miniature, random_generator
from .imagenet import Figure, draw_portrait, write_class_sheet

VERSION = 1  # increase it with any change that alters the images
SPLITS = ('train', 'test')
FOLDER = 'cifar-100-python'
SIDE = 32  # pixels

_NAMES = {  # in the order of CIFAR-100's coarse labels
    'aquatic_mammals': 'beaver dolphin otter seal whale',
    'fish': 'aquarium_fish flatfish ray shark trout',
    'flowers': 'orchid poppy rose sunflower tulip',
    'food_containers': 'bottle bowl can cup plate',
    'fruit_and_vegetables': 'apple mushroom orange pear sweet_pepper',
    'household_electrical_devices': 'clock keyboard lamp telephone television',
    'household_furniture': 'bed chair couch table wardrobe',
    'insects': 'bee beetle butterfly caterpillar cockroach',
    'large_carnivores': 'bear leopard lion tiger wolf',
    'large_man-made_outdoor_things': 'bridge castle house road skyscraper',
    'large_natural_outdoor_scenes': 'cloud forest mountain plain sea',
    'large_omnivores_and_herbivores': 'camel cattle chimpanzee elephant kangaroo',
    'medium_mammals': 'fox porcupine possum raccoon skunk',
    'non-insect_invertebrates': 'crab lobster snail spider worm',
    'people': 'baby boy girl man woman',
    'reptiles': 'crocodile dinosaur lizard snake turtle',
    'small_mammals': 'hamster mouse rabbit shrew squirrel',
    'trees': 'maple_tree oak_tree palm_tree pine_tree willow_tree',
    'vehicles_1': 'bicycle bus motorcycle pickup_truck train',
    'vehicles_2': 'lawn_mower rocket streetcar tank tractor',
}
COARSE_NAMES = tuple(_NAMES)
FINE_NAMES = tuple(sorted(' '.join(_NAMES.values()).split()))
"""CIFAR-100's 20 coarse and 100 fine labels, in its order."""

CLASSES: dict[str, Figure] = {
    'apple': (food.apple, 60, True),
    'aquarium_fish': (living.goldfish, 30, True),
    'bed': (household.bed, 10, True),
    'beetle': (living.ladybug, 180, True),
    'bottle': (household.wine_bottle, 30, True),
    'bowl': (household.bowl, 15, True),
    'bus': (outdoors.bus, 12, True),
    'butterfly': (living.butterfly, 90, True),
    'can': (household.can, 30, True),
    'castle': (outdoors.castle, 8, True),
    'chair': (household.chair, 10, True),
    'clock': (things.clock, 25, False),
    'couch': (household.sofa, 10, True),
    'cup': (household.mug, 20, True),
    'house': (outdoors.house, 8, True),
    'lamp': (household.lamp, 12, True),
    'mushroom': (food.mushroom, 30, True),
    'oak_tree': (living.oak, 8, True),
    'orange': (food.orange, 180, True),
    'palm_tree': (living.palm, 12, True),
    'pear': (food.pear, 60, True),
    'pickup_truck': (outdoors.pickup, 12, True),
    'pine_tree': (living.pine, 8, True),
    'rocket': (outdoors.rocket, 45, True),
    'snail': (living.snail, 25, True),
    'sunflower': (living.sunflower, 25, True),
    'sweet_pepper': (food.bell_pepper, 60, True),
    'table': (household.table, 10, True),
    'television': (things.tv, 10, True),
    'tulip': (living.tulip, 25, True),
}
"""The fine labels that occur."""


class _Pickler(pickle.Pickler):
    """Pickler that uses NumPy's public names, since the internal ones change between releases."""

    def reducer_override(self, value):
        if isinstance(value, np.ndarray):
            return np.ndarray, (value.shape, value.dtype.str, value.tobytes())
        return NotImplemented


def _pickled(value: dict) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=4).dump(value)
    return file.getvalue()


def _draw_image(seed: int, split: int, index: int) -> np.ndarray:
    """Render one image, RGB, channels first, which depends on the arguments alone."""
    rng = random_generator(seed, split, index)
    figure = tuple(CLASSES.values())[index % len(CLASSES)]
    picture = draw_portrait(rng, 2 * SIDE, 2 * SIDE, figure)
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small.transpose(2, 0, 1).ravel()


def make_mini_cifar100(
    out_dir: str | os.PathLike, num_train: int = 100, num_val: int = 20, seed: int = 0, **options
) -> Path:
    """Make a synthetic miniature of CIFAR-100 with the classes in `CLASSES`.

    ``cifar-100-python/train``, ``test`` and ``meta`` are pickles in the real format. An image is
    3072 bytes: 32 x 32, red, then green, then blue. ``CIFAR100`` of mmpretrain and torchvision
    checks the MD5 of the real files and refuses others; ``mmsb.CIFAR100`` reads both.

    Args:
        out_dir: The folder to make, e.g. ``data/mini_cifar100``.
        num_train: Images of each class in ``train``, 1 to 10,000.
        num_val: Images of each class in ``test``, 1 to 10,000.
        seed: Random seed, 0 or more. Another seed gives other images.
        **options: ``num_workers``, ``force`` and ``log`` of :func:`.folder.make_miniature`.

    For the returned value and errors, see that function.
    """
    coarse = {name: k for k, names in enumerate(_NAMES.values()) for name in names.split()}

    def write(root: Path, run: Callable, recipe: Recipe) -> None:
        folder = root / FOLDER
        folder.mkdir()
        for index, (split, count) in enumerate(zip(SPLITS, (num_train, num_val), strict=True)):
            names = list(CLASSES) * count
            batch = {
                'filenames': [f'{n}_s_{k // len(CLASSES):06d}.png' for k, n in enumerate(names)],
                'batch_label': f'{split}ing batch 1 of 1',
                'fine_labels': [FINE_NAMES.index(name) for name in names],
                'coarse_labels': [coarse[name] for name in names],
                'data': np.stack([*run(partial(_draw_image, seed, index), range(len(names)))]),
            }
            (folder / split).write_bytes(_pickled(batch))
        meta = {'fine_label_names': list(FINE_NAMES), 'coarse_label_names': list(COARSE_NAMES)}
        (folder / 'meta').write_bytes(_pickled(meta))

    return make_miniature(
        out_dir,
        MINIATURE,
        VERSION,
        write,
        (num_train, num_val),
        most=MAX_OF_A_CLASS,
        counted=f'images of each of {len(CLASSES)} classes',
        splits=SPLITS,
        seed=seed,
        **options,
    )


def draw_sheet(root: str | os.PathLike, path: str | os.PathLike, split: str = 'train') -> None:
    """Write a sheet of the first images of every class with its name.

    Args:
        root: Folder of the miniature.
        path: The PNG or JPEG to write.
        split: ``train`` or ``test``.

    Raises:
        UserError: `path` cannot be written.
    """
    batch = load_pickle(Path(root) / FOLDER / split)
    pictures = {name: [] for name in CLASSES}
    for pixels, label in zip(batch['data'], batch['fine_labels'], strict=True):
        picture = pixels.reshape(3, SIDE, SIDE).transpose(1, 2, 0)[..., ::-1]
        pictures[FINE_NAMES[label]].append(picture)
    write_class_sheet(path, pictures)
