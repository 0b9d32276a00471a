"""Figures of things, named as in COCO.

Each function returns one random thing as a list of parts from back to front, upright and about 2
units across. `THINGS` also gives how far each may be rotated (a boat seldom lies on its side) and
whether it may be mirrored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from .drawing import (
    BLACK,
    VIVID,
    WHITE,
    Part,
    arc,
    blob,
    disc,
    fill,
    line,
    pick,
    polar,
    rect,
    regular,
    shade,
    vary,
)

LETTERS = {  # strokes in the unit square
    'S': [
        [(1, 0.12), (0.8, 0), (0.2, 0), (0, 0.15), (0, 0.34), (0.2, 0.47)]
        + [(0.8, 0.53), (1, 0.66), (1, 0.85), (0.8, 1), (0.2, 1), (0, 0.88)]
    ],
    'T': [[(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]],
    'O': [arc(0.5, 0.5, 0.5, 0.5, 0, 360)],
    'P': [[(0, 1), (0, 0), (0.7, 0), (1, 0.13), (1, 0.4), (0.7, 0.53), (0, 0.53)]],
}


def boat(rng):
    hull, trim = vary(rng, pick(rng, [*VIVID, WHITE, (90, 60, 40)])), vary(rng, pick(rng, VIVID))
    deep = rng.uniform(0.4, 0.55)
    parts = []
    if rng.random() < 0.6:  # a sailing boat
        sail = vary(rng, pick(rng, [WHITE, WHITE, *VIVID]), 10)
        mast = rng.uniform(-0.15, 0.15)
        parts += [
            line([(mast, 0.4), (mast, -1.1)], (90, 70, 55), 0.06),
            fill([(mast + 0.05, -1.05), (mast + 0.05, 0.25), (0.85, 0.25)], sail),
            fill([(mast - 0.06, -0.85), (mast - 0.06, 0.25), (-0.75, 0.25)], shade(sail, 0.86)),
        ]
    else:
        wall = vary(rng, WHITE, 10)
        parts += [
            fill(rect(0.1, -0.65, 0.3, -0.1), trim),
            fill(rect(-0.5, -0.2, 0.5, 0.45), wall),
            fill(rect(-0.58, -0.27, 0.58, -0.15), trim),
            *(fill(disc(x, 0.12, 0.11), (60, 90, 120)) for x in (-0.3, 0, 0.3)),
        ]
    return [
        *parts,
        fill([(-1, 0.4), (1, 0.32), (0.68, 0.4 + deep), (-0.72, 0.4 + deep)], hull),
        fill([(-1, 0.4), (1, 0.32), (0.95, 0.44), (-0.92, 0.5)], trim),
    ]


def traffic_light(rng):
    body = vary(rng, pick(rng, [(40, 42, 44), (40, 42, 44), (30, 70, 50), (205, 165, 40)]), 10)
    parts = [fill(rect(-0.45, -1, 0.45, 1, 0.14), body)]
    if rng.random() < 0.5:
        parts = [fill(rect(-0.54, -1.09, 0.54, 1.09, 0.16), vary(rng, (150, 150, 145))), *parts]
    lit = rng.integers(3)
    for i, lamp in enumerate([(255, 50, 40), (255, 190, 40), (60, 235, 120)]):
        y = 0.63 * (i - 1)
        glow = lamp if i == lit else shade(lamp, 0.28)
        parts += [
            fill(disc(0, y, 0.29), shade(body, 0.55)),
            fill(disc(0, y, 0.245), glow),
            line(arc(0, y, 0.29, 0.29, 190, 350), shade(body, 0.4), 0.07),
        ]
        if i == lit:
            parts.append(fill(disc(0, y, 0.12), shade(lamp, 1.6)))
    return parts


def fire_hydrant(rng):
    paint = vary(rng, pick(rng, [(200, 40, 36), (200, 40, 36), (235, 190, 40), (225, 110, 40)]))
    caps = pick(rng, [shade(paint, 0.8), shade(paint, 0.8), vary(rng, (210, 210, 205))])
    dark = shade(paint, 0.68)
    return [
        fill(rect(-0.1, -1, 0.1, -0.75), caps),
        *(fill(rect(s * 0.56 - 0.2, -0.18, s * 0.56 + 0.2, 0.2), dark) for s in (-1, 1)),
        *(fill(rect(s * 0.78 - 0.09, -0.24, s * 0.78 + 0.09, 0.26, 0.04), caps) for s in (-1, 1)),
        fill(rect(-0.42, -0.4, 0.42, 0.86), paint),
        fill(arc(0, -0.4, 0.44, 0.45, 180, 360), paint),
        fill(rect(-0.52, -0.46, 0.52, -0.32, 0.03), dark),
        fill(rect(-0.62, 0.8, 0.62, 1, 0.03), dark),
        fill(rect(-0.47, 0.5, 0.47, 0.6), dark),
        fill(disc(0, 0.05, 0.26), dark),
        fill(disc(0, 0.05, 0.2), caps),
        fill(regular(5, 0.09, rng.uniform(0, 72), 0, 0.05), dark),
        line([(-0.28, -0.28), (-0.28, 0.48)], shade(paint, 1.25), 0.07),
    ]


def stop_sign(rng):
    red, white = vary(rng, (190, 26, 34), 14), vary(rng, (238, 238, 235), 8)
    parts = [fill(regular(8, 1, 22.5), white), fill(regular(8, 0.9, 22.5), red)]
    for i, letter in enumerate('STOP'):
        for stroke in LETTERS[letter]:
            at = np.array(stroke) * (0.25, 0.6) + (-0.7 + 0.385 * i, -0.3)
            parts.append(line(at, white, 0.09))
    return parts


def umbrella(rng):
    one, two = pick(rng, VIVID, 2)
    one = vary(rng, pick(rng, [one, BLACK]) if rng.random() < 0.2 else one)
    two = pick(rng, [vary(rng, two), shade(one, 0.7), WHITE])
    panels = int(rng.integers(4, 8))
    ends = np.sin(np.linspace(-np.pi / 2, np.pi / 2, panels + 1))
    stick, t = vary(rng, (80, 60, 50)), np.linspace(0, np.pi / 2, 12)
    parts = [
        line([(0, -1.02), (0, 0.8)], stick, 0.07),
        line(arc(0.15, 0.8, 0.15, 0.15, 180, 0), stick, 0.08),
    ]
    for i, (a, b) in enumerate(pairwise(ends)):
        left, right = (np.stack([e * np.sin(t), -0.88 * np.cos(t)], 1) for e in (a, b))
        hem = arc((a + b) / 2, 0, (b - a) / 2, 0.1, 180, 360, 8)
        parts.append(fill(np.concatenate([left, hem, right[::-1]]), (one, two)[i % 2]))
    return parts


def frisbee(rng):
    one, two = (vary(rng, c) for c in pick(rng, VIVID, 2))
    flat = rng.uniform(0.4, 1)
    rim = 0.16 * (1 - flat) + 0.02
    parts = [
        fill(disc(0, rim, 1, flat), shade(one, 0.6)),
        fill(disc(0, 0, 1, flat), one),
        fill(disc(0, 0, 0.84, 0.84 * flat), shade(one, 0.78)),
        fill(disc(0, 0, 0.78, 0.78 * flat), one),
        fill(disc(0, 0, 0.5, 0.5 * flat), two),
    ]
    if rng.random() < 0.5:  # a star
        radius = np.tile([0.42, 0.18], 5)[:, None]
        parts.append(fill(regular(10, 1, rng.uniform(0, 72)) * radius * (1, flat), WHITE))
    else:
        parts.append(fill(disc(0, 0, 0.3, 0.3 * flat), one))
    return parts


def soccer_ball(rng):
    base = vary(rng, (238, 238, 238), 10)
    ink = vary(rng, pick(rng, [BLACK] * 9 + list(VIVID)), 8)
    parts = [fill(disc(), base), fill(regular(5, 0.33, -90), ink)]
    for k in range(5):
        out = -90 + 72 * k
        seam = polar(1, out)
        patch = regular(5, 0.33, out + 180) + seam * 0.98
        radius = np.linalg.norm(patch, axis=1, keepdims=True)
        parts.append(fill(patch / np.maximum(radius, 1), ink))  # keep it inside the ball
        parts.append(line([seam * 0.33, seam * 0.66], ink, 0.05))
    return [*parts, line(arc(0, 0, 0.98, 0.98, 0, 360), shade(base, 0.7), 0.04)]


def basketball(rng):
    base = vary(rng, (218, 110, 40), 14)
    curves = [[(-0.97, 0), (0.97, 0)], [(0, -0.97), (0, 0.97)]]
    curves += [arc(-1.15, 0, 0.75, 0.9, -48, 48), arc(1.15, 0, 0.75, 0.9, 132, 228)]
    parts = [fill(disc(), base), *(line(c, (50, 30, 24), 0.06) for c in curves)]
    return [*parts, line(arc(0, 0, 0.97, 0.97, 0, 360), (50, 30, 24), 0.05)]


def tennis_ball(rng):
    curves = (arc(-1.2, 0, 0.85, 0.85, -52, 52), arc(1.2, 0, 0.85, 0.85, 128, 232))
    base = vary(rng, (200, 225, 50), 14)
    return [fill(disc(), base), *(line(c, WHITE, 0.1) for c in curves)]


def beach_ball(rng):
    colours = [c for colour in pick(rng, VIVID, 3) for c in (WHITE, vary(rng, colour))]
    wedges = [np.concatenate([[(0, 0)], arc(0, 0, 1, 1, 60 * k, 60 * k + 60)]) for k in range(6)]
    parts = [fill(w, c) for w, c in zip(wedges, colours, strict=True)]
    return [*parts, fill(disc(0, 0, 0.16), WHITE)]


def sports_ball(rng):
    return pick(rng, [soccer_ball, soccer_ball, basketball, tennis_ball, beach_ball])(rng)


def kite(rng):
    colours = [vary(rng, c) for c in pick(rng, VIVID, int(rng.integers(2, 5)))]
    wide, arm = rng.uniform(0.5, 0.75), rng.uniform(-0.5, -0.2)
    corners = np.array([(0, -1), (wide, arm), (0, 0.75), (-wide, arm)])
    t = np.linspace(0, 1, 24)
    sway, length = rng.uniform(-0.7, 0.7), rng.uniform(0.7, 1.3)
    wave = 0.13 * np.sin(2 * np.pi * (t * rng.uniform(1, 1.8)))
    tail = np.stack([sway * t + wave, 0.75 + length * t], 1)
    parts = [line(tail, vary(rng, (235, 235, 230), 15), 0.05)]
    for k in (7, 13, 19):
        bow = np.array([(-0.17, -0.1), (0.17, 0.1), (0.17, -0.1), (-0.17, 0.1)]) + tail[k]
        parts.append(fill(bow, pick(rng, colours)))
    for k in range(4):
        panel = [corners[k], corners[(k + 1) % 4], (0, arm)]
        parts.append(fill(panel, colours[k % len(colours)]))
    return [
        *parts,
        line(corners[[0, 2]], (70, 60, 60), 0.035),
        line(corners[[1, 3]], (70, 60, 60), 0.035),
    ]


def banana(rng):
    skin = vary(rng, pick(rng, [(244, 212, 60), (244, 212, 60), (214, 206, 70)]), 14)
    brown = vary(rng, (96, 70, 36), 12)
    t = np.linspace(0, 1, 24)
    half = 0.2 * np.sin(np.pi * (0.12 + 0.8 * t)) ** 0.7
    angle = np.radians(155 - 130 * t)
    spine = np.stack([np.cos(angle), np.sin(angle)], 1)
    outer, inner, ridge = (spine * (1 + s * half[:, None]) * (1, 0.9) for s in (1, -1, 0.25))
    stalk = (outer[0] + inner[0]) / 2
    count, fan = int(pick(rng, [1, 1, 2, 3])), rng.uniform(15, 24)
    parts = []
    for k in reversed(range(count)):  # a bunch hangs together at its stalk
        c, s = polar(1, k * fan)
        hang = np.array([(c, s), (-s, c)])
        own = shade(skin, 1 - 0.12 * k)
        spots = rng.integers(4, 20, int(rng.integers(0, 5)))
        one = [
            fill(np.concatenate([outer, inner[::-1]]), own),
            line(ridge[2:-2], shade(own, 0.8), 0.03),
            fill(np.concatenate([outer[-3:], inner[-3:][::-1]]), brown),
            *(fill(disc(*(ridge[i] + rng.uniform(-0.09, 0.09, 2)), 0.03), brown) for i in spots),
        ]
        parts += [replace(p, points=(p.points - stalk) @ hang + stalk) for p in one]
    return [*parts, line([stalk + (0.06, 0.1), stalk + (-0.08, -0.2)], brown, 0.14)]


def donut(rng):
    dough = vary(rng, (206, 150, 84), 14)
    icing = vary(
        rng, pick(rng, [(240, 140, 180), (96, 56, 36), (245, 240, 230), (130, 200, 225)]), 12
    )
    hole, wobble = rng.uniform(0.27, 0.36), blob(rng, 0.12)

    def band(outer, inner):  # out along one edge, back along the other: keeps the middle open
        return np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])

    inner = disc(0, 0, hole, n=36)
    parts = [fill(band(disc(n=36), inner), dough), fill(band(wobble * 0.86, inner * 1.25), icing)]
    for _ in range(int(rng.integers(0, 26)) if rng.random() < 0.8 else 0):
        at = polar(rng.uniform(0.52, 0.74), rng.uniform(0, 360))
        step = polar(0.06, rng.uniform(0, 360))
        parts.append(line([at - step, at + step], pick(rng, [*VIVID, WHITE]), 0.05))
    return parts


def tv(rng):
    frame = vary(rng, pick(rng, [(34, 34, 38), (34, 34, 38), (170, 172, 176), (120, 80, 52)]), 10)
    parts = []
    if rng.random() < 0.25:  # an old set
        shape, screen = rect(-0.9, -0.66, 0.9, 0.66, 0.12), (-0.76, -0.52, 0.46, 0.52)
        parts += [line([(0, -0.6), (x, -1.15)], (150, 150, 150), 0.04) for x in (-0.5, 0.4)]
        parts += [line([(x * 0.8, 0.6), (x, 0.9)], shade(frame, 0.6), 0.08) for x in (-0.7, 0.7)]
        knobs = [fill(disc(0.68, y, 0.09), (200, 195, 180)) for y in (-0.35, -0.05)]
    else:
        shape, screen, knobs = rect(-1, -0.6, 1, 0.6, 0.03), (-0.93, -0.53, 0.93, 0.5), []
        parts += [fill(rect(-0.1, 0.58, 0.1, 0.8), shade(frame, 0.8))]
        parts += [fill(rect(-0.45, 0.76, 0.45, 0.86), shade(frame, 0.9))]
    x0, y0, x1, y1 = screen
    w, h = x1 - x0, y1 - y0
    parts += [fill(shape, frame), *knobs]
    if rng.random() < 0.4:  # a test card
        for i, colour in enumerate(pick(rng, VIVID, 6)):
            parts.append(fill(rect(x0 + w * i / 6, y0, x0 + w * (i + 1) / 6, y1), colour))
    else:  # a landscape
        low = y0 + h * rng.uniform(0.5, 0.7)
        cx, cy = x0 + w * rng.uniform(0.2, 0.8), y0 + h * rng.uniform(0.2, 0.4)
        peak = x0 + w * rng.uniform(0.25, 0.75)
        parts += [
            fill(rect(*screen), vary(rng, (120, 190, 240), 30)),
            fill(disc(cx, cy, 0.12), (255, 235, 150)),
            fill([(x0, low), (peak, y0 + 0.3 * h), (x1, low)], vary(rng, (130, 110, 150), 30)),
            fill(rect(x0, low, x1, y1), vary(rng, (90, 170, 90), 30)),
        ]
    return [*parts, fill([(x0, y0), (x0 + 0.25 * w, y0), (x0, y1)], vary(rng, (225, 235, 245), 8))]


def clock(rng):
    rim = vary(rng, pick(rng, [(40, 40, 44), (150, 110, 60), (190, 190, 195), *VIVID]))
    face = vary(rng, (246, 243, 232), 9)
    square = rng.random() < 0.25
    parts = [
        fill(rect(-1, -1, 1, 1, 0.15) if square else disc(), rim),
        fill(disc(0, 0, 0.85), face),
    ]
    for k in range(12):
        start, width = (0.76, 0.05) if k % 3 else (0.68, 0.09)
        parts.append(line([polar(start, 30 * k), polar(0.8, 30 * k)], BLACK, width))
    minutes = rng.uniform(0, 720)
    for turn, reach, width in ((minutes / 2, 0.42, 0.12), (minutes * 6, 0.64, 0.08)):
        tip = polar(reach, turn - 90)
        parts.append(line([-0.2 * tip, tip], BLACK, width))
    if rng.random() < 0.5:
        tip = polar(0.68, rng.uniform(0, 360))
        parts.append(line([-0.25 * tip, tip], (200, 40, 40), 0.03))
    return [*parts, fill(disc(0, 0, 0.07), BLACK)]


# name: (function, degrees it may be rotated either way, whether it may be mirrored)
THINGS: dict[str, tuple[Callable[[np.random.Generator], list[Part]], float, bool]] = {
    'boat': (boat, 12, True),
    'traffic light': (traffic_light, 15, True),
    'fire hydrant': (fire_hydrant, 12, True),
    'stop sign': (stop_sign, 20, False),
    'umbrella': (umbrella, 45, True),
    'frisbee': (frisbee, 35, True),
    'sports ball': (sports_ball, 180, True),
    'kite': (kite, 60, True),
    'banana': (banana, 180, True),
    'donut': (donut, 180, True),
    'tv': (tv, 10, True),
    'clock': (clock, 25, False),
}


def clutter(rng: np.random.Generator) -> list[Part]:
    """Return a thing without a category: a stone, a stick, a leaf, a box or a rag."""
    dull = [(120, 116, 110), (92, 76, 60), (150, 140, 120), (80, 100, 70), (110, 120, 135)]
    colour = vary(rng, pick(rng, dull), 30)
    kind = int(rng.integers(5))
    if kind == 0:
        return [fill(blob(rng), colour), fill(blob(rng) * 0.5 - 0.2, shade(colour, 1.12))]
    if kind == 1:
        bend = [(-1, 0), (-0.2, rng.uniform(-0.3, 0.3)), (1, rng.uniform(-0.4, 0.4))]
        return [line(bend, colour, rng.uniform(0.08, 0.2))]
    if kind == 2:
        leaf = np.concatenate([arc(0, 0.7, 1.2, 1.2, 215, 325), arc(0, -0.7, 1.2, 1.2, 35, 145)])
        green = vary(rng, (96, 130, 60), 30)
        return [fill(leaf, green), line([(-1.2, 0), (0.95, 0)], shade(green, 0.7), 0.06)]
    if kind == 3:
        return [
            fill(rect(-1, -0.7, 1, 0.7), colour),
            fill(rect(-1, -0.7, 1, -0.4), shade(colour, 1.2)),
            line([(0, -0.7), (0, 0.7)], shade(colour, 0.8), 0.1),
        ]
    corners = regular(4, 1, 45) + rng.uniform(-0.5, 0.5, (4, 2))
    return [fill(corners, colour), line(corners[[0, 2]], shade(colour, 0.85), 0.06)]
