"""Outlines and colours that several figures use."""

from __future__ import annotations

import numpy as np

from ..drawing import VIVID, Part, disc, fill, pick, polar, vary

GREEN, BARK, WOOD, STEEL = (70, 130, 50), (100, 76, 52), (150, 104, 62), (165, 168, 172)
GLASS, PANE = (176, 200, 206), (110, 150, 180)


def smooth(points, rounds: int = 3) -> np.ndarray:
    """Smooth a line by cutting its corners `rounds` times; its ends stay."""
    points = np.asarray(points, float)
    for _ in range(rounds):
        here, after = points[:-1], points[1:]
        cut = np.stack([0.75 * here + 0.25 * after, 0.25 * here + 0.75 * after], 1)
        points = np.concatenate([points[:1], cut.reshape(-1, 2), points[-1:]])
    return points


def turned(*profile, rounds: int = 3) -> np.ndarray:
    """Return the outline of a solid of revolution from its profile (radius, y), top to bottom."""
    right = smooth(profile, rounds)
    return np.concatenate([right, right[::-1] * (-1, 1)])


def rotated(points, degrees: float, x: float = 0, y: float = 0) -> np.ndarray:
    """Rotate points around the origin and move them to (x, y)."""
    c, s = polar(1, degrees)
    return np.asarray(points, float) @ np.array([(c, s), (-s, c)]) + (x, y)


def leaf(x, y, length, degrees, colour, wide=0.35) -> Part:
    """Return a leaf that grows from (x, y)."""
    edge = smooth([(0, 0), (0.35, wide), (0.75, wide * 0.8), (1, 0)])
    shape = np.concatenate([edge, edge[::-1] * (1, -1)]) * length
    return fill(rotated(shape, degrees, x, y), colour)


def wheel(x, y, radius=0.2) -> list[Part]:
    return [fill(disc(x, y, radius), (34, 34, 36)), fill(disc(x, y, radius * 0.5), STEEL)]


def paint(rng, *others):
    """Pick a colour that is common for man-made things."""
    return vary(rng, pick(rng, [*VIVID, *others]))
