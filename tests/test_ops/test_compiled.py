"""Operator by operator against a compiled mmcv, where the running environment has one."""

import importlib

import pytest
import torch

import mmsb.ops


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner, sides = torch.rand(2, count, 2, generator=generator)
    return torch.cat([corner * 60, corner * 60 + sides * 30], dim=1)


def scores(count, seed=0):
    """One score in four is shared with others."""
    values = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    values[::4] = values[::4].mul(5).round() / 5
    return values


def rois(count):
    return torch.cat([torch.arange(count)[:, None] % 2, boxes(count)], dim=1)


def nms(ops):
    for offset in (0, 1):
        for threshold in (0.3, 0.5, 0.7):
            yield from ops.nms(boxes(500), scores(500), threshold, offset)


def batched_nms(ops):
    cfg = dict(type='nms', iou_threshold=0.5)
    yield from ops.batched_nms(boxes(400), scores(400), torch.arange(400) % 5, cfg)


def soft_nms(ops):
    for method in ('naive', 'linear', 'gaussian'):
        for offset in (0, 1):
            yield from ops.soft_nms(boxes(200), scores(200), 0.3, 0.5, 0.05, method, offset)


def nms_match(ops):
    yield from ops.nms_match(torch.cat([boxes(200), scores(200)[:, None]], dim=1), 0.4)


def bbox_overlaps(ops):
    for mode in ('iou', 'iof'):
        for offset in (0, 1):
            yield ops.bbox_overlaps(boxes(50), boxes(40, 1), mode, False, offset)
            yield ops.bbox_overlaps(boxes(50), boxes(50, 1), mode, True, offset)


def roi_align(ops):
    for aligned in (True, False):
        for sampling_ratio in (0, 2):
            x = tensor(2, 8, 16, 20).requires_grad_()
            out = ops.roi_align(x, rois(60), 7, 0.25, sampling_ratio, 'avg', aligned)
            yield out
            yield from torch.autograd.grad(out, x, tensor(*out.shape, seed=1))


def offsets(*shape):
    """Random ones; zeros, which put samples exactly one cell outside; and integers."""
    random = tensor(*shape, seed=2)
    return random, torch.zeros(shape), random.mul(2).round()


def deform_conv(ops):
    x, weight = tensor(2, 8, 12, 14), tensor(8, 4, 3, 3, seed=1)
    for offset in offsets(2, 2 * 2 * 9, 12, 14):
        inputs = [t.requires_grad_() for t in (x, offset, weight)]
        out = ops.deform_conv2d(*inputs, 1, 1, 1, 2, 2)
        yield out
        yield from torch.autograd.grad(out, inputs, tensor(*out.shape, seed=3))


def modulated_deform_conv(ops):
    x, weight, bias = tensor(2, 8, 12, 14), tensor(6, 8, 3, 3, seed=1), tensor(6, seed=5)
    # The second size is larger than the output: DyHead gives offsets of the level below.
    for size in ((12, 14), (24, 28)):
        mask = tensor(2, 9, *size, seed=4).sigmoid()
        for offset in offsets(2, 2 * 9, *size):
            for use_bias in (True, False):
                inputs = [t.requires_grad_() for t in (x, offset, mask, weight, bias)]
                inputs = inputs[: 4 + use_bias]
                out = ops.modulated_deform_conv2d(*inputs, *([] if use_bias else [None]), 1, 1)
                yield out
                yield from torch.autograd.grad(out, inputs, tensor(*out.shape, seed=3))


def psa_mask(ops):
    for mask_size in ((7, 9), (4, 6), (3, 3)):
        for psa_type in ('collect', 'distribute'):
            x = tensor(2, mask_size[0] * mask_size[1], 4, 5).requires_grad_()
            out = ops.PSAMask(psa_type, mask_size)(x)
            yield out
            yield from torch.autograd.grad(out, x, tensor(*out.shape, seed=1))


def rotated_boxes(count, seed=0):
    """Some share a corner or all but the angle; a few are a right angle apart or empty."""
    upright = boxes(count, seed)
    angle = 4 * tensor(count, 1, seed=seed + 1)
    angle[::5] = 0
    angle[1::5] = torch.pi / 2
    sides = upright[:, 2:] - upright[:, :2]
    sides[-1] = 0
    rotated = torch.cat([upright[:, :2] + sides / 2, sides, angle], dim=1)
    rotated[2:4] = rotated[0:2]
    return rotated


def quadrilaterals(count, seed=0):
    """Upright boxes whose corners were moved."""
    corners = boxes(count, seed)[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    return corners + 1.5 * tensor(count, 8, seed=seed + 1)


def box_iou_rotated(ops):
    for mode in ('iou', 'iof'):
        for clockwise in (True, False):
            a, b = rotated_boxes(60), rotated_boxes(60, 2)
            yield ops.box_iou_rotated(a, b, mode, False, clockwise)
            yield ops.box_iou_rotated(a, b, mode, True, clockwise)


def box_iou_quadri(ops):
    for mode in ('iou', 'iof'):
        yield ops.box_iou_quadri(quadrilaterals(60), quadrilaterals(50, 2), mode)
        yield ops.box_iou_quadri(quadrilaterals(60), quadrilaterals(60, 2), mode, True)


def nms_rotated(ops):
    for threshold in (0.1, 0.5):
        for labels in (None, torch.arange(300) % 3):
            yield from ops.nms_rotated(rotated_boxes(300), scores(300), threshold, labels)


def nms_quadri(ops):
    for threshold in (0.1, 0.5):
        yield from ops.nms_quadri(quadrilaterals(300), scores(300), threshold)


def roi_align_rotated(ops):
    boxes = rotated_boxes(40)
    rois = torch.cat([torch.arange(40)[:, None] % 2, boxes], dim=1)
    for aligned in (True, False):
        for clockwise in (True, False):
            for sampling_ratio in (0, 2):
                x = tensor(2, 8, 16, 20).requires_grad_()
                how = (7, 0.25, sampling_ratio, aligned, clockwise)
                out = ops.roi_align_rotated(x, rois, *how)
                yield out
                yield from torch.autograd.grad(out, x, tensor(*out.shape, seed=1))


EXACT = [nms, batched_nms, nms_match, nms_rotated, nms_quadri, roi_align, psa_mask]
ROUNDED = [
    soft_nms,
    bbox_overlaps,
    box_iou_rotated,
    box_iou_quadri,
    roi_align_rotated,
    deform_conv,
    modulated_deform_conv,
]


@pytest.mark.parametrize('case', EXACT + ROUNDED, ids=lambda case: case.__name__)
def test_same_as_compiled(use_ext, case):
    state = mmsb.ops.status()
    if state.kind != 'compiled':
        pytest.skip("this environment's mmcv isn't compiled")
    ops = importlib.import_module('mmcv.ops')
    use_ext(importlib.import_module('mmcv._ext'))
    expected = [result.detach() for result in case(ops)]
    use_ext(importlib.import_module('mmsb.ops.mmcv_ext._ext'))
    actual = [result.detach() for result in case(ops)]
    tolerance = dict(rtol=0, atol=0) if case in EXACT else dict(rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(actual, expected, **tolerance)
