"""More to draw, for the data sets whose classes are not COCO's; as in `things`, a function each."""

from __future__ import annotations

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

GREEN, BARK, WOOD, STEEL = (70, 130, 50), (100, 76, 52), (150, 104, 62), (165, 168, 172)
GLASS, PANE = (176, 200, 206), (110, 150, 180)


def smooth(points, rounds: int = 3) -> np.ndarray:
    """The line with its corners cut, as often as `rounds` says; its ends stay."""
    points = np.asarray(points, float)
    for _ in range(rounds):
        here, after = points[:-1], points[1:]
        cut = np.stack([0.75 * here + 0.25 * after, 0.25 * here + 0.75 * after], 1)
        points = np.concatenate([points[:1], cut.reshape(-1, 2), points[-1:]])
    return points


def turned(*profile, rounds: int = 3) -> np.ndarray:
    """The outline of a body turned on a lathe, of (radius, y) from its top to its bottom."""
    right = smooth(profile, rounds)
    return np.concatenate([right, right[::-1] * (-1, 1)])


def rotated(points, degrees: float, x: float = 0, y: float = 0) -> np.ndarray:
    """The points turned around the origin and moved to (x, y)."""
    c, s = polar(1, degrees)
    return np.asarray(points, float) @ np.array([(c, s), (-s, c)]) + (x, y)


def leaf(x, y, length, degrees, colour, wide=0.35) -> Part:
    """A leaf that grows from (x, y)."""
    edge = smooth([(0, 0), (0.35, wide), (0.75, wide * 0.8), (1, 0)])
    shape = np.concatenate([edge, edge[::-1] * (1, -1)]) * length
    return fill(rotated(shape, degrees, x, y), colour)


def wheel(x, y, radius=0.2) -> list[Part]:
    return [fill(disc(x, y, radius), (34, 34, 36)), fill(disc(x, y, radius * 0.5), STEEL)]


def paint(rng, *others):
    """A colour of which most man-made things are."""
    return vary(rng, pick(rng, [*VIVID, *others]))


# Fruit, vegetables, food


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


# Vessels and the house


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


# Animals


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


# Vehicles


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


# Buildings


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


# Plants


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


# People


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
