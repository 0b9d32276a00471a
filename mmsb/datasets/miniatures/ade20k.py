"""A drawn miniature of ADE20K: the layout, labels and class numbers of the real one.

Streets, shores, open country and rooms. Much in them is told apart by its place rather than by how
it looks: sea, pond and sky are blue; asphalt, pavement and some houses grey; a wall and a ceiling,
a beach and a footpath, a field and a meadow share their textures; what a window or a painting shows
is windowpane or painting. Things without a class (clutter, balls, ...) are 0, as in ADE20K.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from . import figures, things
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
    cloth,
    clouds,
    disc,
    fill,
    grass,
    line,
    noise,
    photograph,
    pick,
    placement,
    plaster,
    rect,
    sand,
    shade,
    sky,
    tone,
    vary,
    view,
    water,
    wood,
)
from .folder import (
    SIDES,
    Recipe,
    encode_jpeg,
    fit,
    make_miniature,
    random_generator,
    write_sheet,
)

VERSION = 1  # of the drawing: raise it with any change that alters the pictures
SPLITS = ('training', 'validation')
STEMS = ('ADE_train', 'ADE_val')

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
"""The classes that are drawn, with their labels in the annotation files; 0 is everything else."""


# Textures and figures that only scenes need


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
    """A field: a meadow's colours, or ripe, in rows that meet at the horizon."""
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
    """A texture that has none."""
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
    """A picture in the making and its label map; positions are fractions of width and height."""

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
        """Fills a polygon with a texture, `gain` times as bright; None keeps what is there."""
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
        """Puts a thing with its foot at (x, y); a `name` of None is a thing without a class."""
        parts = figure(self.rng)
        extent = np.ptp(np.concatenate([p.points for p in parts]), axis=0)
        high = height * self.size[1]
        if name is None:  # of these the height may be next to nothing: a stick
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
        """Puts things on the ground, the far ones first and smaller.

        Args:
            horizon: The y at which things have no height.
            near: Height of a person at the picture's lower edge.
            *kinds: Of each its figure, class, height in persons, where its foot may be in x and in
                y, and how many there are at most; one kind in five is absent.
        """
        todo = []
        for figure, name, tall, x, y, most in kinds:
            for _ in range(int(self.rng.integers(1, most + 1)) if self.chance(0.8) else 0):
                todo.append((self.between(*y), self.between(*x), figure, name, tall))
        for y, x, figure, name, tall in sorted(todo, key=lambda thing: thing[0]):
            far = max(near * (y - horizon) / (1 - horizon), 0.05)
            self.stand(figure, name, x, y, far * tall * self.between(0.85, 1.15))

    def litter(self, low: float) -> None:
        """Puts things without a class on the ground below `low`."""
        loose = (things.clutter, things.clutter, things.sports_ball, things.umbrella, things.donut)
        for _ in range(int(self.rng.integers(0, 4))):
            at = self.between(0.05, 0.95), self.between(low, 1)
            self.stand(pick(self.rng, loose), None, *at, self.between(0.06, 0.15), turn=20)

    def ridge(self, base: float, height: float) -> np.ndarray:
        """The outline of hills that stand on `base`."""
        profile = base - height * np.clip(0.55 + 0.6 * noise(self.rng, 1, 40, 9)[0], 0.05, 1)
        skyline = np.stack([np.linspace(0, 1, 40), profile], 1)
        return np.concatenate([skyline, [(1, base), (0, base)]])

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The picture, RGB, and its label map."""
        width, height = (int(n) for n in self.size // SS)
        image = cv2.resize(self.canvas, (width, height), interpolation=cv2.INTER_AREA)
        return photograph(self.rng, image), self.labels[SS // 2 :: SS, SS // 2 :: SS].copy()


UPRIGHT = (things.stop_sign, things.clock, board)  # have no mirror image


def street(s: Scene) -> None:
    horizon = s.between(0.42, 0.6)
    s.box(sky, 'sky', 0, 0, 1, horizon + 0.02)
    if s.chance(0.4):
        s.region(hills, 'mountain', s.ridge(horizon + 0.02, s.between(0.15, 0.35)))
    ground = (grass, 'grass') if s.chance(0.3) else (paving, 'sidewalk')
    s.box(*ground, 0, horizon, 1, 1)
    x = s.between(-0.15, 0)
    while x < 1:
        wide = s.between(0.12, 0.32)
        if s.chance(0.75):
            top, foot = horizon - s.between(0.12, 0.42), horizon + s.between(0.01, 0.04)
            s.box(facade, 'building', x, top, x + wide, foot, s.between(0.75, 1.1))
        else:
            s.stand(figures.oak, 'tree', x + wide / 2, horizon + 0.04, s.between(0.18, 0.32))
        x += wide
    if s.chance(0.5):  # the road crosses the picture
        top, low = horizon + s.between(0.06, 0.14), s.between(0.85, 1)
        s.box(asphalt, 'road', 0, top, 1, low)
        marks = [(x, (top + low) / 2) for x in np.arange(s.between(0, 0.15), 1, 0.16)]
    else:  # or leads into it
        top, low = horizon + 0.03, 1
        gone, left, right = s.between(0.3, 0.7), s.between(-0.3, 0.2), s.between(0.8, 1.3)
        s.region(asphalt, 'road', [(gone - 0.03, top), (gone + 0.03, top), (right, 1), (left, 1)])
        marks = [(gone + ((left + right) / 2 - gone) * t, top + (1 - top) * t)
                 for t in (0.15, 0.3, 0.5, 0.75)]  # fmt: skip
    for x, y in marks:
        s.box(plain((225, 225, 220)), 'road', x, y, x + 0.05, y + 0.014)
    s.crowd(
        horizon - 0.05, s.between(0.4, 0.6),
        (figures.oak, 'tree', 2.2, (0, 1), (horizon + 0.02, top + 0.05), 2),
        (things.traffic_light, 'traffic light', 1.1, (0, 1), (top, 1), 2),
        (board, 'signboard', 1, (0, 1), (top, 1), 2),
        (figures.car, 'car', 0.75, (0.05, 0.95), (top + 0.04, low), 3),
        (figures.bus, 'bus', 1.4, (0.05, 0.95), (top + 0.04, low), 1),
        (figures.person, 'person', 1, (0, 1), (top, 1), 3),
        (fence, 'fence', 0.5, (0, 1), (horizon + 0.03, top + 0.02), 1),
    )  # fmt: skip
    s.litter(top)


def shore(s: Scene) -> None:
    horizon = s.between(0.3, 0.6)
    beach = s.between(horizon + 0.12, 0.92)
    s.box(sky, 'sky', 0, 0, 1, horizon)
    if s.chance(0.4):
        s.region(hills, 'mountain', s.ridge(horizon, s.between(0.1, 0.25)))
    s.box(water, 'sea', 0, horizon, 1, 1)
    for y in np.sort(s.between(horizon + 0.02, beach, int(s.rng.integers(1, 4)))):
        tall = (0.12 + 0.5 * (y - horizon)) * s.between(0.7, 1.2)
        s.stand(things.boat, 'boat', s.between(0.05, 0.95), y, tall)
    x = np.linspace(0, 1, 40)
    edge = beach + 0.04 * noise(s.rng, 1, 40, 12)[0] + s.between(-0.15, 0.15) * (x - 0.5)
    s.region(sand, 'sand', [*np.stack([x, edge], 1), (1, 1), (0, 1)])
    s.crowd(
        horizon - 0.1, s.between(0.35, 0.6),
        (rock, 'rock', 0.5, (0, 1), (beach, 1), 3),
        (figures.lighthouse, 'tower', 1.8, (0.05, 0.95), (beach, beach + 0.06), 1),
        (figures.palm, 'palm', 1.5, (0, 1), (beach + 0.03, 1), 2),
        (figures.person, 'person', 1, (0, 1), (beach + 0.03, 1), 2),
    )  # fmt: skip
    s.litter(beach + 0.05)


def country(s: Scene) -> None:
    horizon = s.between(0.3, 0.55)
    s.box(sky, 'sky', 0, 0, 1, horizon + 0.02)
    if s.chance(0.7):
        s.region(hills, 'mountain', s.ridge(horizon + 0.02, s.between(0.15, 0.35)))
    s.box(grass, 'grass', 0, horizon, 1, 1)
    if s.chance(0.6):
        a, b = s.between(horizon + 0.12, 0.9, 2)
        s.region(furrows, 'field', [(0, horizon), (1, horizon), (1, a), (0, b)])
    if s.chance(0.6):
        t = np.linspace(0, 1, 20)
        middle = np.interp(t, (0, 1), s.between(0.1, 0.9, 2))
        middle += 0.12 * np.sin(4 * t + s.between(0, 6)) * t
        half, y = 0.012 + s.between(0.08, 0.16) * t**1.3, horizon + (1.02 - horizon) * t
        left, right = (np.stack([middle + side * half, y], 1) for side in (-1, 1))
        s.region(sand, 'path', [*left, *right[::-1]])
    if s.chance(0.6):
        at = s.between(0.1, 0.9), s.between(horizon + 0.15, 0.85)
        pond = blob(s.rng, 0.15) * (s.between(0.15, 0.35), s.between(0.05, 0.1))
        s.region(water, 'water', pond + at)
    tree, flower = figures.oak, figures.tulip
    if s.chance(0.5):
        tree, flower = figures.pine, pick(s.rng, (figures.daisy, figures.sunflower))
    s.crowd(
        horizon - 0.08, s.between(0.35, 0.55),
        (figures.house, 'house', 1.8, (0.05, 0.95), (horizon + 0.04, horizon + 0.2), 2),
        (tree, 'tree', 2, (0, 1), (horizon + 0.02, 0.8), 4),
        (fence, 'fence', 0.5, (0, 1), (horizon + 0.1, 0.95), 2),
        (rock, 'rock', 0.4, (0, 1), (horizon + 0.1, 1), 2),
        (flower, 'flower', 0.45, (0, 1), (horizon + 0.2, 1), 5),
        (figures.person, 'person', 1, (0, 1), (horizon + 0.1, 1), 1),
    )  # fmt: skip
    s.litter(horizon + 0.2)


def room(s: Scene) -> None:
    left, right = s.between(0.02, 0.22), s.between(0.78, 0.98)
    top, foot = s.between(0.08, 0.22), s.between(0.55, 0.72)
    s.box(plaster, 'wall', 0, 0, 1, 1)
    for x, edge in ((left, 0), (right, 1)):
        side = [(edge, 0), (x, top), (x, foot), (edge, 1)]
        s.region(None, 'wall', side, s.between(0.75, 0.95))
    s.region(plaster, 'ceiling', [(0, 0), (1, 0), (right, top), (left, top)])
    s.region(wood, 'floor', [(left, foot), (right, foot), (1, 1), (0, 1)])
    places = np.linspace(left, right, 4)
    for (a, b), hang in zip(pairwise(places), pick(s.rng, ON_WALL, 3), strict=True):
        hang(s, (a + b) / 2, (b - a) * s.between(0.25, 0.38), top, foot)
    if s.chance(0.6):
        rug = disc(s.between(0.35, 0.65), s.between(0.82, 0.92), s.between(0.2, 0.35), 0.07)
        s.region(cloth, 'rug', rug)
    if s.chance(0.8):
        figure, name = pick(s.rng, [(figures.bed, 'bed'), (figures.sofa, 'sofa')])
        at = s.between(0.2, 0.8), foot + s.between(0.04, 0.12)
        s.stand(figure, name, *at, s.between(0.2, 0.3))
    if s.chance(0.6):
        at = s.between(0.05, 0.95), foot + s.between(0.02, 0.1)
        s.stand(figures.potted_plant, 'plant', *at, s.between(0.2, 0.32))
    x, y = s.between(0.2, 0.8), s.between(foot + 0.14, 1)
    if s.chance(0.7):
        s.stand(figures.chair, 'chair', x - s.between(0.15, 0.3), y, s.between(0.28, 0.4))
    if s.chance(0.7):
        high = s.between(0.16, 0.24)
        s.stand(figures.table, 'table', x, y, high)
        at = x + s.between(-0.08, 0.08), y - 0.88 * high
        s.stand(figures.lamp, 'lamp', *at, s.between(0.18, 0.26))
    if s.chance(0.4):
        at = s.between(0.1, 0.9), s.between(foot + 0.1, 1)
        s.stand(figures.person, 'person', *at, s.between(0.45, 0.55))
    s.litter(foot + 0.1)


# What hangs on a wall or stands at it: `half` as wide as its place allows


def window(s: Scene, x, half, top, foot) -> None:
    high = foot - top
    y0, y1 = top + 0.15 * high, foot - 0.3 * high
    s.box(plain(vary(s.rng, WHITE)), 'windowpane', x - half, y0, x + half, y1)
    for a, b in ((x - half, x), (x, x + half)):
        s.box(view, 'windowpane', a + 0.01, y0 + 0.012, b - 0.01, y1 - 0.012)
    if s.chance(0.7):
        state = s.rng.bit_generator.state
        for side in (-1, 1):
            s.rng.bit_generator.state = state  # a pair, alike
            a, b = sorted((x + side * 1.3 * half, x + side * 0.65 * half))
            s.box(folds, 'curtain', a, y0 - 0.02, b, foot - 0.1 * high)


def painting(s: Scene, x, half, top, foot) -> None:
    y, high = top + s.between(0.35, 0.5) * (foot - top), s.between(0.07, 0.11)
    frame = vary(s.rng, pick(s.rng, [(206, 170, 70), BLACK, WHITE, (100, 76, 52)]))
    s.box(plain(frame), 'painting', x - half, y - high, x + half, y + high)
    scenery = pick(s.rng, (view, view, grass, water, sky))
    s.box(
        scenery, 'painting', x - half + 0.014, y - high + 0.018, x + half - 0.014, y + high - 0.018
    )


def door_frame(s: Scene, x, half, top, foot) -> None:
    s.stand(door, 'door', x, foot, 0.85 * (foot - top))


def wall_clock(s: Scene, x, half, top, foot) -> None:
    s.stand(things.clock, 'clock', x, top + 0.55 * (foot - top), s.between(0.14, 0.22))


def television(s: Scene, x, half, top, foot) -> None:
    s.stand(things.tv, 'television receiver', x, foot - 0.1, s.between(0.18, 0.26))


ON_WALL = (window, window, painting, door_frame, wall_clock, television)
SCENES = (street, shore, country, room)


def draw_scene(
    rng: np.random.Generator, height: int, width: int, scene: Callable[[Scene], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture.

    Args:
        rng: Decides everything.
        height: Of the picture, pixels.
        width: Of the picture, pixels.
        scene: One of `SCENES`.

    Returns:
        The picture (RGB, uint8) and its labels (uint8), as in ADE20K's annotation files.
    """
    drawn = Scene(rng, height, width)
    scene(drawn)
    return drawn.finish()


def _draw_image(seed: int, split: int, index: int, size: tuple[int, int]) -> tuple[bytes, bytes]:
    """One JPEG and its annotation as PNG, a function of the arguments alone."""
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
    """Draws a miniature of ADE20K (the 150 classes of its scene parsing benchmark).

    ``images/training/ADE_train_00000001.jpg`` belongs to
    ``annotations/training/ADE_train_00000001.png``, uint8: 0 is other, 1 to 150 the classes, of
    which `LABELS` occur; likewise ``validation`` with ``ADE_val_00000001``.

    Args:
        out_dir: The folder to make, e.g. ``data/mini_ade20k``.
        num_train: Images in ``training``, 1 to 500,000.
        num_val: Images in ``validation``, likewise.
        size: Height and width of the pictures in pixels, 64 to 4096.
        seed: 0 or more.
        **options: ``num_workers``, ``force`` and ``log`` of :func:`.folder.make_miniature`.

    Returns and raises as that does.
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
    """Number of images in which each class occurs, ``[train, val]``, in ADE20K's order."""
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
        root: A miniature.
        path: The PNG or JPEG to write.
        split: ``training`` or ``validation``.
        num_images: How many images to show, four a row.

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
