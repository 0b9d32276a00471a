"""IoU and non-maximum suppression of rotated boxes and quadrilaterals.

Rotated boxes are (N, 5): centre x and y, width, height, angle in radians; quadrilaterals (N, 8):
x1, y1, ... x4, y4. Intersections are computed in float64, where mmcv computes in the boxes' type.
"""

import torch
from torch import Tensor

_PAIRS_AT_ONCE = 2**15  # of which each takes about 5 KiB


def _corners(boxes: Tensor) -> Tensor:
    """Corners (N, 4, 2) in float64."""
    boxes = boxes.double()
    if boxes.shape[1] == 8:
        return boxes.unflatten(1, (4, 2))
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    right = boxes[:, 2, None] / 2 * torch.stack([cos, sin], dim=1)
    down = boxes[:, 3, None] / 2 * torch.stack([-sin, cos], dim=1)
    corners = torch.stack([down - right, -down - right, right - down, right + down], dim=1)
    return boxes[:, None, :2] + corners


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _areas(corners: Tensor) -> Tensor:
    """Areas of (N, 4, 2), as mmcv computes them: of two triangles, both counted positive."""
    sides = corners[:, 1:] - corners[:, :1]
    return _cross(sides[:, :2], sides[:, 1:]).abs().sum(dim=1) / 2


def _contains(corners: Tensor, points: Tensor) -> Tensor:
    """Whether points (P, 4, 2) lie in the rectangles ``corners`` (P, 4, 2).

    mmcv decides quadrilaterals in the same way, by projecting on two sides, which is exact for
    rectangles.
    """
    inside = True
    for side in (corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]):
        along = ((points - corners[:, :1]) * side[:, None]).sum(dim=2)
        inside = inside & (along >= 0) & (along <= side.square().sum(dim=1, keepdim=True))
    return inside


def _intersections(a: Tensor, b: Tensor) -> Tensor:
    """Areas common to quadrilaterals ``a`` and ``b``, both (P, 4, 2).

    They are the areas of the convex hulls of all corners of one in the other and all crossings.
    """
    center = torch.cat([a, b], dim=1).mean(dim=1, keepdim=True)
    a, b = a - center, b - center
    side_a, side_b = (corners.roll(-1, dims=1) - corners for corners in (a, b))
    between = b[:, None] - a[:, :, None]  # (P, 4, 4, 2)
    slope = _cross(side_b[:, None], side_a[:, :, None])
    at_a = _cross(side_b[:, None], between) / slope
    at_b = _cross(side_a[:, :, None], between) / slope
    crossing = (slope.abs() > 1e-14) & (at_a >= 0) & (at_a <= 1) & (at_b >= 0) & (at_b <= 1)
    crossings = a[:, :, None] + side_a[:, :, None] * at_a[..., None]
    points = torch.cat([crossings.flatten(1, 2), a, b], dim=1)
    valid = torch.cat([crossing.flatten(1), _contains(b, a), _contains(a, b)], dim=1)
    points = points.masked_fill(~valid[..., None], 0)
    middle = points.sum(dim=1, keepdim=True) / valid.sum(dim=1).clamp(min=1)[:, None, None]
    points = points - middle
    # Around a point inside, corners that aren't convex aren't corners of the hull.
    angles = torch.atan2(points[..., 1], points[..., 0])
    while True:
        order = angles.masked_fill(~valid, torch.inf).argsort(dim=1, stable=True)
        points = points.gather(1, order[..., None].expand_as(points))
        angles, valid = angles.gather(1, order), valid.gather(1, order)
        hull = points.where(valid[..., None], points[:, :1])  # closed by its first point
        following = hull.roll(-1, dims=1)
        last = valid.sum(dim=1, keepdim=True).clamp(min=1) - 1
        last = hull.gather(1, last[..., None].expand(-1, -1, 2))
        before = torch.cat([last, hull[:, :-1]], dim=1)
        reflex = valid & (_cross(hull - before, following - hull) < -1e-12)
        if not reflex.any():
            return _cross(hull, following).sum(dim=1).abs() / 2
        valid = valid & ~reflex


def _ious(corners1: Tensor, corners2: Tensor, mode_flag: int) -> Tensor:
    """IoU (mode 0), or intersection over the first (mode 1), of (P, 4, 2) pair by pair."""
    ious = []
    for a, b in zip(corners1.split(_PAIRS_AT_ONCE), corners2.split(_PAIRS_AT_ONCE), strict=True):
        areas = _areas(a), _areas(b)
        common = _intersections(a, b)
        base = areas[0] if mode_flag == 1 else areas[0] + areas[1] - common
        empty = (areas[0] < 1e-14) | (areas[1] < 1e-14)
        ious.append((common / base).masked_fill(empty, 0))
    return torch.cat(ious)


def _bounds(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest coordinates (N, 2) of all that :func:`_contains` takes for inside."""
    sides = torch.stack([corners[:, 1], corners[:, 3]], dim=1) - corners[:, :1]  # (N, 2, 2)
    # The points whose projections are 0 or the side's length: a rectangle's own corners.
    flat = _cross(sides[:, 0], sides[:, 1]) == 0
    sides = sides.masked_fill(flat[:, None, None], torch.nan)
    lengths = sides.square().sum(dim=2)
    ends = lengths[:, None] * lengths.new_tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    dual = torch.stack([sides[:, 1].flip(1), sides[:, 0].flip(1)], dim=1)
    dual = dual * dual.new_tensor([[1, -1], [-1, 1]])
    dual = dual / _cross(sides[:, 0], sides[:, 1])[:, None, None]
    points = torch.cat([corners, corners[:, :1] + ends @ dual], dim=1)
    low, high = points.amin(dim=1), points.amax(dim=1)
    return low.nan_to_num(-torch.inf), high.nan_to_num(torch.inf)


def _all_ious(boxes1: Tensor, boxes2: Tensor, mode_flag: int) -> Tensor:
    """IoU of every pair, (N, M); only pairs that may touch are computed."""
    corners1, corners2 = _corners(boxes1), _corners(boxes2)
    (low1, high1), (low2, high2) = _bounds(corners1), _bounds(corners2)
    margin = 1e-6 * (high1 - low1)[:, None]  # bounds are rounded
    near = ((low1[:, None] <= high2 + margin) & (low2 <= high1[:, None] + margin)).all(dim=2)
    first, second = near.nonzero(as_tuple=True)
    ious = corners1.new_zeros(near.shape)
    if len(first):
        ious[first, second] = _ious(corners1[first], corners2[second], mode_flag)
    return ious


def _box_iou(bboxes1, bboxes2, ious, mode_flag, aligned) -> None:
    if not aligned:
        ious.copy_(_all_ious(bboxes1, bboxes2, mode_flag).flatten())
    elif len(bboxes1):
        ious.copy_(_ious(_corners(bboxes1), _corners(bboxes2), mode_flag))


def box_iou_rotated(bboxes1, bboxes2, ious, mode_flag, aligned) -> None:
    """IoU (mode 0) of rotated boxes, or intersection over ``bboxes1`` (mode 1).

    Args:
        bboxes1 (Tensor): (N, 5).
        bboxes2 (Tensor): (M, 5).
        ious (Tensor): Output, (N * M,), or (N,) if ``aligned``.
    """
    _box_iou(bboxes1, bboxes2, ious, mode_flag, aligned)


def box_iou_quadri(bboxes1, bboxes2, ious, mode_flag, aligned) -> None:
    """As :func:`box_iou_rotated`, of quadrilaterals, (N, 8) and (M, 8)."""
    _box_iou(bboxes1, bboxes2, ious, mode_flag, aligned)


def _nms(boxes, order, iou_threshold) -> Tensor:
    boxes = boxes[order]
    ious = _all_ious(boxes, boxes, 0).to(boxes.dtype)
    # mmcv's CPU code suppresses an IoU equal to the threshold, its CUDA code doesn't.
    over = ious > iou_threshold if boxes.is_cuda else ious >= iou_threshold
    over = over.cpu().numpy()
    kept, suppressed = [], over[0] & False
    for i in range(len(over)):
        if not suppressed[i]:
            kept.append(i)
            suppressed |= over[i]
    return order[kept]


def nms_rotated(dets, scores, order, dets_sorted, labels, iou_threshold, multi_label) -> Tensor:
    """Return the indices of the rotated boxes that NMS keeps, by descending score.

    Args:
        dets (Tensor): (N, 5), or (N, 6) with labels, which mmcv doesn't look at either.
        order (Tensor): Indices by descending score, (N,).
    """
    return _nms(dets[:, :5], order, iou_threshold)


def nms_quadri(dets, scores, order, dets_sorted, iou_threshold, multi_label) -> Tensor:
    """As :func:`nms_rotated`, of quadrilaterals, (N, 8), or (N, 9) with labels."""
    return _nms(dets[:, :8], order, iou_threshold)
