"""Kernels of training, in Triton's interpreter or on a GPU, against float64 and the operators."""

import copy

import pytest
import torch
from torch import nn

from mmsb.models import SBResNet

pytest.importorskip('triton', minversion='3.2')
from mmsb.models.kernels import dispatch

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture
def kernels_everywhere(monkeypatch):
    monkeypatch.setattr(dispatch, 'DEVICES', ('cuda', 'cpu'))
    monkeypatch.setattr(dispatch, 'LEAST_ELEMENTS', 0)
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def make_block(layer, index, mode='batch', size=5, base_channels=16, **options):
    options.setdefault('spatial_bias', dict(size=size))
    net = SBResNet(50, base_channels=base_channels, norm_eval=mode != 'batch', **options).double()
    net.freeze_spatial_bias = mode == 'norm_eval'
    net.train(mode != 'eval')
    block = getattr(net, layer)[index]
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 0.5, 0.6)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return block


def results(block, x, gradient):
    """Everything a step leaves: output, gradients, running statistics."""
    out = block(x)
    out.backward(gradient.to(out))
    rows = dict(out=out, dx=x.grad)
    rows |= {f'd{name}': p.grad for name, p in block.named_parameters()}
    rows |= dict(block.named_buffers())
    return {name: row.detach().double().cpu() for name, row in rows.items()}


def error(ours, exact):
    return ((ours - exact).norm() / exact.norm().clamp(min=1e-30)).item()


CASES = [
    ('layer1', 1, (2, 64, 12, 14), 5, 'batch', {}),
    ('layer2', 0, (2, 64, 13, 9), 4, 'batch', {}),
    ('layer1', 2, (3, 64, 4, 3), 6, 'batch', {}),
    ('layer3', 0, (2, 128, 9, 11), 10, 'batch', {}),
    ('layer2', 1, (2, 128, 12, 10), 5, 'norm_eval', {}),
    ('layer2', 1, (2, 128, 12, 10), 5, 'grown', {}),
    ('layer2', 1, (1, 128, 70, 5), 3, 'batch', {}),
    ('layer1', 0, (2, 64, 8, 8), 5, 'batch', dict(spatial_bias=None)),
    ('layer2', 0, (2, 64, 8, 8), 5, 'norm_eval', dict(spatial_bias=None)),
    ('layer2', 0, (2, 64, 9, 7), 5, 'batch', dict(groups=4, base_width=16)),
    ('layer1', 1, (2, 64, 9, 7), 1, 'batch', dict(spatial_bias=dict(num_channels=13, size=1))),
]


@pytest.mark.parametrize(('layer', 'index', 'shape', 'size', 'mode', 'options'), CASES)
def test_a_step_is_as_exact_as_the_operators(
    kernels_everywhere, layer, index, shape, size, mode, options
):
    torch.manual_seed(0)
    exact = make_block(layer, index, mode, size, **options)
    ours, theirs = (copy.deepcopy(exact).float().to(DEVICE) for _ in range(2))
    theirs.kernels = False
    if not hasattr(exact, 'in_channels'):
        shape = (shape[0], exact.conv1.in_channels, *shape[2:])
    x = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        gradient = torch.randn_like(copy.deepcopy(exact)(x))
    expected = results(exact, x.clone().requires_grad_(), gradient)
    training = dispatch.kernels_for(x.float().to(DEVICE))
    errors = {}
    for name, block in (('ours', ours), ('theirs', theirs)):
        given = x.float().to(DEVICE).requires_grad_()
        got = results(block, given, gradient)
        errors[name] = {key: error(got[key], expected[key]) for key in expected}
    assert dispatch.fits(ours, training)
    for key, theirs in errors['theirs'].items():
        assert errors['ours'][key] <= max(3 * theirs, 2e-6), (key, errors['ours'][key], theirs)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(('layer', 'index', 'shape', 'size', 'mode', 'options'), CASES)
def test_half_precision(layer, index, shape, size, mode, options, dtype):
    torch.manual_seed(0)
    exact = make_block(layer, index, mode, size, base_channels=64, **options)
    shape = (shape[0], exact.conv1.in_channels, *shape[2:])
    ours, theirs = (copy.deepcopy(exact).float().to(DEVICE) for _ in range(2))
    theirs.kernels = False
    x = torch.randn(shape, dtype=torch.float64).relu()
    with torch.no_grad():
        gradient = torch.randn_like(copy.deepcopy(exact)(x))
    expected = results(exact, x.clone().requires_grad_(), gradient)
    errors = []
    for block in (ours, theirs):
        with torch.autocast('cuda', dtype):
            got = results(block, x.to(DEVICE, dtype).requires_grad_(), gradient.to(DEVICE))
        errors.append({key: error(got[key], expected[key]) for key in expected})
    for key, theirs in errors[1].items():
        assert errors[0][key] <= 2 * theirs + 2e-3, (key, errors[0][key], theirs)
