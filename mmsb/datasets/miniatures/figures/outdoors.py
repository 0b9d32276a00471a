"""Vehicles and buildings, one function each, as in `things`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..drawing import BLACK, VIVID, WHITE, arc, blob, disc, fill, line, pick, rect, shade, vary
from .shapes import BARK, PANE, STEEL, paint, smooth, turned, wheel


def airliner(rng):
    hull, trim = vary(rng, WHITE, 10), paint(rng)
    body = [(-1.15, 0.02), (-1, -0.14), (0.9, -0.14), (1.15, -0.1), (0.9, 0.1), (-0.9, 0.16)]
    return [
        fill([(0.75, -0.1), (1.02, -0.62), (1.2, -0.62), (1.1, -0.1)], trim),
        fill([(-0.05, -0.06), (0.4, -0.5), (0.52, -0.5), (0.3, -0.06)], shade(hull, 0.75)),
        fill(smooth([*body, body[0]], 2), hull),
        fill([(-1.1, 0.06), (1, 0.02), (0.9, 0.1), (-0.9, 0.15)], trim),
        *(fill(rect(x, -0.09, x + 0.06, -0.02), (60, 90, 130)) for x in np.arange(-0.8, 0.8, 0.13)),
        fill([(-1.06, -0.06), (-0.94, -0.12), (-0.9, -0.04)], (50, 70, 100)),
        fill([(-0.2, 0.06), (0.2, 0.06), (0.62, 0.5), (0.48, 0.5)], shade(hull, 0.85)),
        fill(rect(-0.06, 0.16, 0.24, 0.3, 0.06), shade(trim, 0.8)),
        fill([(0.9, -0.04), (1.16, 0.12), (1.24, 0.12), (1.1, -0.04)], shade(hull, 0.8)),
    ]


def balloon(rng):
    colours = [vary(rng, c) for c in pick(rng, [*VIVID, WHITE], int(rng.integers(2, 5)))]
    ends = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 8))
    side = smooth([(0, -1), (0.75, -1), (0.8, -0.3), (0.22, 0.5)])
    parts = [line([(s * 0.2, 0.48), (s * 0.13, 0.84)], BARK, 0.03) for s in (-1, 1)]
    parts.append(fill(rect(-0.17, 0.8, 0.17, 1.05, 0.03), vary(rng, (140, 96, 56))))
    for i, (a, b) in enumerate(pairwise(ends)):
        gore = np.concatenate([side * (a, 1), (side * (b, 1))[::-1]])
        parts.append(fill(gore, colours[i % len(colours)]))
    return parts


def bus(rng, colour=None):
    body = vary(rng, colour or pick(rng, [*VIVID, WHITE]), 12)
    band = BLACK if colour else paint(rng, WHITE)
    return [
        fill(rect(-1.1, -0.56, 1.1, 0.42, 0.1), body),
        fill(rect(-1.1, 0.02, 1.1, 0.12), band),
        *(fill(rect(x, -0.42, x + 0.26, -0.06, 0.03), (60, 84, 104))
          for x in np.arange(-0.66, 0.9, 0.34)),
        fill(rect(-1.07, -0.42, -0.76, 0.34, 0.03), (60, 84, 104)),
        *(fill(disc(s, 0.3, 0.06), (255, 240, 170)) for s in (-1.06, 1.06)),
        *wheel(-0.62, 0.44), *wheel(0.66, 0.44),
    ]  # fmt: skip


def school_bus(rng):
    yellow = (250, 190, 30)
    body = bus(rng, yellow)
    hood = vary(rng, yellow, 8)
    return [
        fill(rect(-1.5, -0.1, -1.0, 0.42, 0.1), hood),
        fill(disc(-1.46, 0.12, 0.07), (255, 240, 170)),
        *body,
        *wheel(-1.2, 0.44),
        *(fill(rect(x, -0.66, x + 0.16, -0.56), (200, 40, 30)) for x in (-1, 0.84)),
    ]


def car(rng):
    body, boxy = paint(rng, WHITE, BLACK, STEEL), rng.uniform(0, 0.18)
    roof = [(-0.66, -0.08), (-0.42 - boxy, -0.46), (0.32 + boxy, -0.46), (0.66, -0.08)]
    glass = [(-0.54, -0.1), (-0.37 - boxy, -0.38), (0.27 + boxy, -0.38), (0.52, -0.1)]
    return [
        fill(roof, body),
        fill(glass, (60, 84, 104)),
        line([(-0.05, -0.4), (-0.05, -0.08)], body, 0.06),
        fill(rect(-1.05, -0.12, 1.05, 0.28, 0.12), body),
        fill(rect(-1.02, 0.16, 1.02, 0.28, 0.05), shade(body, 0.7)),
        fill(disc(-1, 0.02, 0.06, 0.08), (255, 240, 170)),
        fill(disc(1, 0.02, 0.06, 0.08), (200, 40, 36)),
        *wheel(-0.62, 0.28), *wheel(0.62, 0.28),
    ]  # fmt: skip


def pickup(rng):
    body = paint(rng, WHITE, BLACK, STEEL)
    return [
        fill([(-0.55, -0.1), (-0.4, -0.55), (0.08, -0.55), (0.12, -0.1)], body),
        fill([(-0.45, -0.12), (-0.34, -0.46), (0, -0.46), (0.02, -0.12)], (60, 84, 104)),
        fill([(-1.1, -0.04), (-0.98, -0.12), (0.12, -0.12), (0.12, 0.28), (-1.1, 0.28)], body),
        fill(rect(0.1, -0.12, 1.1, 0.28), shade(body, 0.9)),
        line([(0.12, -0.13), (1.1, -0.13)], shade(body, 0.6), 0.06),
        line([(0.13, -0.5), (0.13, 0.25)], shade(body, 0.6), 0.04),
        fill(disc(-1.05, 0.04, 0.06, 0.08), (255, 240, 170)),
        *wheel(-0.66, 0.28, 0.22), *wheel(0.66, 0.28, 0.22),
    ]  # fmt: skip


def rocket(rng):
    hull, trim = vary(rng, pick(rng, [WHITE, WHITE, STEEL]), 10), paint(rng)
    flame = np.array([(-0.2, 0.6), (0, 1.25), (0.2, 0.6)])
    return [
        fill(flame, (250, 150, 40)), fill(flame * (0.5, 0.85) + (0, 0.08), (255, 236, 140)),
        *(fill(np.array([(0.2, 0.1), (0.62, 0.7), (0.2, 0.6)]) * (s, 1), trim) for s in (-1, 1)),
        fill(turned((0, -1.1), (0.34, -0.6), (0.34, 0.2), (0.22, 0.64), (0, 0.64)), hull),
        fill(turned((0, -1.1), (0.2, -0.8), (0.26, -0.66), (0, -0.66)), trim),
        fill(disc(0, -0.32, 0.16), shade(trim, 0.7)), fill(disc(0, -0.32, 0.11), PANE),
    ]  # fmt: skip


def castle(rng):
    stone, roof = (
        vary(rng, pick(rng, [(160, 152, 140), (196, 176, 140), (120, 116, 116)])),
        paint(rng),
    )
    dark = shade(stone, 0.4)

    def tower(x, y, half, pointed):
        teeth = [fill(rect(x + k * half, y - 0.14, x + (k + 0.4) * half, y), stone)
                 for k in (-1, -0.2, 0.6)]  # fmt: skip
        top = [fill([(x - half * 1.2, y), (x, y - 0.6), (x + half * 1.2, y)], roof)]
        slit = fill(rect(x - 0.035, y + 0.2, x + 0.035, y + 0.42), dark)
        wall = fill(rect(x - half, y - 0.01, x + half, 0.9), shade(stone, 0.92))
        return [wall, slit, *(top if pointed else teeth)]

    pointed = rng.random() < 0.6
    tall = rng.uniform(-0.5, -0.2)
    teeth = [fill(rect(x, -0.1, x + 0.12, 0.02), stone) for x in np.arange(-0.6, 0.6, 0.22)]
    return [
        *(tower(0, tall, 0.24, pointed)),
        fill(rect(-0.7, 0, 0.7, 0.9), stone),
        *teeth,
        *(part for x in (-0.78, 0.78) for part in tower(x, -0.25, 0.22, pointed)),
        fill(np.concatenate([arc(0, 0.5, 0.2, 0.24, 180, 360), [(0.2, 0.9), (-0.2, 0.9)]]), dark),
    ]


def lighthouse(rng):
    one, two = paint(rng, (200, 40, 40), (200, 40, 40), BLACK), vary(rng, WHITE, 8)
    edges, parts = np.linspace(-0.55, 0.85, int(rng.integers(4, 8))), []
    for i, (a, b) in enumerate(pairwise(edges)):
        left, right = (0.22 + 0.13 * (y + 0.55) / 1.4 for y in (a, b))
        parts.append(fill([(-left, a), (left, a), (right, b), (-right, b)], (one, two)[i % 2]))
    rock = blob(rng, 0.15) * (0.75, 0.22) + (0, 0.95)
    return [
        fill(rock, vary(rng, (110, 104, 96))),
        *parts,
        fill(rect(-0.3, -0.62, 0.3, -0.54), shade(one, 0.6)),
        fill(rect(-0.17, -0.86, 0.17, -0.62), (255, 240, 170)),
        *(line([(x, -0.86), (x, -0.62)], shade(one, 0.6), 0.03) for x in (-0.16, 0, 0.16)),
        fill(arc(0, -0.85, 0.22, 0.2, 180, 360), one),
        fill(rect(-0.06, 0.3, 0.06, 0.42), (60, 60, 70)),
    ]


def house(rng):
    wall = vary(rng, pick(rng, [(226, 214, 190), (196, 120, 90), (170, 186, 196), (236, 232, 224)]))
    roof = vary(rng, pick(rng, [(150, 60, 44), (96, 84, 80), (120, 76, 50)]))
    side = pick(rng, [-1, 1])
    return [
        fill(rect(side * 0.5 - 0.1, -0.95, side * 0.5 + 0.1, -0.3), shade(roof, 0.8)),
        fill(rect(-0.85, -0.15, 0.85, 0.85), wall),
        fill([(-1.05, -0.1), (-0.6, -0.8), (0.6, -0.8), (1.05, -0.1)]
             if rng.random() < 0.5 else [(-1.05, -0.1), (0, -0.95), (1.05, -0.1)], roof),
        fill(rect(side * 0.45 - 0.14, 0.25, side * 0.45 + 0.14, 0.85), vary(rng, BARK)),
        *(fill(rect(x - 0.15, 0.12, x + 0.15, 0.46), PANE) for x in (-side * 0.5, 0)),
        *(line([(x, 0.12), (x, 0.46)], WHITE, 0.04) for x in (-side * 0.5, 0)),
    ]  # fmt: skip
