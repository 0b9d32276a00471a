"""Deformable and rotated RoIs, against formulations sample by sample in Python floats."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.test_ops.conftest import FLOAT64, random_tensor

# Inside, over two edges, over the other two, tiny, and empty.
BOXES = [[0, 2, 1, 14, 10], [1, 5.5, 3.2, 30, 9.7], [0, -6, -5, 7, 8], [1, 4, 4, 4.5, 4.5],
         [0, 3, 3, 3, 3]]  # fmt: skip
BINS = (2, 3)
fast_gradcheck = partial(torch.autograd.gradcheck, fast_mode=True, nondet_tol=1e-9)


def sample(image, y, x):
    """Value and, by mmcv's definition, derivatives by y and x."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0, 0, 0
    clamped = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(clamped[0]), int(clamped[1])
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, h = clamped[0] - top, clamped[1] - left
    a, b, c, d = (image[:, i, j] for i in (top, bottom) for j in (left, right))
    value = (1 - v) * ((1 - h) * a + h * b) + v * ((1 - h) * c + h * d)
    by_y = (right - x) * (c - a) + (x - left) * (d - b)
    by_x = (bottom - y) * (b - a) + (y - top) * (d - c)
    return value, by_y, by_x


def bin_samples(sizes, sampling_ratio):
    """Yield bin and positions within the RoI, y and x, of every sample and their number."""
    sides = [size / bins for size, bins in zip(sizes, BINS, strict=True)]
    grid = [sampling_ratio or math.ceil(side) for side in sides]
    for cell in np.ndindex(*BINS):
        for number in np.ndindex(*grid):
            yield (
                cell,
                grid[0] * grid[1],
                *((cell[d] + (number[d] + 0.5) / grid[d]) * sides[d] for d in (0, 1)),
            )


def reference_deform_roi_pool(feature, rois, offset, scale, sampling_ratio, gamma):
    """Output (K, C, bins) and its derivative by the offset, (K, C, 2, bins)."""
    out = np.zeros((len(rois), feature.shape[1], *BINS))
    slope = np.zeros((len(rois), feature.shape[1], 2, *BINS))
    for k, (image, *box) in enumerate(rois):
        left, top, right, bottom = (value * scale - 0.5 for value in box)
        sizes = (bottom - top, right - left)
        for cell, count, y, x in bin_samples(sizes, sampling_ratio):
            shift = gamma * offset[k, :, cell[0], cell[1]]
            value, by_y, by_x = sample(
                feature[image], top + y + shift[1] * sizes[0], left + x + shift[0] * sizes[1]
            )
            place = (k, slice(None), *cell)
            out[place] += value / count
            slope[k, :, 0, cell[0], cell[1]] += gamma * sizes[1] * by_x / count
            slope[k, :, 1, cell[0], cell[1]] += gamma * sizes[0] * by_y / count
    return out, slope


@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_deform_roi_pool(ops, device, sampling_ratio):
    feature = random_tensor(2, 2, 6, 8, dtype=FLOAT64)
    offset = random_tensor(len(BOXES), 2, *BINS, seed=1, dtype=FLOAT64)
    how = (0.5, sampling_ratio, 0.3)
    expected, slope = reference_deform_roi_pool(feature.numpy(), BOXES, offset.numpy(), *how)
    rois = torch.tensor(BOXES, dtype=FLOAT64, device=device)
    inputs = feature.to(device).requires_grad_(), offset.to(device).requires_grad_()
    out = ops.deform_roi_pool(inputs[0], rois, inputs[1], BINS, *how)
    assert_close(out.detach().cpu().numpy(), expected)
    probe = random_tensor(*out.shape, seed=2, dtype=FLOAT64, device=device)
    (grad,) = torch.autograd.grad((out * probe).sum(), inputs[1])
    assert_close(grad.cpu().numpy(), (slope * probe.cpu().numpy()[:, :, None]).sum(axis=1))

    for moved in (inputs[1].detach(), None):
        assert fast_gradcheck(
            lambda x, moved=moved: ops.deform_roi_pool(x, rois, moved, BINS, *how),
            inputs[0],
        )


def test_deform_roi_pool_gradcheck_inside(ops, device):
    """Where mmcv clamps no sample, the offset's gradient is the derivative."""
    feature = random_tensor(2, 2, 16, 18, dtype=FLOAT64, device=device)
    rois = torch.tensor([[0, 6, 5, 14, 12], [1, 4, 6, 12.5, 11]], dtype=FLOAT64, device=device)
    offset = random_tensor(2, 2, *BINS, seed=1, dtype=FLOAT64, device=device).requires_grad_()
    assert fast_gradcheck(
        lambda offset: ops.deform_roi_pool(feature, rois, offset, BINS, 1.0, 2, 0.1),
        offset,
    )


def test_deform_roi_pool_layers(ops, device):
    """The packed layers start with bins in place: RoI align, and half of it with a mask."""
    feature = random_tensor(2, 4, 6, 8, device=device)
    rois = torch.tensor(BOXES[:4], device=device)
    aligned = ops.roi_align(feature, rois, 3, 0.5, 2, 'avg', True)
    how = dict(output_channels=4, deform_fc_channels=8, spatial_scale=0.5, sampling_ratio=2)
    assert_close(ops.DeformRoIPoolPack((3, 3), **how).to(device)(feature, rois), aligned)
    layer = ops.ModulatedDeformRoIPoolPack((3, 3), **how).to(device)
    assert_close(layer(feature, rois), aligned / 2)
    x = feature.clone().requires_grad_()
    layer(x, rois).square().sum().backward()
    assert x.grad.isfinite().all() and layer.offset_fc[-1].bias.grad.any()


def reference_roi_align_rotated(feature, rois, scale, sampling_ratio, aligned, clockwise):
    out = np.zeros((len(rois), feature.shape[1], *BINS))
    for k, (image, *roi) in enumerate(rois):
        shift = 0.5 if aligned else 0
        center = roi[1] * scale - shift, roi[0] * scale - shift
        sizes = [size * scale if aligned else max(size * scale, 1) for size in (roi[3], roi[2])]
        angle = -roi[4] if clockwise else roi[4]
        for cell, count, y, x in bin_samples(sizes, sampling_ratio):
            y, x = y - sizes[0] / 2, x - sizes[1] / 2
            value, _, _ = sample(
                feature[int(image)],
                y * math.cos(angle) - x * math.sin(angle) + center[0],
                y * math.sin(angle) + x * math.cos(angle) + center[1],
            )
            out[(k, slice(None), *cell)] += value / count
    return out


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('clockwise', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_rotated(ops, device, sampling_ratio, clockwise, aligned):
    how = (0.5, sampling_ratio, aligned, clockwise)
    feature = random_tensor(2, 2, 6, 8, dtype=FLOAT64)
    rois = [[0, 8, 5, 9, 4, 0.3], [1, 14, 2, 8, 5, -2], [0, 1, 9, 6, 12, 1.2], [1, 4, 4, 1, 1, 9]]
    expected = reference_roi_align_rotated(feature.numpy(), rois, *how)
    rois = torch.tensor(rois, dtype=FLOAT64, device=device)
    feature = feature.to(device).requires_grad_()
    out = ops.roi_align_rotated(feature, rois, BINS, *how)
    assert_close(out.detach().cpu().numpy(), expected)
    assert fast_gradcheck(lambda x: ops.roi_align_rotated(x, rois, BINS, *how), feature)
