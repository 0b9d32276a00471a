"""Rendering for the miniature datasets: shapes, textures, light, and outlines of rendered masks.

Images are RGB. Coordinates are continuous: pixel ``i`` covers ``[i, i + 1)``, as in COCO and
pycocotools. Figures are rendered at `SS` times the final size and shrunk, for smooth edges. All
randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SS = 2  # supersampling

Colour = tuple[int, ...]

WHITE, BLACK = (245, 245, 245), (22, 22, 24)
VIVID: tuple[Colour, ...] = (
    (214, 40, 40),
    (245, 130, 30),
    (250, 205, 40),
    (60, 170, 75),
    (30, 160, 190),
    (45, 85, 200),
    (130, 60, 170),
    (235, 90, 160),
)


# Colours


def vary(rng: np.random.Generator, colour: Sequence[float], spread: float = 18) -> Colour:
    """Shift each channel of a colour at random by up to `spread` of 255."""
    return tuple(int(c) for c in np.clip(colour + rng.uniform(-spread, spread, 3), 0, 255))


def shade(colour: Sequence[float], factor: float) -> Colour:
    """Make a colour darker (`factor` < 1) or lighter (> 1)."""
    return tuple(int(c) for c in np.clip(np.multiply(colour, factor), 0, 255))


def pick(rng: np.random.Generator, choices: Sequence, count: int | None = None):
    """Pick one of the choices, or a list of `count` different ones."""
    if count is None:
        return choices[int(rng.integers(len(choices)))]
    return [choices[i] for i in rng.permutation(len(choices))[:count]]


# Shapes: arrays of (x, y) in the figure's own units, y pointing down


@dataclass(frozen=True)
class Part:
    """A filled polygon, or, with a `width` in the figure's units, an open line through `points`."""

    points: np.ndarray
    colour: Colour
    width: float = 0.0


def fill(points, colour: Colour) -> Part:
    return Part(np.asarray(points, float), colour)


def line(points, colour: Colour, width: float) -> Part:
    return Part(np.asarray(points, float), colour, width)


def arc(cx: float, cy: float, rx: float, ry: float, start: float, stop: float, n: int = 24):
    """Return points along an ellipse, from `start` to `stop` degrees (0 is right, 90 is down)."""
    angle = np.radians(np.linspace(start, stop, n))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1)


def polar(radius: float, degrees: float) -> np.ndarray:
    """Return the point at this distance and angle from the origin."""
    return radius * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def disc(cx: float = 0, cy: float = 0, rx: float = 1, ry: float | None = None, n: int = 40):
    return arc(cx, cy, rx, rx if ry is None else ry, 0, 360, n + 1)[:-1]


def regular(sides: int, radius: float = 1, turn: float = 0, cx: float = 0, cy: float = 0):
    """Return a regular polygon; its first corner is `turn` degrees from the right."""
    return arc(cx, cy, radius, radius, turn, turn + 360, sides + 1)[:-1]


def rect(x0: float, y0: float, x1: float, y1: float, corner: float = 0):
    """Return an upright rectangle; its corners are rounded with radius `corner`."""
    if not corner:
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)
    xa, xb, ya, yb = x0 + corner, x1 - corner, y0 + corner, y1 - corner
    quarters = ((xb, ya, -90), (xb, yb, 0), (xa, yb, 90), (xa, ya, 180))
    return np.concatenate([arc(x, y, corner, corner, a, a + 90, 6) for x, y, a in quarters])


def blob(rng: np.random.Generator, roughness: float = 0.25, n: int = 36):
    """Return a closed lumpy outline around the origin, radius about 1."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = np.ones(n)
    for k in (2, 3, 5):
        radius += roughness / k * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return np.stack([np.cos(angle), np.sin(angle)], 1) * np.clip(radius, 0.3, 1.8)[:, None]


def placement(
    parts: Sequence[Part], centre, size: float, turn: float, stretch=(1.0, 1.0), shear: float = 0.0
) -> np.ndarray:
    """Return the 2x3 matrix that places a figure on the canvas.

    Args:
        parts: Parts of the figure.
        centre: Centre of its bounding box on the canvas, pixels.
        size: Longer side of that bounding box on the canvas, pixels.
        turn: Rotation in degrees, clockwise.
        stretch: Scales of x and y before the rotation; a negative scale mirrors the figure.
        shear: Sideways lean before the rotation, x per y.
    """
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    linear = np.array([(c, -s), (s, c)]) @ np.array([(1, shear), (0, 1)]) @ np.diag(stretch)
    points = np.concatenate([p.points for p in parts]) @ linear.T
    low, high = points.min(0), points.max(0)
    zoom = size / (high - low).max()
    return np.column_stack([linear * zoom, np.asarray(centre) - zoom * (low + high) / 2])


def _draw(image: np.ndarray, points: np.ndarray, colour, thickness: int) -> None:
    # cv2 measures from pixel centres, here with 4 fractional bits
    fixed = [np.round((points - 0.5) * 16).astype(np.int32)]
    if thickness:
        cv2.polylines(image, fixed, False, colour, thickness, cv2.LINE_AA, 4)
    else:
        cv2.fillPoly(image, fixed, colour, cv2.LINE_AA, 4)


class Stamp:
    """Figure placed on the canvas: its mask, and how to paint it.

    Attributes:
        alpha: Coverage of the whole figure, uint8, including parts outside the canvas.
        full_area: Area of the whole figure in canvas pixels, including parts outside it.
    """

    def __init__(self, parts: Sequence[Part], matrix: np.ndarray):
        zoom = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
        self.strokes = [
            (
                p.points @ matrix[:, :2].T + matrix[:, 2],
                p.colour,
                max(1, round(p.width * zoom)) if p.width else 0,
            )
            for p in parts
        ]
        low = np.min([p.min(0) - t for p, _, t in self.strokes], 0)
        high = np.max([p.max(0) + t for p, _, t in self.strokes], 0)
        self.reach = max(2, int((high - low).min()) // 12)  # padding for the shadow
        low, high = (np.floor(low) - self.reach).astype(int), (high + self.reach + 1).astype(int)
        self.x, self.y = (int(v) for v in low)
        self.alpha = np.zeros((high - low)[::-1], np.uint8)
        for points, _, thickness in self.strokes:
            _draw(self.alpha, points - low, 255, thickness)
        self.full_area = int(np.count_nonzero(self.alpha >= 128))

    def window(self, shape, dx: int = 0, dy: int = 0):
        """Return the slices of a canvas of this shape, and of `alpha`, where the two overlap."""
        (h, w), x, y = self.alpha.shape, self.x + dx, self.y + dy
        x0, y0 = (int(np.clip(v, 0, n)) for v, n in ((x, shape[1]), (y, shape[0])))
        x1, y1 = (int(np.clip(v, 0, n)) for v, n in ((x + w, shape[1]), (y + h, shape[0])))
        return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))

    def mask(self, shape) -> np.ndarray:
        """Return the mask of the canvas pixels that the figure covers, bool."""
        mask = np.zeros(shape[:2], bool)
        there, here = self.window(shape)
        mask[there] = self.alpha[here] >= 128
        return mask

    def paint(self, canvas: np.ndarray, light: np.ndarray, depth: float, shadow: float) -> None:
        """Paint onto an RGB uint8 canvas.

        Args:
            canvas: Changed in place.
            light: (x, y), the unit vector along which the light falls.
            depth: How much brighter the lit side is, 0 to 1.
            shadow: Darkness of the shadow that the figure casts, 0 to 1.
        """
        if shadow:
            reach = self.reach
            dx, dy = (round(float(v) * reach) for v in light)
            there, here = self.window(canvas.shape, dx, dy)
            if canvas[there].size:
                soft = cv2.blur(self.alpha, (2 * reach + 1, 2 * reach + 1))[here]
                dark = 1 - soft[..., None] * np.float32(shadow / 255)
                canvas[there] = (canvas[there] * dark).astype(np.uint8)
        for points, colour, thickness in self.strokes:
            _draw(canvas, points, colour, thickness)
        there, here = self.window(canvas.shape)
        if depth and canvas[there].size:
            h, w = self.alpha.shape
            x = np.linspace(-1, 1, w, dtype=np.float32) * np.float32(light[0])
            y = np.linspace(-1, 1, h, dtype=np.float32) * np.float32(light[1])
            gain = -np.float32(depth) * (x[None] + y[:, None]) * (self.alpha / np.float32(255))
            lit = canvas[there] * (1 + gain[here][..., None])
            canvas[there] = np.clip(lit, 0, 255).astype(np.uint8)


def outline(mask: np.ndarray, scale: int = SS, min_area: float = 4.0) -> list[np.ndarray]:
    """Return polygons without holes that together cover a mask.

    COCO takes the union of an object's polygons, so a polygon inside another cannot mark a hole.
    A shape with a hole is therefore cut in two through the hole, as often as needed.

    Args:
        mask: Bool, `scale` times the size of the image.
        scale: Mask pixels per image pixel.
        min_area: Pieces and holes smaller than this are left out, in image pixels.

    Returns:
        Arrays of (x, y) in image pixels, within a quarter of a pixel of the mask's border.
    """
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(xs):
        return []
    x0, y0 = int(xs[0]), int(ys[0])
    cut = mask[y0 : ys[-1] + 1, x0 : xs[-1] + 1]
    # Double the resolution and pad by one: the contour then runs along pixel edges. On the mask
    # itself, findContours would follow the centres of the outermost pixels.
    nodes = np.zeros((2 * cut.shape[0] + 1, 2 * cut.shape[1] + 1), np.uint8)
    nodes[1::2, 1::2] = cut
    nodes = cv2.dilate(nodes, np.ones((3, 3), np.uint8))
    contours, tree = cv2.findContours(nodes, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    enough = min_area * (2 * scale) ** 2
    outer = []
    for contour, (_, _, _, parent) in zip(contours, tree.reshape(-1, 4), strict=True):
        if cv2.contourArea(contour) < enough:
            continue
        if parent >= 0:
            middle = x0 + contour[:, 0, 0].mean() / 2
            column = round(middle / scale) * scale
            left, right = mask.copy(), mask.copy()
            left[:, column:], right[:, :column] = False, False
            return outline(left, scale, min_area) + outline(right, scale, min_area)
        contour = cv2.approxPolyDP(contour, 1.0, True)[:, 0]
        if len(contour) >= 3:
            outer.append((contour / 2 + (x0, y0)) / scale)
    return outer


# Textures: float32, (height, width, 3), 0 to 255


def noise(rng: np.random.Generator, h: int, w: int, cell: float, stretch: float = 1) -> np.ndarray:
    """Return smooth noise, about -1 to 1, with grain `cell` pixels (times `stretch` along x)."""
    grid = rng.uniform(-1, 1, (int(h / cell) + 3, int(w / cell / stretch) + 3)).astype(np.float32)
    return cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)


def clouds(rng: np.random.Generator, h: int, w: int, cell: float, stretch: float = 1):
    """Return noise with four grain sizes, `cell` the coarsest."""
    layers = (noise(rng, h, w, max(cell / 2**k, 1), stretch) / 2**k for k in range(4))
    return sum(layers) / 1.5


def tone(rng, colours, field: np.ndarray, spread: float = 15) -> np.ndarray:
    """Pick one of the colours and make it brighter and darker with the field (0 to 255)."""
    base = np.array(vary(rng, pick(rng, colours), spread), np.float32)
    return base * (1 + field[..., None] / 255)


def grass(rng, h, w):
    image = tone(rng, [(84, 128, 52), (110, 140, 60), (70, 105, 50)], 30 * clouds(rng, h, w, 60))
    base = image.mean((0, 1))
    for factor in rng.uniform(0.65, 1.4, 6):
        n = h * w // 500
        root = rng.uniform((0, 0), (w, h), (n, 2))
        tip = root + np.stack([rng.normal(0, 2.5, n), -rng.uniform(3, 9, n)], 1)
        blades = np.stack([root, tip], 1).astype(np.int32)
        cv2.polylines(image, list(blades), False, (base * factor).tolist(), 1)
    return image


def bricks(rng, h, w):
    bh = int(rng.integers(10, 24))
    bw, joint = int(bh * rng.uniform(1.8, 2.6)), int(rng.integers(1, 4))
    bond = rng.integers(2) * bw // 2  # 0: tiles in straight columns
    y, x = np.indices((h, w)) + rng.integers(0, bh, (2, 1, 1))
    row = y // bh
    x = x + row % 2 * bond
    colours = [(150, 74, 58), (168, 96, 70), (176, 168, 152), (120, 120, 128), (206, 196, 176)]
    tint = rng.uniform(-28, 28, (row.max() + 1, (x // bw).max() + 1))[row, x // bw]
    image = tone(rng, colours, tint + 14 * noise(rng, h, w, 2))
    image[(y % bh < joint) | (x % bw < joint)] = vary(rng, (190, 184, 172))
    return image


def sky(rng, h, w):
    top = np.array(vary(rng, pick(rng, [(70, 130, 205), (110, 165, 225), (150, 165, 185)])))
    low = np.array(vary(rng, pick(rng, [(190, 215, 235), (235, 210, 180), (205, 205, 210)])))
    fall = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    cover = np.clip(clouds(rng, h, w, max(h, w) / 3, 2) + rng.uniform(-0.5, 0.3), 0, 0.6)[..., None]
    image = top * (1 - fall) + low * fall
    return (image * (1 - cover) + 245 * cover).astype(np.float32)


def sand(rng, h, w):
    waves = np.sin(np.arange(h)[:, None] / rng.uniform(2, 5) + 4 * clouds(rng, h, w, 50))
    field = 8 * waves + 16 * clouds(rng, h, w, 80) + 14 * noise(rng, h, w, 1)
    return tone(rng, [(214, 190, 146), (196, 176, 140), (224, 206, 170)], field)


def wood(rng, h, w):
    plank = int(rng.integers(18, 60))
    y = np.indices((h, w))[0]
    row = y // plank
    field = rng.uniform(-35, 35, row.max() + 1)[row] + 14 * noise(rng, h, w, 2, 14)
    field += 14 * np.sin(y / rng.uniform(1.2, 3) + 5 * noise(rng, h, w, 20, 5))
    field[y % plank < 2] = -120
    field = field.astype(np.float32)
    return tone(rng, [(160, 112, 70), (190, 148, 100), (120, 84, 58), (176, 164, 148)], field)


def asphalt(rng, h, w):
    field = 30 * noise(rng, h, w, 1) + 18 * clouds(rng, h, w, 60)
    return tone(rng, [(92, 92, 96), (120, 118, 116), (70, 72, 76)], field)


def water(rng, h, w):
    field = 34 * clouds(rng, h, w, 14, 4) + 20 * clouds(rng, h, w, 70)
    return tone(rng, [(58, 112, 140), (46, 92, 130), (84, 140, 150)], field)


def plaster(rng, h, w):
    colours = [(214, 206, 190), (170, 186, 196), (196, 160, 140), (150, 170, 140), (226, 220, 214)]
    return tone(rng, colours, 16 * clouds(rng, h, w, 90) + 6 * noise(rng, h, w, 1))


def cloth(rng, h, w):
    y, x = np.indices((h, w))
    a, b = rng.uniform(8, 40, 2)
    field = 22 * np.sign(np.sin(x / a * np.pi)) + 22 * np.sign(np.sin(y / b * np.pi))
    field = (field + 10 * noise(rng, h, w, 1)).astype(np.float32)
    return tone(rng, [(150, 60, 60), (70, 90, 140), (190, 180, 160), (90, 120, 100)], field, 30)


def view(rng, h, w):
    """Render sky over some ground, sometimes with hills between them."""
    image = sky(rng, h, w)
    level = int(h * rng.uniform(0.25, 0.7))
    if rng.random() < 0.5:
        ridge = level - h * 0.12 * (1 + noise(rng, 1, w, w / 5)[0])
        hill = np.stack([np.arange(w), np.minimum(ridge, level)], 1)
        hill = np.concatenate([hill, [(w, level), (0, level)]]).astype(np.int32)
        cv2.fillPoly(image, [hill], vary(rng, (104, 124, 118), 25))
    image[level:] = pick(rng, (grass, sand, water, asphalt))(rng, h - level, w)
    return image


TEXTURES: tuple[Callable, ...] = (
    *(grass, bricks, sky, sand, wood, asphalt, water, plaster, cloth),
    *(view, view, view),  # three times as likely as each of the others
)


def background(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """Render one of the textures, uint8."""
    return np.clip(pick(rng, TEXTURES)(rng, h, w), 0, 255).astype(np.uint8)


def photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add effects of light and camera: exposure, colour cast, gradient, shadow, blur, noise."""
    h, w = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-1, 1, h)[:, None], np.linspace(-1, 1, w)[None]
    along = np.cos(angle) * x + np.sin(angle) * y
    gain = rng.uniform(0.72, 1.15) * (1 + rng.uniform(0, 0.28) * along)
    if rng.random() < 0.3:  # the soft edge of a shadow from outside the image
        edge = np.sin(angle + 2) * x + np.cos(angle + 2) * y + rng.uniform(-0.6, 0.6)
        gain *= 1 - rng.uniform(0.2, 0.45) / (1 + np.exp(-edge / rng.uniform(0.01, 0.1)))
    cast = rng.uniform(0.93, 1.07, 3)
    out = image * (gain[..., None] * cast).astype(np.float32)
    if rng.random() < 0.25:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 0.9))
    out += rng.standard_normal(out.shape, np.float32) * np.float32(rng.uniform(1, 7))
    return np.clip(out, 0, 255).astype(np.uint8)
