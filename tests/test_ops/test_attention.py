"""Deformable attention and PSANet's masks, against cell by cell formulations."""

import importlib

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.test_ops.conftest import FLOAT64, random_tensor, sample_cells

SIZES = [(3, 4), (2, 2)]  # of the levels


def attention_inputs(device, dtype=FLOAT64, batch=2, heads=2, depth=3, queries=5, points=3):
    keys = sum(height * width for height, width in SIZES)
    make = dict(device=device, dtype=dtype)
    value = random_tensor(batch, keys, heads, depth, seed=1, **make)
    shape = (batch, queries, heads, len(SIZES), points)
    locations = random_tensor(*shape, 2, seed=2, **make).mul(0.4).add(0.5)  # some are outside
    weights = random_tensor(*shape, seed=3, **make)
    return value, locations, weights


def attention(ops, value, locations, weights):
    """mmcv's function for CUDA tensors, which calls the operator on any device."""
    apply = importlib.import_module(
        'mmcv.ops.multi_scale_deform_attn'
    ).MultiScaleDeformableAttnFunction.apply
    sizes = torch.tensor(SIZES, device=value.device)
    areas = sizes.prod(dim=1)
    return apply(value, sizes, areas.cumsum(0) - areas, locations, weights, 64)


def reference_attention(value, locations, weights):
    output, start = 0, 0
    for level, (height, width) in enumerate(SIZES):
        keys = value[:, start : start + height * width]
        start += height * width
        maps = keys.permute(0, 2, 3, 1).reshape(-1, value.shape[3], height, width)
        x, y = locations[:, :, :, level].transpose(1, 2).flatten(0, 1).unbind(-1)
        samples = sample_cells(maps, y * height - 0.5, x * width - 0.5)
        by_head = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        output = output + (samples * by_head[:, None]).sum(dim=-1)
    output = output.unflatten(0, value.shape[0:3:2])  # (B, heads, D, queries)
    return output.flatten(1, 2).transpose(1, 2)


@pytest.mark.parametrize('place', ['random', 'one cell outside'])
def test_ms_deform_attn(ops, device, place):
    value, locations, weights = attention_inputs(device)
    if place != 'random':
        for level, size in enumerate(SIZES):
            locations[:, ::2, :, level, 0, 1] = -0.5 / size[0]
            locations[:, 1::2, :, level, 0, 0] = -0.5 / size[1]
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    actual, expected = attention(ops, *inputs), reference_attention(*inputs)
    assert_close(actual, expected)
    probe = random_tensor(*actual.shape, seed=4, dtype=FLOAT64, device=device)
    grads, wanted = (torch.autograd.grad((out * probe).sum(), inputs) for out in (actual, expected))
    assert_close(grads, wanted)
    if place != 'random':
        assert (grads[1][:, :, :, :, 0] == 0).all() and (grads[1] != 0).any()


def test_ms_deform_attn_gradcheck(ops, device):
    inputs = attention_inputs(device, batch=1, queries=2, points=2)
    inputs = [t.requires_grad_() for t in inputs]
    assert torch.autograd.gradcheck(
        lambda *inputs: attention(ops, *inputs), inputs, nondet_tol=1e-9
    )


def test_ms_deform_attn_module(ops, device, monkeypatch):
    """The layer of detectors gives what mmcv's own fallback for the CPU gives."""
    layer = ops.MultiScaleDeformableAttention(8, 2, 2, 3, batch_first=True, dropout=0.0)
    layer.init_weights()  # samples lie whole cells apart
    layer = layer.to(device)
    query = random_tensor(2, 16, 8, device=device).requires_grad_()
    sizes = torch.tensor(SIZES, device=device)
    points = torch.rand(2, 16, 2, 2, generator=torch.Generator().manual_seed(0)).to(device)
    arguments = dict(
        reference_points=points,
        spatial_shapes=sizes,
        level_start_index=torch.tensor([0, 12], device=device),
    )
    results = []
    module = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    for used in ('ours', 'fallback'):
        if used == 'ours':
            monkeypatch.setattr(
                module,
                'multi_scale_deformable_attn_pytorch',
                lambda value, _, *inputs: attention(ops, value, *inputs),
            )
        elif device == 'cuda':
            monkeypatch.setattr(module, 'IS_CUDA_AVAILABLE', False)
        output = layer(query, **arguments)
        wanted = [query, *layer.parameters()]
        results.append([output, *torch.autograd.grad(output.square().sum(), wanted)])
        monkeypatch.undo() if used == 'ours' else None
    assert_close(*results, rtol=1e-4, atol=1e-5)


def reference_psa_mask(x, collect, mask_size):
    batch, _, height, width = x.shape
    out = np.zeros((batch, height * width, height * width))
    for h, w in np.ndindex(height, width):
        for i, j in np.ndindex(*mask_size):
            y, x0 = h + i - (mask_size[0] - 1) // 2, w + j - (mask_size[1] - 1) // 2
            if 0 <= y < height and 0 <= x0 < width:
                pair = (y * width + x0, h * width + w)
                to, cell = pair if collect else pair[::-1]
                out[:, to, cell] = x[:, i * mask_size[1] + j, h, w]
    return out.reshape(batch, height * width, height, width)


# As large as PSANet's, even, and smaller than the map.
@pytest.mark.parametrize('mask_size', [(5, 7), (4, 2), (3, 3)])
@pytest.mark.parametrize('psa_type', ['collect', 'distribute'])
def test_psa_mask(ops, device, psa_type, mask_size):
    layer = ops.PSAMask(psa_type, mask_size)
    x = random_tensor(2, mask_size[0] * mask_size[1], 3, 4, dtype=FLOAT64)
    expected = reference_psa_mask(x.numpy(), psa_type == 'collect', mask_size)
    x = x.to(device).requires_grad_()
    assert_close(layer(x).detach().cpu().numpy(), expected)
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)
