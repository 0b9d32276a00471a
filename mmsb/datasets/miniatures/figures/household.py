"""Furniture and household things, one function each, as in `things`."""

from __future__ import annotations

import numpy as np

from ..drawing import BLACK, VIVID, WHITE, arc, disc, fill, line, pick, rect, regular, shade, vary
from .shapes import BARK, GLASS, STEEL, WOOD, paint, smooth, turned


def wine_bottle(rng):
    glass = vary(rng, pick(rng, [(36, 66, 40), (36, 66, 40), (70, 40, 30), (150, 170, 150)]), 10)
    label = vary(rng, pick(rng, [WHITE, (236, 220, 180), (150, 30, 40)]), 10)
    body = turned((0.13, -1), (0.13, -0.5), (0.3, -0.3), (0.34, 0), (0.34, 1), rounds=2)
    return [
        fill(body, glass),
        fill(rect(-0.14, -1.02, 0.14, -0.7), paint(rng, BLACK)),
        fill(rect(-0.34, 0.1, 0.34, 0.7), label),
        line([(-0.2, 0.3), (0.2, 0.3)], shade(label, 0.5), 0.06),
        line([(-0.2, 0.46), (0.12, 0.46)], shade(label, 0.6), 0.04),
        line([(-0.24, -0.12), (-0.24, 0.94)], shade(glass, 1.6), 0.04),
    ]


def can(rng):
    one, two = paint(rng), paint(rng, WHITE)
    parts = [
        fill(rect(-0.5, -0.82, 0.5, 0.86, 0.06), one),
        fill(rect(-0.5, rng.uniform(-0.6, 0.4), 0.5, 0.7), two),
        fill(disc(0, -0.84, 0.46, 0.1), (206, 208, 210)),
        fill(disc(0, -0.84, 0.36, 0.06), STEEL),
        fill(rect(-0.48, 0.8, 0.48, 0.92, 0.04), STEEL),
    ]
    return [*parts, line([(-0.38, -0.7), (-0.38, 0.75)], shade(one, 1.4), 0.06)]


def mug(rng):
    glaze, side = paint(rng, WHITE), pick(rng, [-1, 1])
    handle = arc(side * 0.62, 0.06, 0.4, 0.42, -90, 90) if side > 0 else (
        arc(-0.62, 0.06, 0.4, 0.42, 90, 270))  # fmt: skip
    parts = [
        line(handle, shade(glaze, 0.85), 0.17),
        fill(turned((0.68, -0.75), (0.66, 0.6), (0.56, 0.85), (0, 0.86), rounds=2), glaze),
        fill(disc(0, -0.75, 0.68, 0.16), shade(glaze, 0.8)),
        fill(disc(0, -0.72, 0.6, 0.11), (84, 52, 32)),
    ]
    mark = paint(rng, WHITE)
    if rng.random() < 0.4:
        parts += [fill(rect(-0.67, y, 0.67, y + 0.14), mark) for y in (-0.2, 0.3)]
    elif rng.random() < 0.6:
        parts.append(fill(regular(int(rng.integers(3, 7)), 0.3, rng.uniform(0, 90), 0, 0.1), mark))
    return parts


def goblet(rng):
    glass = vary(rng, pick(rng, [GLASS, GLASS, (206, 170, 70)]), 10)
    wine = pick(rng, [(120, 20, 40), (230, 210, 120), glass])
    bowl = [(0.46, -1), (0.6, -0.4), (0.4, 0), (0.06, 0.05)]
    foot = [(0.06, 0.7), (0.46, 0.9), (0.46, 0.96), (0, 0.96)]
    return [
        fill(turned(*bowl, (0.06, 0.75), *foot[1:]), glass),
        fill(turned((0.5, -0.62), (0.53, -0.4), (0.36, -0.06), (0, -0.02)), vary(rng, wine, 10)),
        fill(disc(0, -0.62, 0.5, 0.06), shade(wine, 1.25)),
        line(arc(0, -1, 0.46, 0.07, 0, 360), shade(glass, 1.2), 0.03),
        line([(-0.36, -0.85), (-0.42, -0.4)], WHITE, 0.05),
    ]


def bowl(rng):
    glaze = paint(rng, WHITE)
    inside = vary(
        rng, pick(rng, [(196, 80, 40), (240, 230, 200), (120, 160, 70), shade(glaze, 0.7)])
    )
    return [
        fill(rect(-0.35, 0.55, 0.35, 0.75), shade(glaze, 0.75)),
        fill(arc(0, -0.1, 1, 0.75, 0, 180), glaze),
        fill(disc(0, -0.1, 1, 0.24), shade(glaze, 1.15)),
        fill(disc(0, -0.08, 0.88, 0.17), inside),
    ]


def teapot(rng):
    glaze, trim = paint(rng, WHITE, (150, 90, 60)), paint(rng, WHITE)
    spout = [(0.5, 0.35), (0.85, 0.1), (1.1, -0.4), (1.2, -0.36), (1.0, 0.25), (0.55, 0.6)]
    return [
        line(arc(-0.68, 0.05, 0.42, 0.42, 70, 290), shade(glaze, 0.8), 0.14),
        fill(smooth([*spout, spout[0]]), shade(glaze, 0.88)),
        fill(disc(0, 0.15, 0.78, 0.66), glaze),
        fill(rect(-0.4, 0.72, 0.4, 0.84), shade(glaze, 0.75)),
        fill(rect(-0.76, 0.08, 0.76, 0.24) if rng.random() < 0.5 else disc(0, 0.2, 0.26), trim),
        fill(arc(0, -0.42, 0.4, 0.22, 180, 360), shade(glaze, 0.9)),
        fill(disc(0, -0.7, 0.1), trim),
    ]


def lamp(rng):
    shadow, foot = paint(rng, WHITE, (240, 220, 170)), paint(rng, BLACK, WOOD, STEEL)
    top, wide = rng.uniform(0.25, 0.5), rng.uniform(0.6, 0.8)
    return [
        fill(turned((0.06, -0.3), (0.06, 0), (rng.uniform(0.1, 0.4), 0.4), (0.1, 0.75)), foot),
        fill(rect(-0.4, 0.72, 0.4, 0.86, 0.05), shade(foot, 0.8)),
        fill([(-top, -0.95), (top, -0.95), (wide, -0.15), (-wide, -0.15)], shadow),
        fill([(-top, -0.95), (top, -0.95), (top * 1.03, -0.88), (-top * 1.03, -0.88)],
             shade(shadow, 0.75)),
        fill([(-wide, -0.15), (wide, -0.15), (wide * 0.97, -0.22), (-wide * 0.97, -0.22)],
             shade(shadow, 0.75)),
    ]  # fmt: skip


SEGMENTS = {  # a digit's bars: top, upper left and right, middle, lower left and right, bottom
    0: '1110111', 1: '0010010', 2: '1011101', 3: '1011011', 4: '0111010',
    5: '1101011', 6: '1101111', 7: '1010010', 8: '1111111', 9: '1111011',
}  # fmt: skip
BARS = (((0, 0), (1, 0)), ((0, 0), (0, 1)), ((1, 0), (1, 1)), ((0, 1), (1, 1)),
        ((0, 1), (0, 2)), ((1, 1), (1, 2)), ((0, 2), (1, 2)))  # fmt: skip


def digital_clock(rng):
    case = vary(rng, pick(rng, [BLACK, BLACK, WHITE, *VIVID]), 10)
    glow = pick(rng, [(250, 60, 50), (80, 250, 120), (90, 190, 255), (250, 190, 60)])
    hour, minute = int(rng.integers(24)), int(rng.integers(60))
    parts = [
        *(fill(rect(s * 0.7 - 0.1, 0.4, s * 0.7 + 0.1, 0.66), shade(case, 0.7)) for s in (-1, 1)),
        fill(rect(-1, -0.52, 1, 0.52, 0.12), case),
        fill(rect(-0.9, -0.4, 0.9, 0.4), (20, 22, 26)),
        *(fill(disc(0, y, 0.05), glow) for y in (-0.12, 0.12)),
    ]
    for x, digit in zip((-0.78, -0.38, 0.14, 0.54), divmod(hour, 10) + divmod(minute, 10),
                        strict=True):  # fmt: skip
        for bar, lit in zip(BARS, SEGMENTS[digit], strict=True):
            if lit == '1':
                parts.append(line(np.array(bar) * (0.24, 0.25) + (x, -0.25), glow, 0.08))
    return parts


def chair(rng):
    frame, seat = vary(rng, pick(rng, [WOOD, BARK, WHITE, BLACK, *VIVID])), paint(rng, WOOD)
    slats = [line([(x, -0.9), (x, 0)], frame, 0.08) for x in (-0.45, -0.15, 0.15)]
    if rng.random() < 0.4:
        slats = [fill(rect(-0.68, -0.9, 0.38, -0.2, 0.1), seat)]
    return [
        *(line([(x, 0.05), (x, 0.75)], shade(frame, 0.7), 0.1) for x in (-0.6, 0.32)),
        *slats,
        line([(-0.7, -0.9), (0.4, -0.9)], frame, 0.13),
        *(line([(x, -0.95), (x, 0.1)], frame, 0.12) for x in (-0.68, 0.38)),
        fill([(-0.72, 0), (0.42, 0), (0.72, 0.26), (-0.5, 0.26)], seat),
        fill([(-0.5, 0.26), (0.72, 0.26), (0.72, 0.36), (-0.5, 0.36)], shade(seat, 0.75)),
        *(line([(x, 0.3), (x, 1)], frame, 0.11) for x in (-0.45, 0.66)),
    ]


def table(rng):
    wood = vary(rng, pick(rng, [WOOD, BARK, (206, 180, 140), WHITE, (60, 44, 36)]))
    legs = [line([(x, 0), (x, y)], shade(wood, 0.7), 0.11) for x, y in
            ((-0.7, 0.5), (0.7, 0.5), (-0.92, 0.75), (0.92, 0.75))]  # fmt: skip
    return [
        *legs,
        fill([(-0.78, -0.34), (0.78, -0.34), (1, -0.02), (-1, -0.02)], wood),
        fill(rect(-1, -0.02, 1, 0.1), shade(wood, 0.75)),
    ]


def bed(rng):
    wood, cover = vary(rng, pick(rng, [WOOD, BARK, WHITE])), paint(rng, WHITE)
    return [
        fill(rect(-1.05, -0.75, -0.93, 0.62, 0.03), wood),
        fill(rect(0.93, -0.3, 1.05, 0.62, 0.03), wood),
        fill(rect(-0.98, 0.2, 0.98, 0.42), shade(wood, 0.8)),
        fill(rect(-0.94, -0.08, 0.94, 0.24, 0.08), (236, 232, 224)),
        fill(disc(-0.68, -0.16, 0.25, 0.14), (250, 248, 244)),
        fill(rect(-0.4, -0.18, 0.95, 0.34, 0.06), cover),
        line([(-0.36, -0.15), (-0.36, 0.3)], shade(cover, 1.25), 0.1),
    ]


def sofa(rng):
    cloth = paint(rng, (120, 110, 100), (80, 70, 66))
    cushions = [fill(rect(x - 0.36, -0.02, x + 0.36, 0.26, 0.06), shade(cloth, 1.12)) for x in
                (-0.37, 0.37)]  # fmt: skip
    return [
        *(fill(rect(x - 0.06, 0.5, x + 0.06, 0.7), BARK) for x in (-0.85, 0.85)),
        fill(rect(-0.85, -0.55, 0.85, 0.3, 0.12), shade(cloth, 0.85)),
        fill(rect(-0.9, 0.2, 0.9, 0.56, 0.05), cloth),
        *cushions,
        *(fill(rect(x - 0.14, -0.2, x + 0.14, 0.56, 0.1), shade(cloth, 0.94)) for x in (-0.9, 0.9)),
    ]
