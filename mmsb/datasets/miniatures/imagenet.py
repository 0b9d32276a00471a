"""Synthetic miniature of ImageNet-1k: one folder per synset, as in the unpacked real one.

Colour alone does not separate the classes: oranges, basketballs, goldfish and pumpkins are orange,
lemons, tennis balls, bananas and school buses are yellow, and man-made things have any colour.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from . import things
from .drawing import SS, Part, Stamp, background, photograph, placement
from .figures import food, household, living, outdoors
from .folder import (
    MAX_OF_A_CLASS,
    SIDES,
    Recipe,
    encode_jpeg,
    make_miniature,
    random_generator,
    write_sheet,
)

VERSION = 1  # increase it with any change that alters the images
SPLITS = ('train', 'val')

Figure = tuple[Callable[[np.random.Generator], list[Part]], float, bool]
"""(function, degrees it may be rotated either way, whether it may be mirrored)."""

CLASSES: dict[str, tuple[str, int, Figure]] = {
    'n01443537': ('goldfish', 1, (living.goldfish, 40, True)),
    'n01944390': ('snail', 113, (living.snail, 25, True)),
    'n02165456': ('ladybug', 301, (living.ladybug, 180, True)),
    'n02279972': ('monarch', 323, (living.monarch, 180, True)),
    'n02317335': ('starfish', 327, (living.starfish, 180, True)),
    'n02690373': ('airliner', 404, (outdoors.airliner, 25, True)),
    'n02708093': ('analog clock', 409, (things.clock, 25, False)),
    'n02782093': ('balloon', 417, (outdoors.balloon, 15, True)),
    'n02802426': ('basketball', 430, (things.basketball, 180, True)),
    'n02814860': ('beacon', 437, (outdoors.lighthouse, 8, True)),
    'n02980441': ('castle', 483, (outdoors.castle, 8, True)),
    'n03063599': ('coffee mug', 504, (household.mug, 20, True)),
    'n03196217': ('digital clock', 530, (household.digital_clock, 20, False)),
    'n03443371': ('goblet', 572, (household.goblet, 15, True)),
    'n03590841': ("jack-o'-lantern", 607, (food.jack_o_lantern, 15, True)),
    'n03930630': ('pickup', 717, (outdoors.pickup, 12, True)),
    'n04146614': ('school bus', 779, (outdoors.school_bus, 12, True)),
    'n04254680': ('soccer ball', 805, (things.soccer_ball, 180, True)),
    'n04380533': ('table lamp', 846, (household.lamp, 12, True)),
    'n04398044': ('teapot', 849, (household.teapot, 20, True)),
    'n04404412': ('television', 851, (things.tv, 10, True)),
    'n04409515': ('tennis ball', 852, (things.tennis_ball, 180, True)),
    'n04507155': ('umbrella', 879, (things.umbrella, 45, True)),
    'n04591713': ('wine bottle', 907, (household.wine_bottle, 60, True)),
    'n06874185': ('traffic light', 920, (things.traffic_light, 15, True)),
    'n07614500': ('ice cream', 928, (food.ice_cream, 30, True)),
    'n07720875': ('bell pepper', 945, (food.bell_pepper, 60, True)),
    'n07734744': ('mushroom', 947, (food.mushroom, 30, True)),
    'n07742313': ('Granny Smith', 948, (food.granny_smith, 60, True)),
    'n07745940': ('strawberry', 949, (food.strawberry, 90, True)),
    'n07747607': ('orange', 950, (food.orange, 180, True)),
    'n07749582': ('lemon', 951, (food.lemon, 180, True)),
    'n07753275': ('pineapple', 953, (food.pineapple, 40, True)),
    'n07753592': ('banana', 954, (things.banana, 180, True)),
    'n07873807': ('pizza', 963, (food.pizza, 180, True)),
    'n11939491': ('daisy', 985, (living.daisy, 25, True)),
}
"""Synsets that occur: name, number among ImageNet's 1000 classes, figure."""


def draw_portrait(rng: np.random.Generator, height: int, width: int, figure: Figure) -> np.ndarray:
    """Render one large thing with clutter behind it and in front of it.

    Args:
        rng: Generator of all randomness.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        figure: Function that makes the thing.

    Returns:
        The image, RGB, uint8.
    """
    shape = np.array([width, height]) * SS
    side = min(shape)
    light = np.array([np.cos(a := rng.uniform(0.3, np.pi - 0.3)), np.sin(a)])
    canvas = cv2.resize(background(rng, height, width), shape.tolist())
    clutter = (things.clutter, 180, True)
    behind, before = rng.integers(0, 4), rng.integers(0, 3)
    for (draw, most_turn, mirrored), low, high, spread in (
        *[(clutter, 0.15, 0.5, 0.5)] * behind,
        (figure, 0.5, 0.95, 0.12),
        *[(clutter, 0.1, 0.25, 0.5)] * before,
    ):
        parts = draw(rng)
        flip = -1 if mirrored and rng.random() < 0.5 else 1
        matrix = placement(
            parts,
            centre=(0.5 + rng.uniform(-spread, spread, 2)) * shape,
            size=side * rng.uniform(low, high),
            turn=np.clip(rng.normal(0, 0.5), -1, 1) * most_turn,
            stretch=(flip * rng.uniform(0.75, 1), rng.uniform(0.85, 1)),
            shear=rng.uniform(-0.15, 0.15),
        )
        Stamp(parts, matrix).paint(canvas, light, rng.uniform(0, 0.3), rng.uniform(0.1, 0.6))
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return photograph(rng, image)


def _draw_image(seed: int, split: int, size: tuple[int, int], item: tuple[str, int]) -> bytes:
    """Render one JPEG of a synset, which depends on the arguments alone."""
    synset, number = item
    entropy = [seed, split, CLASSES[synset][1], number]
    rng = random_generator(*entropy)
    height, width = (int(v) for v in rng.integers(size[0], size[1] + 1, 2))
    picture = draw_portrait(rng, height, width, CLASSES[synset][2])
    return encode_jpeg(rng, picture)


def make_mini_imagenet(
    out_dir: str | os.PathLike,
    num_train: int = 40,
    num_val: int = 10,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    **options,
) -> Path:
    """Make a synthetic miniature of ImageNet-1k with the synsets in `CLASSES`.

    mmpretrain's ``CustomDataset`` and torchvision's ``ImageFolder`` can read the folders
    ``train/n01443537``, ``val/n01443537`` and so on; they number only the synsets that exist.
    ``meta/train.txt`` and ``meta/val.txt`` list the same files with ImageNet's own class numbers,
    up to 999. mmpretrain's ``ImageNet`` uses these lists if a config of 1000 classes sets
    ``split='train'``.

    Args:
        out_dir: The folder to make, e.g. ``data/mini_imagenet``.
        num_train: Images of each synset in ``train``, 1 to 10,000.
        num_val: Images of each synset in ``val``, 1 to 10,000.
        size: Smallest and largest side of an image in pixels, 64 to 4096; width and height are
            sampled independently.
        seed: Random seed, 0 or more. Another seed gives other images.
        **options: ``num_workers``, ``force`` and ``log`` of :func:`.folder.make_miniature`.

    For the returned value and errors, see that function.
    """

    def write(root: Path, run: Callable, recipe: Recipe) -> None:
        (root / 'meta').mkdir()
        for index, (split, count) in enumerate(zip(SPLITS, (num_train, num_val), strict=True)):
            items = [(synset, n) for synset in CLASSES for n in range(count)]
            jpegs = run(partial(_draw_image, seed, index, size), items)
            lines = []
            for (synset, n), jpeg in zip(items, jpegs, strict=True):
                name = f'{synset}/{synset}_{n}.JPEG'
                (root / split / synset).mkdir(parents=True, exist_ok=True)
                (root / split / name).write_bytes(jpeg)
                lines.append(f'{name} {CLASSES[synset][1]}\n')
            (root / 'meta' / f'{split}.txt').write_text(''.join(lines))

    return make_miniature(
        out_dir,
        'miniature ImageNet',
        VERSION,
        write,
        (num_train, num_val),
        dict(size=list(size)),
        checks=[('size', size, *SIDES)],
        most=MAX_OF_A_CLASS,
        counted=f'images of each of {len(CLASSES)} classes',
        seed=seed,
        **options,
    )


def draw_sheet(root: str | os.PathLike, path: str | os.PathLike, split: str = 'train') -> None:
    """Write a sheet of the first images of every class with its name.

    Args:
        root: Folder of the miniature.
        path: The PNG or JPEG to write.
        split: ``train`` or ``val``.

    Raises:
        UserError: `path` cannot be written.
    """
    pictures = {}
    for folder in sorted((Path(root) / split).iterdir()):
        images = sorted(folder.iterdir(), key=lambda p: int(p.stem.split('_')[1]))
        pictures[CLASSES[folder.name][0]] = [cv2.imread(str(image)) for image in images[:4]]
    write_class_sheet(path, pictures)


def write_class_sheet(path: str | os.PathLike, pictures: dict[str, list[np.ndarray]]) -> None:
    """Write a sheet with up to four images, BGR, of each class, with its name."""
    cells = []
    for name, examples in pictures.items():
        cell = np.zeros((2 * 156, 2 * 156, 3), np.uint8)
        for k, picture in enumerate(examples[:4]):
            zoom = 154 / max(picture.shape[:2])
            small = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
            cell[k // 2 * 156 :, k % 2 * 156 :][: small.shape[0], : small.shape[1]] = small
        at, font = (4, 304), cv2.FONT_HERSHEY_SIMPLEX
        for ink, wide in ((0, 4), (255, 1)):
            cv2.putText(cell, name, at, font, 0.7, (ink,) * 3, wide, cv2.LINE_AA)
        cells.append(cell)
    write_sheet(path, cells)
