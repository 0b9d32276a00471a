"""Four synthetic dense-labelling tasks that need long-range context."""

import numpy as np
from mmengine.dataset import BaseDataset

from mmsb.registry import DATASETS
from mmsb.utils.errors import UserError

TASKS = ('any', 'row', 'anywhere', 'order')
CELL = 8  # pixels; a cell holds one object or key
CELLS = 8  # per side
IMAGE_SIZE = CELL * CELLS
NUM_OBJECTS = 12
CLASSES = ('red', 'green', 'blue')  # colours of objects and keys, and labels of objects
PALETTE = ((214, 64, 52), (60, 168, 76), (56, 96, 208))
IGNORED = 255  # the label of background and keys
CHANCE = 100 / 3  # best accuracy in percent without knowing the keys
# best expected accuracy in percent with the keys known but not their places: guess the most
# frequent of the one, four or three keys; on 'order' of those that are not at the top or bottom
# edge, which zero padding marks: with 0, 1 and 2 there, which are 4, 12 and 4 of 20 images
ORDER_POOLED = 100 * 17 / 27, 100 * 7 / 9, 100
POOLED = {
    'any': 100,
    'row': 100 * 48 / 81,
    'anywhere': 100 * 48 / 81,
    'order': float(np.average(ORDER_POOLED, weights=(4, 12, 4))),
}


@DATASETS.register_module()
class LongRange(BaseDataset):
    """Objects whose class depends on the colour of a striped key far away.

    Objects are discs and squares in three colours, numbered 0, 1, 2; a key is a striped square in
    one of these colours. An object's label is (own colour + colour of its key) mod 3:

    - task 'any': one key in a random corner is the key of every object. Any global context solves
      it, even one pooled vector.
    - task 'row': four keys are at the left edge, one per quarter of the rows; an object's key is
      the one in its rows. Knowing which keys there are is not enough: *where* matters.
    - task 'anywhere': as 'row', but each key is in a random column.
    - task 'order': three keys at random places, one above the other. The topmost is the key of the
      red objects, the next that of the green ones, the lowest that of the blue ones. Where to look
      depends on the object's colour and on the other keys. A key at the image's top or bottom edge
      is the first or the last, which a network can tell from zero padding alone.

    Objects and keys are at least 8 pixels apart, so a network whose receptive field has a radius
    below 8 cannot do better than chance, one in three. Background and keys have the label 255,
    which is ignored. Each image is rendered on access, from the seed and its index.

    The pipeline receives ``img`` (uint8, RGB, (64, 64, 3)), ``gt_seg_map`` (uint8, (64, 64)),
    ``key_distance`` (float32, (64, 64)): on objects the distance in pixels from the object's
    centre to the centre of its key, elsewhere 0, and ``keys_at_edge``, the number of keys at the
    image's top or bottom edge.

    Args:
        task (str): 'any', 'row', 'anywhere' or 'order'.
        num_images (int): Number of images.
        seed (int): Seed for the images; use different ones for training and test. Defaults to 0.
        **kwargs: Arguments of mmengine's ``BaseDataset``: ``pipeline``, ``test_mode``, ...

    Raises:
        UserError: The task is unknown, or ``num_images`` is below 1.

    Example:
        >>> from mmsb.studies.longrange.dataset import LongRange
        >>> LongRange('row', num_images=2)[0]['img'].shape
        (64, 64, 3)
    """

    METAINFO = dict(classes=CLASSES, palette=PALETTE)

    def __init__(self, task: str, num_images: int, seed: int = 0, **kwargs):
        if task not in TASKS:
            raise UserError(f'there is no long-range task {task!r}: give one of {", ".join(TASKS)}')
        if num_images < 1:
            raise UserError(f'num_images is {num_images}: give 1 or more')
        self.task = task
        self.num_images = num_images
        self.seed = seed
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        return [dict(img_id=index) for index in range(self.num_images)]

    def prepare_data(self, idx: int) -> dict:
        """Render an image and run the pipeline on it."""
        results = self.get_data_info(idx)
        rng = np.random.default_rng([self.seed, TASKS.index(self.task), results['img_id']])
        image, labels, distance, at_edge = draw_scene(self.task, rng)
        shape = image.shape[:2]
        return self.pipeline(
            dict(
                results,
                img=image,
                img_shape=shape,
                ori_shape=shape,
                gt_seg_map=labels,
                seg_fields=['gt_seg_map'],
                key_distance=distance,
                keys_at_edge=at_edge,
            )
        )


def draw_scene(
    task: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Render one image of a task.

    Args:
        task: 'any', 'row', 'anywhere' or 'order'.
        rng: The random number generator.

    Returns:
        The image, the labels, the distances to the key and the number of keys at the top or bottom
        edge; see :class:`LongRange`.
    """
    image = np.repeat(rng.integers(96, 160, (IMAGE_SIZE, IMAGE_SIZE, 1), np.uint8), 3, axis=2)
    labels = np.full(image.shape[:2], IGNORED, np.uint8)
    distance = np.zeros(image.shape[:2], np.float32)
    keys = _keys(task, rng)
    for y, x, colour in keys:
        stripes = image[y : y + CELL, x : x + CELL]
        stripes[:] = 255
        stripes[:, ::2] = PALETTE[colour]
    free = _free_cells(task, keys)
    for row, column in free[rng.choice(len(free), NUM_OBJECTS, replace=False)]:
        size = rng.integers(5, CELL)
        y, x = np.array([row, column]) * CELL + rng.integers(0, CELL - size + 1, 2)
        colour = rng.integers(3)
        where = np.zeros(labels.shape, bool)
        where[y : y + size, x : x + size] = _disc(size) if rng.integers(2) else True
        image[where] = PALETTE[colour]
        key_y, key_x, key_colour = keys[colour if task == 'order' else row * len(keys) // CELLS]
        labels[where] = (colour + key_colour) % 3
        to_key = key_y + CELL / 2 - (y + size / 2), key_x + CELL / 2 - (x + size / 2)
        distance[where] = np.hypot(*to_key)
    return image, labels, distance, sum(y in (0, IMAGE_SIZE - CELL) for y, _, _ in keys)


def _keys(task: str, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return top, left and colour of each key, from top to bottom.

    On 'order' the n-th belongs to the objects of colour n, else each to an equal share of the rows.
    """
    if task == 'any':
        y, x = (IMAGE_SIZE - CELL) * rng.integers(0, 2, 2)
        return [(y, x, rng.integers(3))]
    if task == 'order':
        rows = np.sort(rng.choice(CELLS - 2, 3, replace=False)) + np.arange(3)  # none adjacent
        return [(CELL * row, CELL * rng.integers(CELLS), rng.integers(3)) for row in rows]
    tops = range(CELL // 2, IMAGE_SIZE, IMAGE_SIZE // 4)
    if task == 'anywhere':
        return [(top, CELL * rng.integers(CELLS), rng.integers(3)) for top in tops]
    return [(top, 0, rng.integers(3)) for top in tops]


def _free_cells(task: str, keys: list[tuple[int, int, int]]) -> np.ndarray:
    """Return rows and columns of the cells for objects: a cell or more away from any key."""
    free = np.ones((CELLS, CELLS), bool)
    if task == 'any':
        for rows in (slice(2), slice(-2, None)):
            for columns in (slice(2), slice(-2, None)):
                free[rows, columns] = False
    elif task == 'row':
        free[:, :2] = False
    else:
        cells = CELL * np.arange(CELLS)
        for top, left, _ in keys:
            near = [abs(cells - place) < 2 * CELL for place in (top, left)]
            free &= ~np.logical_and.outer(*near)
    return np.argwhere(free)


def _disc(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(y, x) <= size / 2
