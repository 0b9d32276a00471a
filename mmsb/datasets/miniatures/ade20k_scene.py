"""Scene of the miniature ADE20K while it is composed: labels, textures and placed things."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from . import things
from .drawing import (
    BLACK,
    SS,
    VIVID,
    WHITE,
    Part,
    Stamp,
    asphalt,
    blob,
    bricks,
    clouds,
    fill,
    line,
    noise,
    photograph,
    pick,
    placement,
    plaster,
    rect,
    shade,
    tone,
    vary,
)

LABELS = {
    'wall': 1,
    'building': 2,
    'sky': 3,
    'floor': 4,
    'tree': 5,
    'ceiling': 6,
    'road': 7,
    'bed': 8,
    'windowpane': 9,
    'grass': 10,
    'sidewalk': 12,
    'person': 13,
    'door': 15,
    'table': 16,
    'mountain': 17,
    'plant': 18,
    'curtain': 19,
    'chair': 20,
    'car': 21,
    'water': 22,
    'painting': 23,
    'sofa': 24,
    'house': 26,
    'sea': 27,
    'rug': 29,
    'field': 30,
    'fence': 33,
    'rock': 35,
    'lamp': 37,
    'signboard': 44,
    'sand': 47,
    'path': 53,
    'flower': 67,
    'palm': 73,
    'boat': 77,
    'bus': 81,
    'tower': 85,
    'television receiver': 90,
    'traffic light': 137,
    'clock': 149,
}
"""Classes that occur, with their labels in the annotation files; 0 is everything else."""


# Textures and figures that only scenes use


def facade(rng, h, w):
    image = pick(rng, (bricks, plaster, plaster, asphalt))(rng, h, w)
    cell, gap = rng.integers(11, 26, 2), rng.uniform(0.2, 0.36)
    y, x = ((np.arange(n) + rng.integers(40)) % c / c for n, c in zip((h, w), cell, strict=True))
    panes = (abs(y - 0.5) < 0.5 - gap)[:, None] & (abs(x - 0.5) < 0.5 - gap)[None]
    image[panes] = vary(rng, pick(rng, [(60, 80, 100), (90, 120, 150), (230, 210, 150)]))
    return image


def hills(rng, h, w):
    colours = [(96, 112, 110), (120, 116, 112), (84, 104, 80), (130, 124, 140)]
    return tone(rng, colours, 36 * clouds(rng, h, w, 30))


def furrows(rng, h, w):
    """Render a field, green or ripe, in rows that meet at the horizon."""
    y = np.linspace(0.15, 1, h, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, w, dtype=np.float32)[None] - np.float32(rng.uniform(-0.6, 0.6))
    rows = 26 * np.sin(x / y * np.float32(rng.uniform(8, 16))) + 20 * noise(rng, h, w, 2)
    return tone(rng, [(110, 140, 60), (84, 128, 52), (206, 176, 80), (150, 120, 76)], rows)


def folds(rng, h, w):
    wave = 34 * np.sin(np.arange(w)[None] / rng.uniform(1.5, 4) + noise(rng, h, w, 40))
    return tone(rng, [*VIVID, (200, 190, 170)], (wave + 6 * noise(rng, h, w, 2)).astype(np.float32))


def paving(rng, h, w):
    return tone(rng, [(170, 166, 160), (150, 148, 146), (186, 176, 164)],
                14 * clouds(rng, h, w, 40) + 14 * noise(rng, h, w, 1))  # fmt: skip


def plain(colour) -> Callable:
    """Return a texture of one plain colour."""
    return lambda rng, h, w: np.full((h, w, 3), colour, np.float32)


def rock(rng) -> list[Part]:
    stone = vary(rng, pick(rng, [(120, 116, 110), (140, 130, 120), (96, 96, 100)]))
    shape = blob(rng) * (1, 0.65)
    return [fill(shape, stone), fill(shape * 0.55 - (0.2, 0.15), shade(stone, 1.15))]


def fence(rng) -> list[Part]:
    paint = vary(rng, pick(rng, [WHITE, (150, 104, 62), (100, 76, 52), (90, 96, 100)]))
    step, count = rng.uniform(0.22, 0.3), int(rng.integers(10, 22))
    pale = np.array([(0, 0.5), (0, -0.4), (0.08, -0.5), (0.16, -0.4), (0.16, 0.5)])
    rails = [fill(rect(0, y, count * step, y + 0.12), shade(paint, 0.85)) for y in (-0.25, 0.2)]
    return rails + [fill(pale + (k * step, 0), paint) for k in range(count)]


def board(rng) -> list[Part]:
    ground = vary(rng, pick(rng, VIVID))
    ink = pick(rng, [WHITE, BLACK])
    lines = [line([(-0.6, y), (rng.uniform(0.1, 0.6), y)], ink, 0.09) for y in (-0.75, -0.5, -0.25)]
    posts = [line([(x, 0), (x, 1)], (90, 90, 92), 0.09) for x in (-0.5, 0.5)]
    return [*posts, fill(rect(-0.8, -1, 0.8, 0, 0.06), ground), *lines]


def door(rng) -> list[Part]:
    leaf = vary(rng, pick(rng, [WHITE, (150, 104, 62), (100, 76, 52), (60, 90, 130)]))
    panels = [fill(rect(-0.3, y, 0.3, y + 0.7), shade(leaf, 0.85)) for y in (-0.85, 0.1)]
    return [
        fill(rect(-0.5, -1.05, 0.5, 1), shade(leaf, 0.7)),
        fill(rect(-0.43, -1, 0.43, 1), leaf),
        *panels,
        line([(0.33, 0), (0.37, 0)], (210, 180, 90), 0.08),
    ]


class Scene:
    """Image being composed and its label map; positions are fractions of width and height."""

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng = rng
        self.canvas = np.zeros((height * SS, width * SS, 3), np.uint8)
        self.labels = np.zeros((height * SS, width * SS), np.uint8)
        self.size = np.array([width * SS, height * SS])
        self.light = np.array([np.cos(a := rng.uniform(0.3, np.pi - 0.3)), np.sin(a)])

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def between(self, low: float, high: float, count: int | None = None):
        return self.rng.uniform(low, high, count)

    def region(self, texture: Callable | None, name: str, outline, gain: float = 1) -> None:
        """Fill a polygon with a texture, `gain` times as bright; None keeps the pixels there."""
        mask = np.zeros(self.labels.shape, np.uint8)
        points = np.asarray(outline, float) * self.size - 0.5
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1, shift=4)
        x, y, w, h = cv2.boundingRect(mask)
        if not w:
            return
        there = self.canvas[y : y + h, x : x + w]
        image = texture(self.rng, -(-h // SS), -(-w // SS)) if texture else there
        image = cv2.resize(np.clip(image * np.float32(gain), 0, 255).astype(np.uint8), (w, h))
        inside = mask[y : y + h, x : x + w] > 0
        there[inside] = image[inside]
        self.labels[y : y + h, x : x + w][inside] = LABELS[name]

    def box(self, texture: Callable, name: str, x0, y0, x1, y1, gain: float = 1) -> None:
        self.region(texture, name, rect(x0, y0, x1, y1), gain)

    def stand(self, figure: Callable, name: str | None, x, y, height, turn: float = 0) -> None:
        """Place a thing with its foot at (x, y); a `name` of None means a thing without a class."""
        parts = figure(self.rng)
        extent = np.ptp(np.concatenate([p.points for p in parts]), axis=0)
        high = height * self.size[1]
        if name is None:  # such a thing may be almost flat, e.g. a stick
            high *= extent[1] / extent.max()
        mirrored = figure not in UPRIGHT and self.chance(0.5)
        matrix = placement(
            parts,
            centre=(x * self.size[0], y * self.size[1] - high / 2),
            size=high * max(extent[0] / extent[1], 1),
            turn=turn,
            stretch=(-1 if mirrored else 1, 1),
        )
        stamp = Stamp(parts, matrix)
        stamp.paint(self.canvas, self.light, self.between(0, 0.25), self.between(0.1, 0.5))
        self.labels[stamp.mask(self.labels.shape)] = LABELS[name] if name else 0

    def crowd(self, horizon: float, near: float, *kinds: tuple) -> None:
        """Place things on the ground, the far ones first and smaller.

        Args:
            horizon: The y at which things have no height.
            near: Height of a person at the lower edge of the image.
            *kinds: For each kind its figure, class, height relative to a person, ranges of x and y
                for its foot, and maximum number; each kind is left out with probability 1/5.
        """
        todo = []
        for figure, name, tall, x, y, most in kinds:
            for _ in range(int(self.rng.integers(1, most + 1)) if self.chance(0.8) else 0):
                todo.append((self.between(*y), self.between(*x), figure, name, tall))
        for y, x, figure, name, tall in sorted(todo, key=lambda thing: thing[0]):
            far = max(near * (y - horizon) / (1 - horizon), 0.05)
            self.stand(figure, name, x, y, far * tall * self.between(0.85, 1.15))

    def litter(self, low: float) -> None:
        """Place things without a class on the ground below `low`."""
        loose = (things.clutter, things.clutter, things.sports_ball, things.umbrella, things.donut)
        for _ in range(int(self.rng.integers(0, 4))):
            at = self.between(0.05, 0.95), self.between(low, 1)
            self.stand(pick(self.rng, loose), None, *at, self.between(0.06, 0.15), turn=20)

    def ridge(self, base: float, height: float) -> np.ndarray:
        """Return the outline of hills that stand on `base`."""
        profile = base - height * np.clip(0.55 + 0.6 * noise(self.rng, 1, 40, 9)[0], 0.05, 1)
        skyline = np.stack([np.linspace(0, 1, 40), profile], 1)
        return np.concatenate([skyline, [(1, base), (0, base)]])

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the image, RGB, and its label map."""
        width, height = (int(n) for n in self.size // SS)
        image = cv2.resize(self.canvas, (width, height), interpolation=cv2.INTER_AREA)
        return photograph(self.rng, image), self.labels[SS // 2 :: SS, SS // 2 :: SS].copy()


UPRIGHT = (things.stop_sign, things.clock, board)  # must not be mirrored
