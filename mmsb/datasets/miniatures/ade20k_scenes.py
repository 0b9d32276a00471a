"""Four kinds of scenes in the miniature ADE20K."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from . import things
from .ade20k_scene import (
    Scene,
    board,
    door,
    facade,
    fence,
    folds,
    furrows,
    hills,
    paving,
    plain,
    rock,
)
from .drawing import (
    BLACK,
    WHITE,
    asphalt,
    blob,
    cloth,
    disc,
    grass,
    noise,
    pick,
    plaster,
    sand,
    sky,
    vary,
    view,
    water,
    wood,
)
from .figures import household, living, outdoors


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
            s.stand(living.oak, 'tree', x + wide / 2, horizon + 0.04, s.between(0.18, 0.32))
        x += wide
    if s.chance(0.5):  # the road crosses the image
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
        (living.oak, 'tree', 2.2, (0, 1), (horizon + 0.02, top + 0.05), 2),
        (things.traffic_light, 'traffic light', 1.1, (0, 1), (top, 1), 2),
        (board, 'signboard', 1, (0, 1), (top, 1), 2),
        (outdoors.car, 'car', 0.75, (0.05, 0.95), (top + 0.04, low), 3),
        (outdoors.bus, 'bus', 1.4, (0.05, 0.95), (top + 0.04, low), 1),
        (living.person, 'person', 1, (0, 1), (top, 1), 3),
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
        (outdoors.lighthouse, 'tower', 1.8, (0.05, 0.95), (beach, beach + 0.06), 1),
        (living.palm, 'palm', 1.5, (0, 1), (beach + 0.03, 1), 2),
        (living.person, 'person', 1, (0, 1), (beach + 0.03, 1), 2),
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
    tree, flower = living.oak, living.tulip
    if s.chance(0.5):
        tree, flower = living.pine, pick(s.rng, (living.daisy, living.sunflower))
    s.crowd(
        horizon - 0.08, s.between(0.35, 0.55),
        (outdoors.house, 'house', 1.8, (0.05, 0.95), (horizon + 0.04, horizon + 0.2), 2),
        (tree, 'tree', 2, (0, 1), (horizon + 0.02, 0.8), 4),
        (fence, 'fence', 0.5, (0, 1), (horizon + 0.1, 0.95), 2),
        (rock, 'rock', 0.4, (0, 1), (horizon + 0.1, 1), 2),
        (flower, 'flower', 0.45, (0, 1), (horizon + 0.2, 1), 5),
        (living.person, 'person', 1, (0, 1), (horizon + 0.1, 1), 1),
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
        figure, name = pick(s.rng, [(household.bed, 'bed'), (household.sofa, 'sofa')])
        at = s.between(0.2, 0.8), foot + s.between(0.04, 0.12)
        s.stand(figure, name, *at, s.between(0.2, 0.3))
    if s.chance(0.6):
        at = s.between(0.05, 0.95), foot + s.between(0.02, 0.1)
        s.stand(living.potted_plant, 'plant', *at, s.between(0.2, 0.32))
    x, y = s.between(0.2, 0.8), s.between(foot + 0.14, 1)
    if s.chance(0.7):
        s.stand(household.chair, 'chair', x - s.between(0.15, 0.3), y, s.between(0.28, 0.4))
    if s.chance(0.7):
        high = s.between(0.16, 0.24)
        s.stand(household.table, 'table', x, y, high)
        at = x + s.between(-0.08, 0.08), y - 0.88 * high
        s.stand(household.lamp, 'lamp', *at, s.between(0.18, 0.26))
    if s.chance(0.4):
        at = s.between(0.1, 0.9), s.between(foot + 0.1, 1)
        s.stand(living.person, 'person', *at, s.between(0.45, 0.55))
    s.litter(foot + 0.1)


# Things on or beside a wall; `half` is half the width that they may take


def window(s: Scene, x, half, top, foot) -> None:
    high = foot - top
    y0, y1 = top + 0.15 * high, foot - 0.3 * high
    s.box(plain(vary(s.rng, WHITE)), 'windowpane', x - half, y0, x + half, y1)
    for a, b in ((x - half, x), (x, x + half)):
        s.box(view, 'windowpane', a + 0.01, y0 + 0.012, b - 0.01, y1 - 0.012)
    if s.chance(0.7):
        state = s.rng.bit_generator.state
        for side in (-1, 1):
            s.rng.bit_generator.state = state  # a pair of equal things
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
    """Render one image.

    Args:
        rng: Generator of all randomness.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        scene: One of `SCENES`.

    Returns:
        The image (RGB, uint8) and its labels (uint8), as in ADE20K's annotation files.
    """
    drawn = Scene(rng, height, width)
    scene(drawn)
    return drawn.finish()
