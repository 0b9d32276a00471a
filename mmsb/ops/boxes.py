"""IoU and non-maximum suppression of upright boxes and of lanes."""

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from mmsb.ops.common import full


def _intersection_areas(boxes1: Tensor, boxes2: Tensor, offset: int) -> tuple[Tensor, ...]:
    """Areas of intersection and of both boxes (..., 4), broadcast; sides are x2 - x1 + offset."""
    start = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    end = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    sides = (
        (end - start + offset).clamp(min=0),
        boxes1[..., 2:] - boxes1[..., :2] + offset,
        boxes2[..., 2:] - boxes2[..., :2] + offset,
    )
    return tuple(side[..., 0] * side[..., 1] for side in sides)


def _iou(boxes1: Tensor, boxes2: Tensor, offset: int) -> Tensor:
    intersection, area1, area2 = _intersection_areas(boxes1, boxes2, offset)
    return intersection / (area1 + area2 - intersection)


def bbox_overlaps(bboxes1, bboxes2, ious, mode, aligned, offset) -> None:
    """IoU (mode 0) or intersection over ``bboxes1`` (mode 1).

    Args:
        bboxes1 (Tensor): Boxes (M, 4).
        bboxes2 (Tensor): Boxes (N, 4).
        ious (Tensor): Output, (M, N), or (M,) if ``aligned``.
    """
    bboxes1, bboxes2 = full(bboxes1, bboxes2)
    if not aligned:
        bboxes1 = bboxes1[:, None]
    intersection, area1, area2 = _intersection_areas(bboxes1, bboxes2, offset)
    base = area1 + area2 - intersection if mode == 0 else area1
    ious.copy_(intersection / base.clamp(min=offset))


def nms(boxes, scores, iou_threshold, offset) -> Tensor:
    """Return the indices of the ``boxes`` (N, 4) that NMS keeps, by descending score."""
    boxes, scores = full(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32, torchvision in float64: without rounding first, an IoU equal to
    # the threshold would be suppressed for 0.3 and kept for 0.7.
    iou_threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    # mmcv's sort isn't stable and torchvision's is: sorting here keeps mmcv's order of ties.
    scores, order = scores.sort(descending=True)
    return order[torch.ops.torchvision.nms(boxes[order], scores, iou_threshold)]


def softnms(boxes, scores, dets, iou_threshold, sigma, min_score, method, offset) -> Tensor:
    """Soft NMS; ``method`` is 0 (naive), 1 (linear) or 2 (gaussian).

    Args:
        boxes (Tensor): (N, 4).
        scores (Tensor): (N,).
        dets (Tensor): Output, (N, 5): its first K rows are the kept boxes and new scores.

    Returns:
        Tensor: Indices of the K kept boxes, in order of selection.
    """
    boxes, scores = full(boxes, scores)
    rows = torch.cat([boxes, scores[:, None]], dim=1)
    inds = torch.arange(len(rows), device=rows.device)
    picked, count = 0, len(rows)
    while picked < count:
        best = picked + int(rows[picked:count, 4].argmax())
        for table in (rows, inds):
            table[[picked, best]] = table[[best, picked]]
        rest = slice(picked + 1, count)
        iou = _iou(rows[picked, :4], rows[rest, :4], offset)
        if method == 2:
            decay = (-(iou * iou) / sigma).exp()
        else:
            overlapping = 1 - iou if method == 1 else torch.zeros_like(iou)
            decay = torch.where(iou >= iou_threshold, overlapping, 1)
        rows[rest, 4] *= decay
        # mmcv overwrites a discarded box with the last one; the resulting order decides between
        # equal scores.
        keep = ~(rows[rest, 4] < min_score)
        kept = int(keep.sum())
        order = torch.arange(len(keep), device=keep.device)
        order[:kept][~keep[:kept]] = order[kept:][keep[kept:]].flip(0)
        picked, count = picked + 1, picked + 1 + kept
        for table in (rows, inds):
            table[picked:count] = table[rest][order[:kept]]
    dets[:count] = rows[:count]
    return inds[:count]


def nms_match(dets, iou_threshold) -> list[list[int]]:
    """Return groups of indices: a kept box of ``dets`` (N, 5), then the boxes it suppresses."""
    (dets,) = full(dets)
    left = dets[:, 4].argsort(descending=True)
    groups = []
    while len(left):
        first, left = left[:1], left[1:]
        match = _iou(dets[first, :4], dets[left, :4], 0) >= iou_threshold
        groups.append(first.tolist() + left[match].tolist())
        left = left[~match]
    return groups


def line_nms_forward(boxes, scores, thresh, top_k) -> tuple[Tensor, Tensor, Tensor]:
    """NMS of lanes (CLRNet): a lane is suppressed if its mean distance is below ``thresh``.

    The kept lane is compared in order of score. mmcv's CUDA kernel takes one of the two lanes in
    the order given instead, so that its result equals this one only for lanes sorted by score.

    Args:
        boxes (Tensor): (N, 5 + 72): two unused columns, start (0 to 1), x at the start, length in
            strips, and x at each of the 72 strips.
        scores (Tensor): (N,).
        thresh (float): In units of x.
        top_k (int): The largest number of lanes to keep.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Indices of the kept lanes, followed by zeros, (N,); their
            number, (); and for each lane the position, from 1, of the last kept lane that it
            is near to, (N,), 0 without one.
    """
    (boxes,) = full(boxes)
    order = scores.argsort(descending=True)
    lanes = boxes[order]
    xs = lanes[:, 5:]
    strips = xs.shape[1]
    start = (lanes[:, 2] * (strips - 1) + 0.5).long()
    end = (start + lanes[:, 4].long() - 1).clamp(max=strips - 1)
    strip = torch.arange(strips, device=boxes.device)
    kept = []
    parents = torch.zeros_like(order)
    suppressed = [False] * len(lanes)
    for i in range(len(lanes)):
        if suppressed[i]:
            continue
        if len(kept) == top_k:
            break
        kept.append(i)
        first, last = torch.maximum(start[i], start), torch.minimum(end[i], end)
        shared = (strip >= first[:, None]) & (strip <= last[:, None])
        distance = ((xs[i] - xs).abs() * shared).sum(dim=1)
        near = (first >= 0) & (last >= first) & (distance < thresh * (last - first + 1))
        near[:i] = False
        near[i] = True
        parents[order[near]] = len(kept)
        suppressed = [old or new for old, new in zip(suppressed, near.tolist(), strict=True)]
    keep = torch.zeros_like(order)
    keep[: len(kept)] = order[kept]
    return keep, torch.tensor(len(kept), device=boxes.device), parents
