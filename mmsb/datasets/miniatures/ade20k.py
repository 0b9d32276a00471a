"""Synthetic miniature of ADE20K with the layout, labels and class numbers of the real one.

The scenes are streets, shores, open country and rooms. Many classes differ by position rather than
by appearance: sea, pond and sky are blue; asphalt, pavement and some houses are grey; wall and
ceiling, beach and footpath, field and meadow share their textures; whatever a window or a painting
shows is labelled windowpane or painting. Things without a class (clutter, balls, ...) are 0, as in
ADE20K.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from .ade20k_scene import LABELS
from .ade20k_scenes import SCENES, draw_scene
from .folder import SIDES, Recipe, encode_jpeg, fit, make_miniature, random_generator, write_sheet

VERSION = 1  # increase it with any change that alters the images
SPLITS = ('training', 'validation')
STEMS = ('ADE_train', 'ADE_val')


def _draw_image(seed: int, split: int, index: int, size: tuple[int, int]) -> tuple[bytes, bytes]:
    """Render one JPEG and its PNG annotation, which depend on the arguments alone."""
    rng = random_generator(seed, split, index)
    picture, labels = draw_scene(rng, *size, SCENES[index % len(SCENES)])
    return encode_jpeg(rng, picture, 88), cv2.imencode('.png', labels)[1].tobytes()


def make_mini_ade20k(
    out_dir: str | os.PathLike,
    num_train: int = 240,
    num_val: int = 60,
    size: tuple[int, int] = (144, 192),
    seed: int = 0,
    **options,
) -> Path:
    """Make a synthetic miniature of ADE20K (the 150 classes of its scene parsing benchmark).

    The annotation of ``images/training/ADE_train_00000001.jpg`` is
    ``annotations/training/ADE_train_00000001.png``, uint8: 0 is other, 1 to 150 are the classes, of
    which those in `LABELS` occur. ``validation`` is laid out alike, with ``ADE_val_00000001``.

    Args:
        out_dir: The folder to make, e.g. ``data/mini_ade20k``.
        num_train: Images in ``training``, 1 to 500,000.
        num_val: Images in ``validation``, 1 to 500,000.
        size: Height and width of the images in pixels, 64 to 4096.
        seed: Random seed, 0 or more. Another seed gives other images.
        **options: ``num_workers``, ``force`` and ``log`` of :func:`.folder.make_miniature`.

    For the returned value and errors, see that function.
    """

    def write(root: Path, run: Callable, recipe: Recipe) -> None:
        for split, count in enumerate((num_train, num_val)):
            images, annotations = (
                root / kind / SPLITS[split] for kind in ('images', 'annotations')
            )
            images.mkdir(parents=True)
            annotations.mkdir(parents=True)
            drawn = run(partial(_draw_image, seed, split, size=tuple(size)), range(count))
            for number, (jpeg, png) in enumerate(drawn, 1):
                name = f'{STEMS[split]}_{number:08d}'
                (images / f'{name}.jpg').write_bytes(jpeg)
                (annotations / f'{name}.png').write_bytes(png)

    return make_miniature(
        out_dir,
        'miniature ADE20K',
        VERSION,
        write,
        (num_train, num_val),
        dict(size=list(size)),
        checks=[('height', size[:1], *SIDES), ('width', size[1:], *SIDES)],
        seed=seed,
        **options,
    )


def count_images(root: str | os.PathLike) -> dict[str, list[int]]:
    """Count the images in which each class occurs, ``[train, val]``, in ADE20K's order."""
    counts = {name: [0, 0] for name in LABELS}
    names = {label: name for name, label in LABELS.items()}
    for split, folder in enumerate(SPLITS):
        for path in (Path(root) / 'annotations' / folder).iterdir():
            for label in np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)):
                if label:
                    counts[names[label]][split] += 1
    return counts


def draw_sheet(
    root: str | os.PathLike, path: str | os.PathLike, split: str = 'training', num_images: int = 16
) -> None:
    """Write a sheet of the first images, each beside its labels in colour with their names.

    Args:
        root: Folder of the miniature.
        path: The PNG or JPEG to write.
        split: ``training`` or ``validation``.
        num_images: How many images to show, four per row.

    Raises:
        UserError: `path` cannot be written.
    """
    root = Path(root)
    hues = np.random.default_rng(0).permutation(180)[: max(LABELS.values()) + 1]
    values = np.stack([hues, 150 + hues % 3 * 40, 255 - hues % 4 * 35], 1).astype(np.uint8)
    colours = cv2.cvtColor(values[None], cv2.COLOR_HSV2BGR)[0]
    colours[0] = 0
    cells = []
    for image in sorted((root / 'images' / split).iterdir())[:num_images]:
        picture = fit(cv2.imread(str(image)))[0]
        png = root / 'annotations' / split / f'{image.stem}.png'
        labels = cv2.imread(str(png), cv2.IMREAD_UNCHANGED)
        labels = cv2.resize(labels, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        painted = cv2.addWeighted(picture, 0.35, colours[labels], 0.65, 0)
        for name, label in LABELS.items():
            _, _, boxes, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8))
            if len(boxes) > 1:
                x, y, w, h, _ = max(boxes[1:], key=lambda box: box[4])
                at, font = (
                    (int(x + w / 2 - 3 * len(name)), int(y + h / 2)),
                    cv2.FONT_HERSHEY_SIMPLEX,
                )
                cv2.putText(painted, name, at, font, 0.36, (0,) * 3, 2, cv2.LINE_AA)
                cv2.putText(painted, name, at, font, 0.36, (255,) * 3, 1, cv2.LINE_AA)
        cells += [picture, painted]
    write_sheet(path, cells, columns=8)
