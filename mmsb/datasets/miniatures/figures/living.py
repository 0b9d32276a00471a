"""Animals, plants and people, one function each, as in `things`."""

from __future__ import annotations

import numpy as np

from ..drawing import (
    BLACK,
    VIVID,
    WHITE,
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
from .shapes import BARK, GREEN, leaf, paint, smooth, turned


def goldfish(rng):
    gold = vary(rng, pick(rng, [(245, 130, 30), (245, 130, 30), (250, 170, 60), (225, 70, 40)]), 12)
    fin = shade(gold, 1.15)
    tail = smooth(
        [(0.55, 0), (1.1, -0.6), (1.25, -0.1), (0.95, 0), (1.25, 0.25), (1, 0.65), (0.55, 0)]
    )
    scales = [line(arc(x, y, 0.12, 0.12, 100, 260, 8), shade(gold, 0.8), 0.03)
              for x in (-0.1, 0.12, 0.34) for y in (-0.2, 0, 0.2)]  # fmt: skip
    return [
        fill(tail, fin),
        fill(smooth([(-0.3, -0.4), (0, -0.85), (0.4, -0.6), (0.4, -0.2)]), fin),
        fill(smooth([(0, 0.4), (0.2, 0.75), (0.4, 0.3)]), fin),
        fill(disc(-0.1, 0, 0.75, 0.48), gold),
        *scales,
        line(arc(-0.2, 0, 0.3, 0.36, 120, 240), shade(gold, 0.7), 0.05),
        fill(disc(-0.58, -0.12, 0.1), WHITE),
        fill(disc(-0.59, -0.12, 0.055), BLACK),
    ]


def ladybug(rng):
    shell, spots = vary(rng, pick(rng, [(206, 36, 30), (206, 36, 30), (236, 140, 30)]), 12), []
    for x, y in ((0.35, -0.25), (0.42, 0.25), (0.2, 0.6), (0.18, 0.05))[: int(rng.integers(2, 5))]:
        spots += [fill(disc(s * x, y, 0.14), BLACK) for s in (-1, 1)]
    legs = [line([(s * 0.6, y), (s * 1.05, y + d)], BLACK, 0.07) for s in (-1, 1)
            for y, d in ((-0.35, -0.2), (0.1, 0.05), (0.5, 0.25))]  # fmt: skip
    return [
        *legs,
        *(line([(0, -0.8), (s * 0.3, -1.15)], BLACK, 0.05) for s in (-1, 1)),
        fill(disc(0, -0.72, 0.36, 0.28), BLACK),
        *(fill(disc(s * 0.2, -0.78, 0.08), WHITE) for s in (-1, 1)),
        fill(disc(0, 0.1, 0.78, 0.8), shell),
        line([(0, -0.7), (0, 0.9)], BLACK, 0.06),
        *spots,
    ]


def butterfly(rng, ground=None):
    wing = vary(rng, ground or pick(rng, VIVID))
    edge = BLACK if ground or rng.random() < 0.5 else shade(wing, 0.5)
    upper = smooth([(0.05, -0.1), (0.35, -0.9), (1.05, -0.95), (0.9, -0.15), (0.05, 0.05)])
    lower = smooth([(0.05, 0), (0.85, 0), (0.85, 0.85), (0.3, 0.85), (0.05, 0.2)])
    parts, flank = [], (upper, lower)
    for s in (-1, 1):
        for shape in flank:
            middle = shape.mean(0)
            inner = middle + 0.8 * (shape - middle)
            parts += [fill(shape * (s, 1), edge), fill(inner * (s, 1), wing)]
            dots = middle + 0.9 * (shape[2:-2:3] - middle)
            if ground:  # the monarch's veins, and white dots along its edge
                parts += [line(np.array([(0.08, 0), p]) * (s, 1), edge, 0.045) for p in
                          inner[4:-4:5]]  # fmt: skip
                parts += [fill(disc(s * x, y, 0.03, n=8), WHITE) for x, y in dots]
            else:
                parts.append(fill(disc(s * middle[0], middle[1], 0.13), shade(edge, 0.9)))
    return [
        *parts,
        fill(disc(0, 0.05, 0.07, 0.5), (40, 30, 26)),
        *(line([(0, -0.4), (s * 0.22, -0.8)], (40, 30, 26), 0.04) for s in (-1, 1)),
    ]


def monarch(rng):
    return butterfly(rng, (238, 126, 30))


def snail(rng):
    skin = vary(rng, pick(rng, [(176, 150, 110), (120, 104, 84), (206, 190, 150)]))
    shell = vary(rng, pick(rng, [(160, 100, 50), (200, 160, 90), (120, 70, 50), (220, 200, 150)]))
    t = np.linspace(0, 1, 60)
    coil = np.stack([np.cos(t * 15), np.sin(t * 15)], 1) * (0.62 * (1 - t))[:, None] + (0.2, -0.15)
    body = [(-0.95, -0.3), (-0.75, -0.4), (-0.5, 0.3), (0.3, 0.4), (1.15, 0.62), (-0.7, 0.66)]
    return [
        *(line([(-0.85, -0.2), (x, -0.8)], skin, 0.06) for x in (-1.1, -0.75)),
        *(fill(disc(x, -0.82, 0.06), BLACK) for x in (-1.1, -0.75)),
        fill(smooth([*body, body[0]]), skin),
        fill(disc(0.2, -0.12, 0.7, 0.66), shell),
        line(coil, shade(shell, 0.6), 0.08),
    ]


def starfish(rng):
    skin = vary(rng, pick(rng, [(226, 110, 60), (200, 60, 60), (216, 170, 110), (130, 80, 150)]))
    arms = regular(10, 1, -90) * np.tile([1.08, rng.uniform(0.3, 0.42)], 5)[:, None]
    shape = smooth([*arms, arms[0]], 2)
    dots = [polar(r, -90 + 72 * k + d) for k in range(5) for r, d in
            ((0.25, 0), (0.45, 0), (0.65, 0), (0.4, 14), (0.4, -14))]  # fmt: skip
    return [fill(shape, skin), *(fill(disc(*p, 0.045, n=10), shade(skin, 1.4)) for p in dots)]


def _flower(rng, petals, core, count, length, wide, size):
    stem = vary(rng, GREEN)
    parts = [
        line(smooth([(0, -0.3), (rng.uniform(-0.2, 0.2), 0.3), (0, 1.1)]), stem, 0.08),
        leaf(0, 0.85, 0.6, rng.uniform(-60, -20), stem),
        leaf(0, 0.95, 0.6, rng.uniform(-160, -120), stem),
    ]
    for k in range(count):
        colour = shade(petals, 1 - 0.1 * (k % 2))
        parts.append(leaf(0, -0.35, length, 360 * k / count, colour, wide))
    return [
        *parts,
        fill(disc(0, -0.35, size), core),
        fill(disc(0, -0.35, size * 0.5), shade(core, 0.8)),
    ]


def daisy(rng):
    return _flower(rng, vary(rng, WHITE, 10), vary(rng, (246, 200, 50), 10),
                   int(rng.integers(12, 20)), 0.65, 0.16, 0.2)  # fmt: skip


def sunflower(rng):
    return _flower(rng, vary(rng, (250, 196, 40), 12), vary(rng, (86, 56, 34), 10),
                   int(rng.integers(14, 22)), 0.72, 0.2, 0.36)  # fmt: skip


def tulip(rng):
    bloom, stem = paint(rng, WHITE), vary(rng, GREEN)
    cup = [(-0.42, -0.9), (-0.2, -0.62), (0, -1), (0.2, -0.62), (0.42, -0.9)]
    cup = np.concatenate(
        [cup, smooth([(0.42, -0.9), (0.5, -0.2), (0, 0), (-0.5, -0.2), (-0.42, -0.9)])]
    )
    return [
        line([(0, -0.1), (0, 1.05)], stem, 0.1),
        leaf(0, 1, 1.1, rng.uniform(-80, -60), stem, 0.16),
        leaf(0, 1, 1, rng.uniform(-120, -100), shade(stem, 0.85), 0.16),
        fill(cup, bloom),
        fill(turned((0, -1), (0.26, -0.5), (0.2, -0.1), (0, 0)), shade(bloom, 0.85)),
    ]


def oak(rng):
    crown, trunk = (
        vary(rng, pick(rng, [(64, 110, 44), (84, 128, 52), (46, 90, 44)])),
        vary(rng, BARK),
    )
    parts = [fill([(-0.1, 0), (0.1, 0), (0.16, 1), (-0.16, 1)], trunk)]
    for k in range(7):
        at = polar(0.45, 51.4 * k) * (1, 0.7) + (0, -0.35)
        lump = blob(rng, 0.15) * rng.uniform(0.34, 0.46) + at
        parts.append(fill(lump, shade(crown, 1.12 - 0.3 * (at[1] + 0.7))))
    return [*parts, fill(blob(rng, 0.15) * 0.45 + (0, -0.4), crown)]


def pine(rng):
    needles, wide = vary(rng, (40, 86, 60)), rng.uniform(0.45, 0.65)
    tiers = [
        fill([(-wide * f, y), (0, y - 0.75), (wide * f, y)], shade(needles, s))
        for f, y, s in ((1, 0.72, 0.85), (0.8, 0.3, 1), (0.58, -0.12, 1.15), (0.36, -0.45, 1.3))
    ]
    return [fill(rect(-0.08, 0.6, 0.08, 1.05), vary(rng, BARK)), *tiers]


def palm(rng):
    lean = rng.uniform(-0.35, 0.35)
    frond = vary(rng, (74, 130, 56))
    trunk = smooth([(0, 1.05), (lean * 0.3, 0.4), (lean, -0.4)])
    parts = [line(trunk, vary(rng, (140, 110, 76)), 0.13)]
    for k, a in enumerate(np.linspace(150, 390, 8)):
        tip = polar(0.85, a) + (0, 0.25)
        spine = smooth([(0, 0), polar(0.5, a) + (0, -0.18), tip]) + (lean, -0.4)
        parts.append(line(spine, shade(frond, 0.8 + 0.08 * k), 0.12))
        parts.append(line(spine[len(spine) // 3 :], shade(frond, 0.8 + 0.08 * k), 0.18))
    return [*parts, *(fill(disc(lean + x, -0.32, 0.09), (96, 66, 40)) for x in (-0.09, 0.09))]


def potted_plant(rng):
    pot, green = vary(rng, pick(rng, [(190, 100, 64), WHITE, BLACK, *VIVID])), vary(rng, GREEN)
    leaves = [
        leaf(0, 0.3, rng.uniform(0.8, 1.25), a, shade(green, rng.uniform(0.75, 1.3)), 0.16)
        for a in rng.permutation(np.linspace(-165, -15, 9))
    ]
    return [
        *leaves,
        fill([(-0.42, 0.2), (0.42, 0.2), (0.3, 0.95), (-0.3, 0.95)], pot),
        fill(rect(-0.48, 0.14, 0.48, 0.32), shade(pot, 0.85)),
    ]


def person(rng):
    skin = vary(rng, pick(rng, [(236, 196, 164), (200, 150, 110), (130, 88, 60), (84, 56, 42)]), 8)
    shirt, trousers = paint(rng, WHITE), vary(rng, pick(rng, [(50, 60, 90), (60, 56, 52), BLACK]))
    hair = vary(rng, pick(rng, [BLACK, (96, 60, 36), (200, 160, 90), (150, 150, 150)]), 8)
    step, swing = rng.uniform(0.02, 0.28), rng.uniform(0.05, 0.4)
    return [
        *(line([(0, 0.2), (s * step, 0.95)], trousers, 0.17) for s in (-1, 1)),
        *(line([(s * step, 0.97), (s * step - 0.1, 0.98)], BLACK, 0.1) for s in (-1, 1)),
        *(line([(s * 0.16, -0.42), (s * (0.16 + swing), 0.12)], shade(shirt, 0.8), 0.12)
          for s in (-1, 1)),
        *(fill(disc(s * (0.17 + swing), 0.16, 0.07), skin) for s in (-1, 1)),
        fill(rect(-0.2, -0.5, 0.2, 0.28, 0.08), shirt),
        fill(disc(0, -0.72, 0.17, 0.2), skin),
        fill(arc(0, -0.74, 0.19, 0.2, 170, 370), hair),
    ]  # fmt: skip
