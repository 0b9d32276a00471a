"""Each served operator, through mmcv's public functions, against a slow independent reference."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.test_ops.conftest import FLOAT64, random_tensor, sample_cells


def random_boxes(count, seed=0, size=60.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * size
    sides = torch.rand(count, 2, generator=generator) * size / 2 + 1
    scores = torch.rand(count, generator=generator)
    return torch.cat([corner, corner + sides], dim=1), scores


def iou(a, b, offset=0, mode='iou'):
    """IoU or, with mode 'iof', intersection over ``a``, of two boxes in Python floats."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    intersection = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return intersection / (areas[0] if mode == 'iof' else sum(areas) - intersection)


def reference_nms(boxes, scores, threshold, offset=0):
    """Groups of indices: one kept, then what it suppresses (IoU above the threshold)."""
    boxes = boxes.double().tolist()
    left = sorted(range(len(boxes)), key=lambda i: -scores[i].item())
    groups = []
    while left:
        first, *left = left
        match = [i for i in left if iou(boxes[first], boxes[i], offset) > threshold]
        left = [i for i in left if i not in match]
        groups.append([first, *match])
    return groups


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.5])
def test_nms(ops, device, threshold, offset):
    boxes, scores = random_boxes(80)
    expected = [group[0] for group in reference_nms(boxes, scores, threshold, offset)]
    assert 1 < len(expected) < 80
    boxes, scores = boxes.to(device), scores.to(device)
    dets, inds = ops.nms(boxes, scores, threshold, offset=offset)
    assert inds.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], dim=1)[inds])

    _, inds = ops.nms(boxes, scores, threshold, offset=offset, score_threshold=0.5, max_num=3)
    assert inds.tolist() == [i for i in expected if scores[i] > 0.5][:3]


def test_nms_offset_decides(ops, device):
    # 1 / 3 without offset, 6 / 12 with: corners are pixels.
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]], device=device)
    scores = torch.tensor([0.9, 0.8], device=device)
    assert len(ops.nms(boxes, scores, 0.4, offset=0)[1]) == 2
    assert len(ops.nms(boxes, scores, 0.4, offset=1)[1]) == 1


@pytest.mark.parametrize('sides', [3, 7])
def test_nms_keeps_iou_equal_to_threshold(ops, sides):
    # In float32, as in mmcv, 0.3 == 3 / 10; in float64 it is below.
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, sides]], dtype=torch.float32)
    assert len(ops.nms(boxes, torch.tensor([0.9, 0.8]), sides / 10)[1]) == 2


def test_nms_ties_and_degenerate_boxes(ops):
    boxes = torch.tensor([[0.0, 0, 4, 4]]).repeat(5, 1)
    assert ops.nms(boxes, torch.full((5,), 0.5), 0.5)[1].tolist() == [0]
    points = torch.zeros(3, 4)  # IoU is 0 / 0: nothing is suppressed
    assert ops.nms(points, torch.full((3,), 0.5), 0.5)[1].tolist() == [0, 1, 2]


def test_nms_half_and_numpy(ops):
    boxes, scores = random_boxes(40)
    half = boxes.half(), scores.half()
    expected = ops.nms(half[0].float(), half[1].float(), 0.3)[1]
    assert torch.equal(ops.nms(*half, 0.3)[1], expected)
    inds = ops.nms(boxes.numpy(), scores.numpy(), 0.3)[1]
    assert isinstance(inds, np.ndarray)
    assert inds.tolist() == ops.nms(boxes, scores, 0.3)[1].tolist()


def test_batched_nms(ops, device):
    boxes, scores = random_boxes(90)
    classes = torch.arange(90) % 3
    expected = []
    for label in range(3):
        members = (classes == label).nonzero().squeeze(1)
        groups = reference_nms(boxes[members], scores[members], 0.3)
        expected += [members[group[0]].item() for group in groups]
    inputs = [t.to(device) for t in (boxes, scores, classes)]
    for cfg in (dict(type='nms', iou_threshold=0.3), dict(iou_threshold=0.3, split_thr=10)):
        dets, keep = ops.batched_nms(*inputs, cfg)
        assert sorted(keep.tolist()) == sorted(expected)
        assert torch.equal(dets[:, 4], scores[keep.cpu()].sort(descending=True)[0].to(device))


def reference_soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    boxes, scores = boxes.double().tolist(), dict(enumerate(scores.double().tolist()))
    kept = []
    while scores:
        best = max(scores, key=scores.get)
        kept.append((best, scores.pop(best)))
        for i in list(scores):
            overlap = iou(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                scores[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                scores[i] *= 1 - overlap if method == 'linear' else 0
            if scores[i] < min_score:
                del scores[i]
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms(ops, device, method, offset):
    boxes, scores = random_boxes(60)
    arguments = (0.3, 0.5, 0.1, method, offset)
    expected = reference_soft_nms(boxes, scores, *arguments)
    assert 1 < len(expected) < 60
    dets, inds = ops.soft_nms(boxes.to(device), scores.to(device), *arguments)
    assert inds.tolist() == [i for i, _ in expected]
    assert_close(dets[:, 4].cpu(), torch.tensor([score for _, score in expected]))
    assert torch.equal(dets[:, :4].cpu(), boxes[inds.cpu()])


def test_nms_match(ops):
    boxes, scores = random_boxes(60)
    expected = reference_nms(boxes, scores, 0.2)
    groups = ops.nms_match(torch.cat([boxes, scores[:, None]], dim=1), 0.2)
    assert [group.tolist() for group in groups] == expected
    assert any(len(group) > 1 for group in expected)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_bbox_overlaps(ops, device, mode, offset):
    a, b = random_boxes(6, seed=1)[0], random_boxes(5, seed=2)[0]
    expected = torch.tensor([[iou(x, y, offset, mode) for y in b.tolist()] for x in a.tolist()])
    assert expected.max() > 0
    a, b, expected = a.to(device), b.to(device), expected.to(device)
    assert_close(ops.bbox_overlaps(a, b, mode, False, offset), expected)
    assert_close(ops.bbox_overlaps(a[:5], b, mode, True, offset), expected.diagonal())


def test_no_boxes(ops, device):
    boxes, scores = torch.zeros(0, 4, device=device), torch.zeros(0, device=device)
    for nms in (ops.nms, ops.soft_nms):
        dets, inds = nms(boxes, scores, 0.5)
        assert dets.shape == (0, 5) and inds.shape == (0,) and inds.dtype == torch.long
    rois = torch.zeros(0, 5, device=device)
    for layer in (ops.RoIAlign(2), ops.RoIPool(2)):
        feature = torch.ones(2, 3, 4, 4, device=device, requires_grad=True)
        out = layer(feature, rois)
        assert out.shape == (0, 3, 2, 2)
        out.sum().backward()
        assert feature.grad.abs().sum() == 0


def lane(start, length, xs):
    """A lane (77,): its start is a strip, of 0 to 71, ``xs`` one x or one for each strip."""
    row = torch.zeros(77)
    row[2], row[4], row[5:] = start / 71, length, torch.as_tensor(xs)
    return row


def test_line_nms(ops, device):
    if not hasattr(ops, 'line_nms'):
        pytest.skip('this mmcv has no line_nms')
    lanes = [
        lane(0, 72, 100.0),
        lane(0, 72, 104.0),
        lane(0, 72, 125.0),
        lane(10, 5, torch.arange(72) * 5 + 50.0),  # strips 10 to 14: 100, 105, ... 120
        lane(60, 5.9, 100.0),  # strips 60 to 64
        lane(71, 0, 100.0),  # no strips
    ]
    boxes = torch.stack(lanes).to(device)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95, 0.5, 0.4], device=device)
    # The best lane is 10, 7.6 and 15 away from the first three.
    keep, count, parents = ops.line_nms(boxes, scores, 12.0, 10)
    assert count == 4 and keep.tolist() == [3, 2, 4, 5, 0, 0]
    assert parents.tolist() == [1, 1, 2, 1, 3, 4]
    keep, count, parents = ops.line_nms(boxes, scores, 8.0, 2)
    assert count == 2 and keep.tolist() == [3, 0, 0, 0, 0, 0]
    assert parents.tolist() == [2, 2, 0, 1, 2, 0]


# The second and the third leave the feature map, the third starts outside.
ROIS = [[0, 2, 1, 14, 10], [1, 5.5, 3.2, 30, 9.7], [0, -6, -5, 7, 8], [1, 4, 4, 4.5, 4.5]]


def reference_roi_align(feature, rois, size, scale, sampling_ratio, aligned):
    _, channels, height, width = feature.shape
    out = np.zeros((len(rois), channels, *size))

    def sample(image, y, x):
        if not (-1 <= y <= height and -1 <= x <= width):
            return 0
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        v, h = y - top, x - left
        upper = (1 - h) * image[:, top, left] + h * image[:, top, right]
        lower = (1 - h) * image[:, bottom, left] + h * image[:, bottom, right]
        return (1 - v) * upper + v * lower

    for k, (image, *box) in enumerate(rois):
        x1, y1, x2, y2 = (value * scale - (0.5 if aligned else 0) for value in box)
        sides = np.array([y2 - y1, x2 - x1])
        sides = sides if aligned else np.maximum(sides, 1)
        step = sides / size
        grid = [sampling_ratio or math.ceil(s) for s in step]
        for row, column in np.ndindex(*size):
            values = [
                sample(
                    feature[image],
                    y1 + (row + (i + 0.5) / grid[0]) * step[0],
                    x1 + (column + (j + 0.5) / grid[1]) * step[1],
                )
                for i, j in np.ndindex(*grid)
            ]
            out[k, :, row, column] = sum(values) / len(values)
    return out


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align(ops, device, sampling_ratio, aligned):
    layer = ops.RoIAlign((2, 3), 0.5, sampling_ratio, aligned=aligned)
    feature = random_tensor(2, 2, 6, 8, dtype=FLOAT64)
    expected = reference_roi_align(feature.numpy(), ROIS, (2, 3), 0.5, sampling_ratio, aligned)
    feature = feature.to(device).requires_grad_()
    rois = torch.tensor(ROIS, dtype=FLOAT64, device=device)
    assert_close(layer(feature, rois).detach().cpu().numpy(), expected)
    assert torch.autograd.gradcheck(lambda x: layer(x, rois), feature, nondet_tol=1e-9)


def reference_roi_pool(feature, rois, size, scale):
    _, channels, height, width = feature.shape
    out = np.zeros((len(rois), channels, *size))
    for k, (image, x1, y1, x2, y2) in enumerate(rois):
        start, end = np.array([y1, x1]) * scale, np.array([y2 + 1, x2 + 1]) * scale
        step = (end - start) / size
        for cell in np.ndindex(*size):
            low = np.clip(np.floor(start + cell * step), 0, [height, width]).astype(int)
            high = np.clip(np.ceil(start + (np.array(cell) + 1) * step), 0, [height, width])
            window = feature[int(image), :, low[0] : int(high[0]), low[1] : int(high[1])]
            if window.size:
                out[k, :, cell[0], cell[1]] = window.max(axis=(1, 2))
    return out


def test_roi_pool(ops, device):
    layer = ops.RoIPool((2, 3), 0.5)
    feature = random_tensor(2, 2, 6, 8, dtype=FLOAT64)
    rois = [*ROIS, [0, 40, 40, 50, 50], [0, 9, 9, 7.9, 7.9]]  # outside; inverted
    expected = reference_roi_pool(feature.numpy(), rois[:-1], (2, 3), 0.5)
    assert (expected[4] == 0).all()
    feature = feature.to(device).requires_grad_()
    rois = torch.tensor(rois, dtype=FLOAT64, device=device)
    out = layer(feature, rois).detach().cpu().numpy()
    assert_close(out[:-1], expected)
    assert (out[-1] == 0).all()
    assert torch.autograd.gradcheck(lambda x: layer(x, rois), feature, nondet_tol=1e-9)


def reference_deform_conv(x, offset, mask, weight, bias, stride, padding, dilation, groups):
    """Patches sampled cell by cell, then a 1x1 convolution."""
    batch, channels = x.shape[:2]
    kernel = weight.shape[2:]
    taps = kernel[0] * kernel[1]
    out_size = offset.shape[2:]
    offset = offset.reshape(batch, -1, taps, 2, *out_size)
    deform_groups = offset.shape[1]
    maps = x.reshape(batch * deform_groups, -1, *x.shape[2:])
    patches = []
    for tap, (i, j) in enumerate(np.ndindex(*kernel)):
        start = [-padding[0] + i * dilation[0], -padding[1] + j * dilation[1]]
        y, x0 = (start[d] + stride[d] * torch.arange(out_size[d]).to(x.device) for d in range(2))
        moved = offset[:, :, tap].flatten(0, 1)
        patch = sample_cells(maps, y[:, None] + moved[:, 0], x0 + moved[:, 1])
        patch = patch.reshape(batch, deform_groups, -1, *out_size)
        if mask is not None:
            patch = patch * mask.reshape(batch, deform_groups, taps, 1, *out_size)[:, :, tap]
        patches.append(patch.reshape(batch, channels, *out_size))
    columns = torch.stack(patches, dim=2).flatten(1, 2)  # channel by channel, then tap
    return F.conv2d(columns, weight.reshape(len(weight), -1, 1, 1), bias, groups=groups)


KERNEL = (3, 2)
GEOMETRIES = [
    # stride, padding, dilation, groups, deform_groups
    ((1, 1), (1, 1), (1, 1), 1, 1),
    ((2, 1), (2, 1), (1, 2), 2, 2),
]


def check_deform_conv(ops, geometry, modulated, offset, size, read=lambda maps: maps):
    """Compare output and gradients with the reference, which gets ``read(offset)``."""
    groups = geometry[3]
    make = dict(dtype=FLOAT64, device=offset.device)
    x = random_tensor(2, 4, *size, seed=1, **make)
    weight = random_tensor(6, 4 // groups, *KERNEL, seed=3, **make)
    mask_shape = (2, offset.shape[1] // 2, *offset.shape[2:])
    mask = random_tensor(*mask_shape, seed=4, **make) if modulated else None
    bias = random_tensor(6, seed=5, **make) if modulated else None
    inputs = [t.requires_grad_() for t in (x, offset, mask, weight, bias) if t is not None]
    if modulated:
        actual = ops.modulated_deform_conv2d(x, offset, mask, weight, bias, *geometry)
    else:
        actual = ops.deform_conv2d(x, offset, weight, *geometry)
    read_mask = read(mask) if modulated else None
    expected = reference_deform_conv(x, read(offset), read_mask, weight, bias, *geometry[:4])
    assert_close(actual, expected)
    probe = random_tensor(*expected.shape, seed=6, **make)
    grads = torch.autograd.grad((actual * probe).sum(), inputs)
    for grad, wanted in zip(
        grads, torch.autograd.grad((expected * probe).sum(), inputs), strict=True
    ):
        assert_close(grad, wanted)


@pytest.mark.parametrize('offsets', ['random', 'zero', 'integer'])
@pytest.mark.parametrize('modulated', [False, True])
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_deform_conv(ops, device, geometry, modulated, offsets):
    """Zero offsets, with which training starts, put samples exactly one cell outside."""
    stride, padding, dilation, _, deform_groups = geometry
    size = (7, 8)
    out = [
        (size[d] + 2 * padding[d] - dilation[d] * (KERNEL[d] - 1) - 1) // stride[d] + 1
        for d in range(2)
    ]
    channels = 2 * deform_groups * KERNEL[0] * KERNEL[1]
    offset = random_tensor(2, channels, *out, seed=2, dtype=FLOAT64, device=device)
    offset = dict(random=offset, zero=0 * offset, integer=offset.mul(2).round())[offsets]
    check_deform_conv(ops, geometry, modulated, offset, size)


def test_offsets_larger_than_the_output(ops, device):
    """As in DyHead: mmcv reads the first numbers of each image, as many as the output has cells."""
    geometry = ((1, 1), (1, 1), (1, 1), 1, 1)
    out = (5, 7)
    offset = random_tensor(2, 12, 10, 12, seed=2, dtype=FLOAT64, device=device)

    def read(maps):
        numbers = maps.flatten(1)[:, : maps.shape[1] * out[0] * out[1]]
        return numbers.reshape(*maps.shape[:2], *out)

    check_deform_conv(ops, geometry, True, offset, (5, 6), read)
    with pytest.raises(ValueError, match=r'offset or mask is \(4, 7\) and the output \(5, 7\)'):
        check_deform_conv(ops, geometry, True, offset[..., :4, :7].detach(), (5, 6))


def test_deform_conv_layers(ops, device):
    """The packed layers start from zero offsets: v1 is a convolution, v2 half of it."""
    x = random_tensor(2, 4, 8, 8, dtype=FLOAT64, device=device)
    v1 = ops.DeformConv2dPack(4, 6, 3, padding=1).to(x)
    assert_close(v1(x), F.conv2d(x, v1.weight, padding=1))
    v2 = ops.ModulatedDeformConv2dPack(4, 6, 3, padding=1, bias=False).to(x)
    assert_close(v2(x), F.conv2d(x, v2.weight, padding=1) / 2)


def test_masked_conv(ops, device):
    x = random_tensor(1, 3, 6, 7, dtype=FLOAT64, device=device)
    mask = (random_tensor(1, 6, 7, seed=1, device=device) > 0).float()
    assert 0 < mask.sum() < mask.numel()
    layer = ops.MaskedConv2d(3, 4, 3, padding=1).to(x)
    with torch.no_grad():
        assert_close(layer(x, mask), layer(x) * mask)


def reference_focal_loss(logits, target, gamma, alpha, weight, kind):
    """From log-probabilities; rows of the loss are weighted by their label."""
    if kind == 'softmax':
        log_p = F.log_softmax(logits, dim=1)[torch.arange(len(target)), target]
        loss = -alpha * (1 - log_p.exp()) ** gamma * log_p
    else:
        positive = F.one_hot(target, logits.shape[1] + 1)[:, :-1].bool()
        log_p = F.logsigmoid(torch.where(positive, logits, -logits))
        factor = torch.where(positive, alpha, 1 - alpha)
        loss = -factor * (1 - log_p.exp()) ** gamma * log_p
    if weight is None:
        return loss
    return loss * (weight[target] if kind == 'softmax' else weight[target][:, None])


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('kind', ['sigmoid', 'softmax'])
def test_focal_loss(ops, device, kind, weighted, reduction):
    logits = (3 * random_tensor(12, 5, dtype=FLOAT64, device=device)).requires_grad_()
    target = (torch.arange(12) % 5).to(device)
    if kind == 'sigmoid' and not weighted:
        target[-3:] = 5  # background
    weight = random_tensor(5, seed=1, dtype=FLOAT64, device=device).abs() if weighted else None
    loss = getattr(ops, f'{kind}_focal_loss')(logits, target, 2.5, 0.3, weight, reduction)
    expected = reference_focal_loss(logits, target, 2.5, 0.3, weight, kind)
    if reduction != 'none':
        expected = expected.sum() / (12 if reduction == 'mean' else 1)
    assert_close(loss, expected)
    if kind == 'softmax' and reduction == 'none':
        return  # mmcv's Python side can't broadcast that gradient, compiled or not
    probe = random_tensor(*loss.shape, seed=2, dtype=FLOAT64, device=device)
    (grad,) = torch.autograd.grad((loss * probe).sum(), logits)
    (wanted,) = torch.autograd.grad((expected * probe).sum(), logits)
    assert_close(grad, wanted)


def test_focal_loss_of_saturated_logits(ops):
    # mmcv's kernels clamp probabilities to FLT_MIN, -log of which is 87.3.
    logits = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    loss = ops.sigmoid_focal_loss(logits, torch.tensor([1, 0]), 2.0, 0.25, None, 'none')
    clamped = -math.log(torch.finfo(torch.float32).tiny)
    assert_close(loss.detach(), torch.tensor([[0.75], [0.25]]) * clamped)
    loss.sum().backward()
    assert_close(logits.grad, torch.tensor([[0.75], [-0.25]]))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(ops, device, dtype):
    """The result is float32's on the same inputs, rounded once, and so are the gradients."""
    rois = torch.tensor(ROIS[:3], device=device)
    target = torch.arange(8, device=device) % 4
    x = random_tensor(2, 4, 6, 8, device=device)
    offset = random_tensor(2, 18, 6, 8, seed=1, device=device)
    weight = random_tensor(4, 4, 3, 3, seed=2, device=device)
    logits = random_tensor(8, 4, seed=3, device=device)
    cases = [
        (lambda x, r: ops.roi_align(x, r, 2, 0.5, 2, 'avg', True), (x, rois)),
        (lambda x, r: ops.roi_pool(x, r, 2, 0.5), (x, rois)),
        (lambda *inputs: ops.deform_conv2d(*inputs, 1, 1), (x, offset, weight)),
        (lambda x: ops.sigmoid_focal_loss(x, target, 2.0, 0.25, None, 'none'), (logits,)),
    ]
    for run, inputs in cases:
        results = []
        for kind in (dtype, torch.float32):
            leaves = [t.to(dtype).to(kind).requires_grad_() for t in inputs]
            out = run(*leaves)
            assert out.dtype == kind
            out.sum().backward()
            results.append(
                [out.to(dtype), *(t.grad.to(dtype) for t in leaves if t.grad is not None)]
            )
        assert_close(*results)


def test_autocast(ops, device):
    layer = ops.ModulatedDeformConv2dPack(4, 4, 3, padding=1).to(device)
    rois = torch.tensor(ROIS[:3], device=device)
    x = random_tensor(2, 4, 6, 8, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        feature = layer(x)
        assert feature.dtype == torch.bfloat16
        pooled = ops.RoIAlign(2, 0.5)(feature, rois.to(feature))
        assert pooled.dtype == torch.bfloat16
    pooled.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert_close(feature.float(), layer(x), rtol=0.02, atol=0.02)
