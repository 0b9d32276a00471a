"""Exportable inference of two-stage detectors: from an image to boxes, in tensor operations only.

The networks, anchors and box coders are the model's own. mmdet's code around them keeps boxes in
structures that cannot be exported, and is replaced here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor, nn

OUTPUTS = ['boxes', 'scores', 'labels']
# exactly these classes: subclasses may predict differently
PARTS = {
    'rpn_head': ('RPNHead',),
    'rpn_head.prior_generator': ('AnchorGenerator',),
    'rpn_head.bbox_coder': ('DeltaXYWHBBoxCoder',),
    'roi_head': ('StandardRoIHead',),
    'roi_head.bbox_roi_extractor': ('SingleRoIExtractor',),
    'roi_head.bbox_roi_extractor.roi_layers.0': ('RoIAlign',),
    'roi_head.bbox_head': ('Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead', 'ConvFCBBoxHead'),
    'roi_head.bbox_head.bbox_coder': ('DeltaXYWHBBoxCoder',),
}


def is_plain_two_stage(model: nn.Module) -> bool:
    """Return whether :func:`detect` gives the same predictions as mmdet's detector.

    Args:
        model: The detector.

    Returns:
        False for single-stage detectors, cascades, masks and anything unknown.
    """
    for path, known in PARTS.items():
        part = model
        for name in path.split('.'):
            part = getattr(part, name, None)
        if type(part).__name__ not in known:
            return False
    rpn, roi = model.rpn_head, model.roi_head
    head = roi.bbox_head
    coders = [rpn.bbox_coder, head.bbox_coder]
    return (
        not (roi.with_mask or roi.with_shared_head or head.custom_cls_channels)
        and head.with_cls
        and head.with_reg
        and roi.bbox_roi_extractor.roi_layers[0].pool_mode == 'avg'
        and not any(coder.use_box_type or coder.add_ctr_clamp for coder in coders)
        and all(
            cfg.nms
            and cfg.nms.get('type', 'nms') == 'nms'
            and cfg.nms.keys() <= {'type', 'iou_threshold'}
            for cfg in (rpn.test_cfg, roi.test_cfg)
        )
    )


def detect(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Detect as ``model.predict`` does in an image without padding, before rescaling.

    Args:
        model: A detector for which :func:`is_plain_two_stage` is true, in evaluation mode.
        image: A normalised image, (1, 3, H, W).

    Returns:
        ``boxes`` (N, 4) as x1, y1, x2, y2 in pixels, ``scores`` (N,), descending, and ``labels``
        (N,).
    """
    size = [int(side) for side in image.shape[2:]]
    features = model.extract_feat(image)
    rois = _proposals(model.rpn_head, features, size)
    regions = _align(model.roi_head.bbox_roi_extractor, features, rois)
    head, cfg = model.roi_head.bbox_head, model.roi_head.test_cfg
    logits, deltas = head(regions)
    scores = logits.softmax(1)[:, :-1]
    boxes = _decode(head.bbox_coder, rois, deltas, size)
    boxes = boxes.reshape(-1, 1 if head.reg_class_agnostic else head.num_classes, 4)
    boxes = boxes.expand(-1, head.num_classes, -1)
    roi, label = (scores > cfg.score_thr).nonzero().unbind(1)
    boxes, scores = boxes[roi, label], scores[roi, label]
    keep = _suppress(boxes, scores, label, cfg)
    return dict(boxes=boxes[keep], scores=scores[keep], labels=label[keep])


def in_order_of(wanted: list[Tensor], found: list[Tensor]) -> list[Tensor]:
    """Reorder detections to match others, as rounding may swap almost equal scores.

    Args:
        wanted: Boxes (N, 4), scores (N,) and labels (N,).
        found: The same from another run.

    Returns:
        For each wanted detection the nearest one in ``found``; ``found`` itself if it does not
        hold N detections.
    """
    if len(wanted[0]) != len(found[0]) or not len(wanted[0]):
        return found
    a, b = (
        torch.cat([boxes, scores[:, None], 1e6 * labels[:, None]], 1)
        for boxes, scores, labels in (wanted, found)
    )
    nearest = torch.cdist(a.double(), b.double(), p=1).argmin(1)
    return [x[nearest] for x in found]


def _proposals(head: nn.Module, features: tuple[Tensor, ...], size: list[int]) -> Tensor:
    """Return the first stage's boxes, (R, 4)."""
    logits, deltas = head(features)
    anchors = head.prior_generator.grid_priors(
        [[int(side) for side in x.shape[2:]] for x in logits], device=logits[0].device
    )
    cfg, levels = head.test_cfg, []
    for level, (logit, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
        logit = logit[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
        score = logit.sigmoid()[:, 0] if head.use_sigmoid_cls else logit.softmax(1)[:, 0]
        delta = delta[0].permute(1, 2, 0).reshape(-1, 4)
        if 0 < cfg.nms_pre < len(anchor):
            score, best = score.topk(cfg.nms_pre)
            anchor, delta = anchor[best], delta[best]
        levels.append((score, anchor, delta, torch.full_like(score, level)))
    scores, anchors, deltas, level = map(torch.cat, zip(*levels, strict=True))
    boxes = _decode(head.bbox_coder, anchors, deltas, size)
    if cfg.get('min_bbox_size', -1) >= 0:
        large = (boxes[:, 2:] - boxes[:, :2] > cfg.min_bbox_size).all(1).nonzero()[:, 0]
        boxes, scores, level = boxes[large], scores[large], level[large]
    return boxes[_suppress(boxes, scores, level, cfg)]


def _align(extractor: nn.Module, features, boxes: Tensor) -> Tensor:
    """Return the features of boxes (R, 4), each from its pyramid level, (R, C, h, w)."""
    from torchvision.ops import roi_align

    layers = extractor.roi_layers
    rois = F.pad(boxes, (1, 0))  # of image 0
    levels = extractor.map_roi_levels(rois, len(layers))
    # A level that is empty when traced would stay empty: pass it all boxes, the others' as zeros.
    regions = 0
    for i, layer in enumerate(layers):
        own = levels == i
        region = roi_align(
            features[i],
            rois * own[:, None],
            layer.output_size,
            layer.spatial_scale,
            layer.sampling_ratio,
            layer.aligned,
        )
        regions = regions + region.masked_fill(~own[:, None, None, None], 0)
    return regions


def _decode(coder, boxes: Tensor, deltas: Tensor, size: list[int]) -> Tensor:
    """Apply deltas (N, K * 4) to boxes and clip them to the image."""
    boxes = coder.decode(boxes, deltas)  # with max_shape, mmdet's code cannot be exported
    if not coder.clip_border:
        return boxes
    height, width = size
    shape = boxes.shape
    x, y = boxes.reshape(-1, 2).unbind(1)
    return torch.stack([x.clamp(0, width), y.clamp(0, height)], 1).reshape(shape)


def _suppress(boxes: Tensor, scores: Tensor, groups: Tensor, cfg: ConfigDict) -> Tensor:
    """Return the indices that NMS within each group keeps, by descending score."""
    from torchvision.ops import nms

    # Offset the groups as mmdet does, for the same rounding; padded in case there are no boxes.
    apart = groups.to(boxes) * (F.pad(boxes, (0, 0, 0, 1)).max() + 1)
    keep = nms(boxes + apart[:, None], scores, cfg.nms.iou_threshold)
    return keep[: cfg.max_per_img] if cfg.max_per_img > 0 else keep
