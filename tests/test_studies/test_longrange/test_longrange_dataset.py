"""The long-range tasks: every label worked out again from the image's own pixels."""

import itertools

import numpy as np
import pytest

from mmsb.studies.longrange.dataset import (
    CLASSES,
    IGNORED,
    ORDER_POOLED,
    PALETTE,
    POOLED,
    TASKS,
    LongRange,
    draw_scene,
)
from tests.conftest import ROOT, assert_one_line

COLOURS = {colour: number for number, colour in enumerate(PALETTE)}


def scenes(task, number=60):
    return [draw_scene(task, np.random.default_rng([7, n])) for n in range(number)]


def keys_in(image):
    """Striped squares of an image: {(top, left): colour}; only they hold white."""
    white = (image == 255).all(-1)
    assert not white[:, ::2].any()  # every second column
    found = {}
    for top, left in itertools.product(range(0, 64, 4), range(0, 64, 8)):
        square = white[top : top + 8, left : left + 8]
        above = top > 0 and white[top - 1, left + 1]
        if square[:, 1::2].all() and not above:
            found[top, left] = COLOURS[tuple(image[top, left])]
    return found


def objects_in(labels):
    """Slices of the 8 x 8 cells that hold an object."""
    cells = [np.s_[y : y + 8, x : x + 8] for y in range(0, 64, 8) for x in range(0, 64, 8)]
    return [cell for cell in cells if (labels[cell] != IGNORED).any()]


def key_of(task, keys, colour, row):
    """Top and left of the key of an object."""
    if task == 'order':  # the first, second or third from the top
        return sorted(keys)[colour]
    (mine,) = [key for key in keys if task == 'any' or key[0] // 16 == row // 16]
    return mine


@pytest.mark.parametrize(
    ('task', 'num_keys'), [('any', 1), ('row', 4), ('anywhere', 4), ('order', 3)]
)
def test_labels_and_distances_follow_from_the_pixels(task, num_keys):
    places = set()
    for image, labels, distance, at_edge in scenes(task):
        keys = keys_in(image)
        assert len(keys) == num_keys
        assert at_edge == sum(top in (0, 56) for top, _ in keys)
        places |= set(keys)
        objects = objects_in(labels)
        assert len(objects) == 12
        for cell in objects:
            where = labels[cell] != IGNORED
            (label,) = np.unique(labels[cell][where])
            (colour,) = {COLOURS[tuple(pixel)] for pixel in image[cell][where]}
            rows, columns = np.nonzero(where)
            y = cell[0].start + (rows.min() + rows.max() + 1) / 2
            x = cell[1].start + (columns.min() + columns.max() + 1) / 2
            top, left = key_of(task, keys, colour, cell[0].start)
            assert label == (colour + keys[top, left]) % 3
            expected = ((y - top - 4) ** 2 + (x - left - 4) ** 2) ** 0.5
            assert distance[cell][where] == pytest.approx(expected)
        assert not distance[labels == IGNORED].any()
        assert 5 * 5 * 12 / 2 < (labels != IGNORED).sum() <= 7 * 7 * 12
    corners = {(0, 0), (0, 56), (56, 0), (56, 56)}
    columns = range(0, 64, 8)
    possible = {
        'any': corners,
        'row': {(4, 0), (20, 0), (36, 0), (52, 0)},
        'anywhere': set(itertools.product((4, 20, 36, 52), columns)),
        'order': set(itertools.product(columns, columns)),
    }[task]
    assert places <= possible and len(places) > len(possible) / 2
    for axis in (0, 1):  # every row, every column
        assert {place[axis] for place in places} == {place[axis] for place in possible}


@pytest.mark.parametrize('task', TASKS)
def test_no_key_is_within_eight_pixels_of_an_object(task):
    for image, labels, *_ in scenes(task):
        objects = np.argwhere(labels != IGNORED)
        for top, left in keys_in(image):
            below = np.maximum(top - objects[:, 0], objects[:, 0] - (top + 7))
            beside = np.maximum(left - objects[:, 1], objects[:, 1] - (left + 7))
            assert np.maximum(below, beside).min() > 8


@pytest.mark.parametrize('task', TASKS)
def test_own_colour_and_place_tell_nothing(task):
    """Given an object's colour, and its half of the image, each label is as frequent."""
    counts = np.zeros((2, 3, 3))
    for image, labels, *_ in scenes(task, 400):
        for cell in objects_in(labels):
            y, x = np.argwhere(labels[cell] != IGNORED)[0]
            colour = COLOURS[tuple(image[cell][y, x])]
            counts[cell[0].start // 32, colour, labels[cell][y, x]] += 1
    shares = counts / counts.sum(-1, keepdims=True)
    assert abs(shares - 1 / 3).max() < 0.1  # of 800 objects in 400 or 800 groups each


def expected(known, others):
    """Accuracy with some keys known, and of the others how many there are of each colour."""
    shares = [
        (known + max(keys.count(c) for c in range(3))) / (known + others)
        for keys in itertools.product(range(3), repeat=others)
    ]
    return pytest.approx(100 * np.mean(shares))


def test_what_the_multiset_of_keys_is_worth():
    """Knowing which keys there are, but not where: the most frequent is the best bet."""
    for task, number in dict(any=1, row=4, anywhere=4).items():
        assert expected(0, number) == POOLED[task]
    for at_edge, bound in enumerate(ORDER_POOLED):
        assert expected(at_edge, 3 - at_edge) == bound
    rows = [c for c in itertools.combinations(range(8), 3) if np.diff(c).min() > 1]
    bounds = [ORDER_POOLED[(first == 0) + (last == 7)] for first, _, last in rows]
    assert pytest.approx(np.mean(bounds)) == POOLED['order']
    counts = np.bincount([at_edge for *_, at_edge in scenes('order', 400)])
    assert abs(counts / 400 - (0.2, 0.6, 0.2)).max() < 0.08  # 3 standard deviations are 0.07


def test_an_image_depends_on_its_seed_and_index_only():
    first, again = LongRange('row', 8, seed=3), LongRange('row', 5, seed=3)
    _ = again[4]
    for index in (2, 0):
        for key in ('img', 'gt_seg_map', 'key_distance', 'keys_at_edge'):
            np.testing.assert_array_equal(first[index][key], again[index][key])
    others = [first[0], first[1], LongRange('row', 1, seed=4)[0], LongRange('any', 1, seed=3)[0]]
    assert len({sample['img'].tobytes() for sample in others}) == 4


def test_as_mmseg_takes_it():
    from mmengine.config import Config
    from mmengine.registry import DATASETS, DefaultScope

    pytest.importorskip('mmseg.datasets')
    cfg = Config.fromfile(ROOT / 'configs/longrange/fcn_r14_600_longrange-any.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert (len(dataset), dataset.task, dataset.metainfo['classes']) == (960, 'any', CLASSES)
    image, labels, distance, at_edge = draw_scene('any', np.random.default_rng([1, 0, 5]))
    packed = dataset[5]
    np.testing.assert_array_equal(packed['inputs'].permute(1, 2, 0), image)
    np.testing.assert_array_equal(packed['data_samples'].gt_sem_seg.data[0], labels)
    np.testing.assert_array_equal(packed['data_samples'].key_distance, distance)
    assert packed['data_samples'].keys_at_edge == at_edge == 1


def test_bad_arguments():
    assert_one_line(lambda: LongRange('rows', 4), "'rows': give one of any, row, anywhere, order")
    assert_one_line(lambda: LongRange('row', 0), 'num_images is 0: give 1 or more')
