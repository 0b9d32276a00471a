"""Synthetic miniature of COCO with the layout, JSON and categories of the real one.

Annotations follow these rules:

* As in COCO, only the visible part counts: polygons, box and area leave out what other things cover
  or the image border cuts off. A thing that another one splits, or that has a hole (a donut), gets
  several polygons, which do not overlap.
* The box is the extent of the polygons, and the area is the area that they enclose.
* Every thing with a category is annotated, and at least `MIN_VISIBLE` of its whole area is visible.
  Clutter (stones, sticks, ...) has no category and is not annotated.
* All 80 categories are listed; only those in `mmsb.datasets.miniatures.things.THINGS` occur.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from .drawing import SS, VIVID, Stamp, background, outline, photograph, pick, placement
from .folder import (
    MAX_IMAGES,
    SIDES,
    Recipe,
    encode_jpeg,
    fit,
    make_miniature,
    random_generator,
    write_sheet,
)
from .things import THINGS, clutter

VERSION = 1  # increase it with any change that alters the images
SPLITS = ('train2017', 'val2017')
MIN_VISIBLE = 0.45
MIN_AREA = 48  # of the visible part, pixels
MIN_SIDE = 5  # of a box, pixels

LICENSE = {
    'url': 'https://www.apache.org/licenses/LICENSE-2.0',
    'id': 1,
    'name': 'Apache License 2.0',
}

_NAMES = {  # in the order of COCO's ids
    'person': 'person',
    'vehicle': 'bicycle, car, motorcycle, airplane, bus, train, truck, boat',
    'outdoor': 'traffic light, fire hydrant, stop sign, parking meter, bench',
    'animal': 'bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe',
    'accessory': 'backpack, umbrella, handbag, tie, suitcase',
    'sports': 'frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, '
    'skateboard, surfboard, tennis racket',
    'kitchen': 'bottle, wine glass, cup, fork, knife, spoon, bowl',
    'food': 'banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake',
    'furniture': 'chair, couch, potted plant, bed, dining table, toilet',
    'electronic': 'tv, laptop, mouse, remote, keyboard, cell phone',
    'appliance': 'microwave, oven, toaster, sink, refrigerator',
    'indoor': 'book, clock, vase, scissors, teddy bear, hair drier, toothbrush',
}
_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def _categories() -> list[dict]:
    ids = (i for i in range(1, 91) if i not in _UNUSED_IDS)
    return [
        {'supercategory': group, 'id': next(ids), 'name': name}
        for group, names in _NAMES.items()
        for name in names.split(', ')
    ]


CATEGORIES = _categories()
"""COCO's 80 categories as its JSON lists them."""


def draw_scene(
    rng: np.random.Generator, height: int, width: int, objects: tuple[int, int] = (4, 8)
) -> tuple[np.ndarray, list[tuple[str, list[np.ndarray]]]]:
    """Render one image.

    Args:
        rng: Generator of all randomness.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        objects: Minimum and maximum number of annotated things. A small image may hold fewer.

    Returns:
        The image (RGB, uint8) and, for each thing, its name and the polygons of its visible part.
    """
    shape = (height * SS, width * SS)
    light = np.array([np.cos(a := rng.uniform(0.3, np.pi - 0.3)), np.sin(a)])
    wanted = [True] * int(rng.integers(objects[0], objects[1] + 1))
    wanted += [False] * int(rng.integers(0, 6))
    rng.shuffle(wanted)
    # Place from front to back, so that each thing's visible part is known before it is painted.
    covered, placed, found = np.zeros(shape, bool), [], []
    for named in wanted:
        name = pick(rng, tuple(THINGS)) if named else None
        figure, most_turn, mirrored = THINGS[name] if named else (clutter, 180, True)
        parts = figure(rng)
        for _ in range(30):
            low, high = np.log([0.11, 0.75 if named else 0.4])
            size = np.sqrt(height * width) * np.exp(rng.uniform(low, high))
            flip = -1 if mirrored and rng.random() < 0.5 else 1
            matrix = placement(
                parts,
                centre=rng.uniform(0.03, 0.97, 2) * shape[::-1],
                size=max(size, 14) * SS,
                turn=np.clip(rng.normal(0, 0.5), -1, 1) * most_turn,
                stretch=(flip * rng.uniform(0.78, 1), rng.uniform(0.88, 1)),
                shear=rng.uniform(-0.12, 0.12),
            )
            stamp = Stamp(parts, matrix)
            mask = stamp.mask(shape)
            visible = mask & ~covered
            area = np.count_nonzero(visible)
            if area < max(MIN_VISIBLE * stamp.full_area, MIN_AREA * SS**2):
                continue
            polygons = outline(visible) if named else []
            if named and min(_box(polygons)[2:]) < MIN_SIDE:
                continue
            covered |= mask
            placed.append(stamp)
            if named:
                found.append((name, polygons))
            break
    canvas = cv2.resize(background(rng, height, width), shape[::-1])
    for stamp in reversed(placed):
        stamp.paint(canvas, light, depth=rng.uniform(0, 0.3), shadow=rng.uniform(0.1, 0.6))
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return photograph(rng, image), found


def _box(polygons: list[np.ndarray]) -> list[float]:
    if not polygons:
        return [0.0] * 4
    points = np.concatenate(polygons)
    low, high = points.min(0), points.max(0)
    return [round(float(v), 2) for v in (*low, *(high - low))]


def _draw_image(
    seed: int, split: int, index: int, size: tuple[int, int], objects: tuple[int, int]
) -> tuple[bytes, dict, list[dict]]:
    """Render one JPEG with its JSON entries, which depend on the arguments alone."""
    rng = random_generator(seed, split, index)
    height, width = (int(v) for v in rng.integers(size[0], size[1] + 1, 2))
    picture, found = draw_scene(rng, height, width, objects)
    jpeg = encode_jpeg(rng, picture)
    image_id = split * MAX_IMAGES + index + 1  # unique across both splits
    image = {
        'license': LICENSE['id'],
        'file_name': f'{image_id:012d}.jpg',
        'coco_url': '',
        'height': height,
        'width': width,
        'date_captured': '2017-01-01 00:00:00',
        'flickr_url': '',
        'id': image_id,
    }
    ids = {c['name']: c['id'] for c in CATEGORIES}
    annotations = [
        {
            'segmentation': [[round(float(v), 2) for v in p.ravel()] for p in polygons],
            'area': round(sum(cv2.contourArea(p.astype(np.float32)) for p in polygons), 2),
            'iscrowd': 0,
            'image_id': image_id,
            'bbox': _box(polygons),
            'category_id': ids[name],
            'id': image_id * 1000 + k,
        }
        for k, (name, polygons) in enumerate(found, 1)
    ]
    return jpeg, image, annotations


def _write_split(
    root: Path, split: int, images: Iterable[tuple[bytes, dict, list[dict]]], recipe: dict
) -> None:
    folder = root / SPLITS[split]
    folder.mkdir()
    data = {
        'info': {
            'description': 'Drawn miniature of COCO 2017',
            'url': '',
            'version': '1.0',
            'year': 2017,
            'contributor': 'mmsb',
            'date_created': '2017/09/01',
            'mini_coco': recipe,
        },
        'licenses': [LICENSE],
        'images': [],
        'annotations': [],
        'categories': CATEGORIES,
    }
    for jpeg, image, found in images:
        # cv2.imwrite does not say why it failed
        (folder / image['file_name']).write_bytes(jpeg)
        data['images'].append(image)
        data['annotations'] += found
    path = _annotations(root, split)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data))


def _annotations(root: Path, split: int) -> Path:
    return root / 'annotations' / f'instances_{SPLITS[split]}.json'


def _inspect(root: Path) -> tuple[dict | None, bool]:
    """Return the recipe of the miniature in a folder, or None if it holds anything else.

    The second value tells whether all of its images are there.
    """
    recipes, ours = [], set()
    for split in range(2):
        try:
            data = json.loads(_annotations(root, split).read_text())
            recipes.append(data['info']['mini_coco'])
            ours |= {root / SPLITS[split] / i['file_name'] for i in data['images']}
        except (OSError, ValueError, KeyError, TypeError):
            return None, False
    there = {p for p in root.rglob('*') if not p.is_dir()}
    there -= {_annotations(root, split) for split in range(2)}
    if recipes[0] != recipes[1] or not isinstance(recipes[0], dict) or there - ours:
        return None, False
    return recipes[0], there == ours


def make_mini_coco(
    out_dir: str | os.PathLike,
    num_train: int = 240,
    num_val: int = 60,
    size: tuple[int, int] = (160, 320),
    objects: tuple[int, int] = (4, 8),
    seed: int = 0,
    **options,
) -> Path:
    """Make a synthetic miniature of COCO.

    Args:
        out_dir: The folder to make, e.g. ``data/mini_coco``.
        num_train: Images in ``train2017``, 1 to 500,000.
        num_val: Images in ``val2017``, 1 to 500,000.
        size: Smallest and largest side of an image in pixels, 64 to 4096; width and height are
            sampled independently.
        objects: Minimum and maximum number of annotated objects per image, 1 to 50.
        seed: Random seed, 0 or more. Another seed gives other images.
        **options: ``num_workers``, ``force`` and ``log`` of :func:`.folder.make_miniature`.

    For the returned value and errors, see that function.

    Example:
        >>> root = make_mini_coco('data/mini_coco', num_train=8, num_val=2)
        >>> sorted(p.name for p in root.iterdir())
        ['annotations', 'train2017', 'val2017']
    """

    def write(root: Path, run: Callable, recipe: Recipe) -> None:
        for split, count in enumerate((num_train, num_val)):
            draw = partial(_draw_image, seed, split, size=size, objects=objects)
            _write_split(root, split, run(draw, range(count)), recipe)

    return make_miniature(
        out_dir,
        'miniature COCO',
        VERSION,
        write,
        (num_train, num_val),
        dict(size=list(size), objects=list(objects)),
        checks=[('size', size, *SIDES), ('objects', objects, 1, 50)],
        seed=seed,
        inspect=_inspect,
        **options,
    )


def count_objects(root: str | os.PathLike) -> dict[str, list[int]]:
    """Count the annotations of each category that occurs, ``[train, val]``, in COCO's order."""
    names = {c['id']: c['name'] for c in CATEGORIES}
    counts = {name: [0, 0] for name in names.values()}
    for split in range(2):
        for ann in json.loads(_annotations(Path(root), split).read_text())['annotations']:
            counts[names[ann['category_id']]][split] += 1
    return {name: n for name, n in counts.items() if any(n)}


def draw_sheet(
    root: str | os.PathLike, path: str | os.PathLike, split: str = 'train2017', num_images: int = 24
) -> None:
    """Write a sheet of the first images with their boxes, outlines and names.

    Args:
        root: A dataset in COCO's layout.
        path: The PNG or JPEG to write.
        split: ``train2017`` or ``val2017``.
        num_images: How many images to show, six per row.

    Raises:
        UserError: `path` cannot be written.
    """
    root = Path(root)
    data = json.loads(_annotations(root, SPLITS.index(split)).read_text())
    names = {c['id']: c['name'] for c in data['categories']}
    cells = []
    for image in data['images'][:num_images]:
        picture, zoom = fit(cv2.imread(str(root / split / image['file_name'])))
        for ann in data['annotations']:
            if ann['image_id'] != image['id']:
                continue
            colour = VIVID[ann['category_id'] % len(VIVID)][::-1]
            x, y, w, h = (round(v * zoom) for v in ann['bbox'])
            outlines = [
                np.round(np.reshape(p, (-1, 2)) * zoom).astype(int) for p in ann['segmentation']
            ]
            cv2.polylines(picture, outlines, True, (255, 255, 255), 1, cv2.LINE_AA)
            cv2.rectangle(picture, (x, y), (x + w, y + h), colour, 1)
            name, font = names[ann['category_id']], cv2.FONT_HERSHEY_SIMPLEX
            (wide, high), _ = cv2.getTextSize(name, font, 0.4, 1)
            y = max(y, high + 4)
            cv2.rectangle(picture, (x, y - high - 4), (x + wide + 4, y), colour, -1)
            cv2.putText(picture, name, (x + 2, y - 3), font, 0.4, (255,) * 3, 1, cv2.LINE_AA)
        cells.append(picture)
    write_sheet(path, cells)
