"""Rotated boxes and quadrilaterals, against areas known by hand, and counted on a grid."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.test_ops.conftest import random_tensor

PI = math.pi


@pytest.mark.parametrize(
    ('box', 'other', 'common'),
    [
        ([5, 5, 4, 2, 0], [5, 5, 4, 2, 0], 8),
        ([5, 5, 4, 2, 0.7], [5, 5, 4, 2, 0.7], 8),
        ([5, 5, 4, 2, 0], [5, 5, 2, 4, PI / 2], 8),  # the same box
        ([5, 5, 4, 2, 0.3], [5, 5, 2, 4, 0.3 + PI / 2], 8),
        ([5, 5, 4, 2, 0], [5, 5, 4, 2, PI / 2], 4),  # a cross
        ([5, 5, 2, 2, 0], [5, 5, 2, 2, PI / 4], 8 * (math.sqrt(2) - 1)),  # an octagon
        ([5, 5, 2, 2, 0], [6, 5, 2, 2, 0], 2),
        ([5, 5, 8, 8, 0.2], [5, 5, 2, 1, 1.4], 2),  # one in the other
        ([5, 5, 2, 2, 0], [7, 5, 2, 2, 0], 0),  # touching
        ([5, 5, 2, 2, 0], [50, 5, 2, 2, 1], 0),
        ([5, 5, 0, 2, 0], [5, 5, 2, 2, 1], 0),
    ],
)
def test_intersection(ops, device, box, other, common):
    areas = [sides[2] * sides[3] for sides in (box, other)]
    boxes = [torch.tensor([sides], device=device, dtype=torch.float32) for sides in (box, other)]
    for mode, base in (('iou', sum(areas) - common), ('iof', areas[0])):
        expected = torch.tensor([[common / base if common else 0.0]], device=device)
        assert_close(ops.box_iou_rotated(*boxes, mode), expected)
        assert_close(ops.box_iou_rotated(*boxes, mode, aligned=True), expected[0])


def counted_iou(a, b, cells=500, size=20.0):
    """IoU of two rotated boxes by counting points of a grid."""
    axis = (torch.arange(cells) + 0.5) * size / cells
    y, x = torch.meshgrid(axis, axis, indexing='ij')
    masks = []
    for cx, cy, width, height, angle in (a, b):
        along = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
        across = -(x - cx) * math.sin(angle) + (y - cy) * math.cos(angle)
        masks.append((along.abs() <= width / 2) & (across.abs() <= height / 2))
    return ((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()).item()


def random_rotated_boxes(count, seed):
    boxes = random_tensor(count, 5, seed=seed)
    boxes[:, :2] = boxes[:, :2] * 1.5 + 10
    boxes[:, 2:4] = boxes[:, 2:4].abs() + 2
    return boxes


def corners(boxes):
    """Quadrilaterals (N, 8) of rotated boxes (N, 5)."""
    x, y, width, height, angle = boxes.unbind(1)
    points = []
    for right, down in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        along, across = right * width / 2, down * height / 2
        points += [x + along * angle.cos() - across * angle.sin()]
        points += [y + along * angle.sin() + across * angle.cos()]
    return torch.stack(points, dim=1)


@pytest.fixture(scope='module')
def pairs():
    a, b = random_rotated_boxes(5, 1), random_rotated_boxes(4, 2)
    return a, b, torch.tensor([[counted_iou(p, q) for q in b.tolist()] for p in a.tolist()])


def test_box_iou(ops, device, pairs):
    a, b, expected = (t.to(device) for t in pairs)
    assert 0.1 < expected.max() < 0.9 and expected.min() < 0.3
    close = dict(rtol=0, atol=5e-3)
    assert_close(ops.box_iou_rotated(a, b), expected, **close)
    assert_close(ops.box_iou_rotated(a[:4], b, aligned=True), expected.diagonal(), **close)
    mirror = torch.tensor([1, 1, 1, 1, -1], device=device)
    assert_close(ops.box_iou_rotated(a * mirror, b * mirror, clockwise=False), expected, **close)
    assert_close(ops.box_iou_quadri(corners(a), corners(b)), expected, **close)
    assert ops.box_iou_rotated(a[:0], b).shape == (0, 4)


def test_skew_quadrilaterals(ops, device):
    """mmcv's quadrilaterals: exact where no corner of one is near the sides of the other."""
    kite = torch.tensor([[0.0, 2, 2, 0, 4, 2, 2, 6]], device=device)
    square = torch.tensor([[-1.0, 1, 5, 1, 5, 9, -1, 9]], device=device)  # cuts the kite's top off
    assert_close(ops.box_iou_quadri(kite, square, 'iof'), torch.tensor([[11 / 12]], device=device))


@pytest.mark.parametrize('kind', ['rotated', 'quadri'])
def test_nms(ops, device, kind):
    boxes = torch.cat([random_rotated_boxes(20, seed) for seed in (1, 2)]).to(device)
    scores = torch.rand(40, generator=torch.Generator().manual_seed(0)).to(device)
    ious = ops.box_iou_rotated(boxes, boxes).tolist()
    expected = []
    for i in scores.argsort(descending=True).tolist():
        if all(ious[i][j] < 0.3 for j in expected):
            expected.append(i)
    assert 3 < len(expected) < 30
    given = boxes if kind == 'rotated' else corners(boxes)
    nms = getattr(ops, f'nms_{kind}')
    dets, keep = nms(given, scores, 0.3)
    assert keep.tolist() == expected
    assert torch.equal(dets, torch.cat([given, scores[:, None]], dim=1)[keep])
    labels = torch.arange(40, device=device)  # mmcv's operators don't look at labels
    assert nms(given, scores, 0.3, labels)[1].tolist() == expected
