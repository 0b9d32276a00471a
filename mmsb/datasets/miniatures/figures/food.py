"""Fruit, vegetables and other food, one function each, as in `things`."""

from __future__ import annotations

import numpy as np

from ..drawing import BLACK, arc, disc, fill, line, pick, polar, regular, shade, vary
from .shapes import BARK, GREEN, leaf, rotated, smooth, turned


def apple(rng, skins=((196, 30, 40), (196, 30, 40), (214, 170, 70), (140, 186, 56))):
    skin, lean = vary(rng, pick(rng, skins), 14), rng.uniform(-0.2, 0.2)
    body = turned((0, -0.58), (0.4, -0.9), (1, -0.7), (1.02, 0.2), (0.6, 1.05), (0, 0.86))
    parts = [
        fill(body, skin),
        fill(disc(-0.45, -0.2, 0.13, 0.22), shade(skin, 1.3)),
        line(arc(0, -0.66, 0.26, 0.08, 10, 170), shade(skin, 0.6), 0.06),
        line([(0, -0.6), (lean, -1.05)], BARK, 0.1),
    ]
    return [*parts, leaf(lean * 0.6, -0.85, 0.6, -25, GREEN)] if rng.random() < 0.6 else parts


def granny_smith(rng):
    return apple(rng, [(140, 190, 56)])


def orange(rng):
    peel, turn = vary(rng, (240, 140, 30), 12), rng.uniform(0, 72)
    if rng.random() < 0.35:  # cut in half
        wedge = np.concatenate([[(0.1, 0)], arc(0, 0, 0.82, 0.82, -15, 15)])
        wedges = [fill(rotated(wedge, turn + 36 * k), shade(peel, 1.06)) for k in range(10)]
        return [fill(disc(), peel), fill(disc(0, 0, 0.9), vary(rng, (250, 225, 170), 8)), *wedges]
    pores = [polar(np.sqrt(rng.uniform(0, 0.9)), rng.uniform(0, 360)) for _ in range(40)]
    star = regular(10, 1, turn) * np.tile([0.17, 0.06], 5)[:, None] + (0.1, -0.45)
    return [
        fill(disc(), peel),
        *(fill(disc(x, y, 0.025, n=8), shade(peel, 0.85)) for x, y in pores),
        fill(disc(-0.4, -0.3, 0.15), shade(peel, 1.15)),
        fill(star, shade(GREEN, 0.8)),
    ]


def lemon(rng):
    peel = vary(rng, (246, 216, 60), 12)
    half = smooth([(-1.1, 0), (-1.05, 0.2), (-0.7, 0.3), (-0.4, 0.75), (0.4, 0.75), (0.8, 0.25)])
    edge = np.concatenate([half, smooth([half[-1], (1.0, 0.15), (1.02, 0)])])
    pores = [polar(np.sqrt(rng.uniform(0, 0.3)), rng.uniform(0, 360)) for _ in range(16)]
    return [
        fill(np.concatenate([edge, edge[::-1] * (1, -1)]), peel),
        *(fill(disc(x, y, 0.025, n=8), shade(peel, 0.88)) for x, y in pores),
        fill(disc(-0.3, -0.25, 0.2, 0.1), shade(peel, 1.2)),
    ]


def pear(rng):
    skin = vary(rng, pick(rng, [(178, 194, 70), (206, 190, 80), (170, 120, 60)]), 14)
    return [
        fill(turned((0, -0.8), (0.4, -0.85), (0.3, -0.2), (0.95, 0.2), (0.8, 1), (0, 0.92)), skin),
        fill(disc(-0.35, 0.3, 0.12, 0.22), shade(skin, 1.2)),
        line([(0, -0.75), (rng.uniform(-0.15, 0.2), -1.1)], BARK, 0.09),
    ]


def strawberry(rng):
    skin = vary(rng, (216, 36, 48), 12)
    rows = [(x, y) for y in np.arange(-0.4, 0.9, 0.24) for x in np.arange(-0.75, 0.8, 0.25)]
    seeds = [(x + 0.12 * (i // 7 % 2), y) for i, (x, y) in enumerate(rows)]
    return [
        fill(turned((0, -0.7), (0.8, -0.85), (0.95, -0.1), (0.4, 0.85), (0, 1)), skin),
        *(
            fill(disc(x, y, 0.035, 0.055, 8), (250, 220, 120))
            for x, y in seeds
            if abs(x) < 0.62 - 0.55 * max(y, 0)
        ),
        *(leaf(0, -0.72, 0.62, a, GREEN) for a in (-160, -20, 165, 15, 130, 50, 90)),
        line([(0, -0.72), (0.05, -1.02)], GREEN, 0.08),
    ]


def pineapple(rng):
    skin = vary(rng, (204, 144, 46), 14)
    ink = shade(skin, 0.62)
    lines = []
    for k in np.linspace(-1, 1, 9):
        for side in (-1, 1):
            x = np.linspace(-0.6, 0.6, 20)
            y = 0.35 + 1.5 * k * 0.7 + side * x * 0.8
            inside = (x / 0.58) ** 2 + ((y - 0.3) / 0.72) ** 2 < 1
            if inside.sum() > 1:
                lines.append(line(np.stack([x, y], 1)[inside], ink, 0.04))
    crown = [(-150, 0.5), (-30, 0.5), (-125, 0.65), (-55, 0.65), (-105, 0.75), (-75, 0.75)]
    crown = [leaf(0, -0.36, size, a, shade(GREEN, f)) for (a, size), f in zip(
        crown, (0.8, 0.8, 1, 1, 1.2, 1.2), strict=True)]  # fmt: skip
    return [*crown, fill(disc(0, 0.3, 0.6, 0.74), skin), *lines]


def bell_pepper(rng):
    skin = vary(rng, pick(rng, [(204, 36, 36), (70, 140, 50), (244, 196, 40), (238, 130, 36)]), 12)
    lobes = [
        fill(disc(x, 0.1, 0.42, 0.85), shade(skin, f))
        for x, f in ((-0.5, 0.86), (0.5, 0.86), (0, 1))
    ]
    return [
        *lobes,
        fill(disc(0, -0.6, 0.35, 0.14), shade(skin, 0.7)),
        line(smooth([(0, -0.6), (0.02, -0.9), (0.2, -1.1)]), GREEN, 0.16),
        fill(disc(-0.14, -0.05, 0.07, 0.3), shade(skin, 1.35)),
    ]


def mushroom(rng):
    red = rng.random() < 0.4
    cap = vary(rng, (200, 40, 36) if red else pick(rng, [(150, 104, 70), (206, 180, 150)]), 14)
    tall = rng.uniform(0.6, 1.2)
    flat = rng.uniform(0.65, 1)
    spots = [(-0.55, -0.2), (0, -0.55), (0.5, -0.3), (-0.2, -0.12), (0.75, -0.1), (0.25, -0.2)]
    return [
        fill(turned((0.22, -0.1), (0.2, tall * 0.5), (0.34, tall), (0, tall)), (236, 224, 204)),
        fill(disc(0, 0, 0.9, 0.16), (214, 196, 170)),
        fill(np.concatenate([arc(0, 0, 1, flat, 180, 360), arc(0, 0, 1, 0.12, 0, 180)]), cap),
        *(fill(disc(x, y * flat, 0.12, 0.09), (248, 240, 230)) for x, y in spots if red),
    ]


def pizza(rng):
    crust, cheese = vary(rng, (206, 152, 84), 12), vary(rng, (246, 206, 96), 12)
    missing = rng.choice([0, 0, 45, 90])
    start = rng.uniform(0, 360)

    def cut(radius):
        return np.concatenate([[(0, 0)], arc(0, 0, radius, radius, start, start + 360 - missing)])

    parts = [fill(cut(1), crust), fill(cut(0.88), (190, 60, 36)), fill(cut(0.84), cheese)]
    for k in range(int(rng.integers(9, 16))):
        at = polar(rng.uniform(0.2, 0.7), start + 12 + (330 - missing) * rng.random())
        if k % 3:
            top = vary(rng, (180, 44, 36), 10)
            parts += [fill(disc(*at, 0.13), top), fill(disc(*at, 0.09), shade(top, 1.15))]
        else:
            parts.append(line([at - 0.06, at + (0.08, 0.02)], pick(rng, [GREEN, BLACK]), 0.07))
    return parts


def ice_cream(rng):
    scoops = int(rng.integers(1, 4))
    colours = [(250, 236, 200), (240, 160, 180), (110, 66, 44), (170, 220, 180), (250, 220, 120)]
    cone, parts = vary(rng, (214, 160, 90), 12), []
    parts.append(fill([(-0.45, 0), (0.45, 0), (0, 1.2)], cone))
    for k in np.linspace(-0.3, 0.3, 4):
        parts.append(line([(k, 0), (k * 0.3 + 0.12, 0.75)], shade(cone, 0.75), 0.035))
        parts.append(line([(k, 0), (k * 0.3 - 0.12, 0.75)], shade(cone, 0.75), 0.035))
    for k, colour in enumerate(pick(rng, colours, scoops)):
        colour = vary(rng, colour, 10)
        hem = [fill(disc(x, -0.02 - 0.5 * k, 0.16), colour) for x in (-0.36, -0.12, 0.12, 0.36)]
        parts += [fill(disc(0, -0.26 - 0.5 * k, 0.48, 0.42), colour), *hem]
        parts.append(fill(disc(-0.16, -0.4 - 0.5 * k, 0.1), shade(colour, 1.12)))
    return parts


def jack_o_lantern(rng):
    skin, glow = vary(rng, (232, 124, 30), 12), pick(rng, [(255, 220, 90), (40, 24, 16)])
    ribs = [(-0.62, 0.42, 0.8), (0.62, 0.42, 0.8), (-0.32, 0.42, 0.9), (0.32, 0.42, 0.9)]
    eye = regular(3, 0.24, -90)
    teeth = [
        (x, 0.3 + 0.16 * (i % 2) - 0.1 * abs(x)) for i, x in enumerate(np.linspace(-0.6, 0.6, 9))
    ]
    mouth = np.concatenate([teeth, smooth([(0.6, 0.3), (0.3, 0.75), (-0.3, 0.75), (-0.6, 0.3)])])
    return [
        line([(0, -0.6), (rng.uniform(-0.15, 0.15), -1.0)], shade(GREEN, 0.8), 0.2),
        *(fill(disc(x, 0.1, w, 0.74), shade(skin, f)) for x, w, f in ribs),
        fill(disc(0, 0.1, 0.36, 0.76), skin),
        *(fill(eye + (x, -0.1), glow) for x in (-0.4, 0.4)),
        fill(regular(3, 0.12, -90, 0, 0.14), glow),
        fill(mouth, glow),
    ]
