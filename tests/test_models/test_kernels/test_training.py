"""Kernels of training, in Triton's interpreter or on a GPU, against float64 and the operators."""

import copy
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmsb.models import SBResNet

pytest.importorskip('triton', minversion='3.2')
from mmsb.models.kernels import dispatch, launching

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture
def kernels_everywhere(monkeypatch):
    monkeypatch.setattr(dispatch, 'DEVICES', ('cuda', 'cpu'))
    monkeypatch.setattr(dispatch, 'LEAST_ELEMENTS', 0)
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def make_block(layer, index, mode='batch', size=5, base_channels=16, **options):
    options.setdefault('spatial_bias', dict(size=size))
    net = SBResNet(
        50,
        base_channels=base_channels,
        norm_eval=mode != 'batch',
        freeze_spatial_bias=mode == 'norm_eval',
        **options,
    ).double()
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


class _Stream:
    """Notes what a CUDA stream is told."""

    def __init__(self, name, told):
        self.name, self.told, self.cuda_stream = name, told, name

    def wait_stream(self, other):
        self.told.append(f'{self.name} waits for {other.name}')


def test_the_second_stream_waits_and_is_waited_for(monkeypatch):
    told = []
    streams = [_Stream('first', told)]

    @contextmanager
    def within(stream):
        streams.append(stream)
        yield
        streams.pop()

    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: streams[-1])
    monkeypatch.setattr(torch.cuda, 'Stream', lambda device, priority: _Stream('second', told))
    monkeypatch.setattr(torch.cuda, 'stream', within)
    monkeypatch.setattr(launching, 'LEAST_BESIDE', 4)
    monkeypatch.setattr(launching.Beside, '_streams', {})
    read = torch.zeros(4)
    kept = weakref.ref(read)
    beside = launching.Beside(SimpleNamespace(device=read.device, is_cuda=True, numel=lambda: 4))
    with beside.run(read):
        told.append(streams[-1].name)
    del read
    assert kept() is not None  # or the first stream could use its memory for something else
    beside.join()
    beside.join()
    assert told == ['second waits for first', 'second', 'first waits for second']
    assert kept() is None
    for small in (torch.zeros(4), SimpleNamespace(device=None, is_cuda=True, numel=lambda: 3)):
        beside = launching.Beside(small)
        with beside.run():
            assert streams[-1].name == 'first'
        beside.join()
    assert len(told) == 3


@pytest.mark.cuda
@cuda
def test_the_second_stream_changes_nothing(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'deterministic', True)
    torch.manual_seed(0)
    network = SBResNet(50, base_channels=64).cuda()
    x = torch.randn(4, 3, 128, 96, device='cuda')
    steps = []
    for least in (float('inf'), 0, 0):
        monkeypatch.setattr(launching, 'LEAST_BESIDE', least)
        network_now = copy.deepcopy(network)
        for _ in range(3):
            outs = network_now(x)
            torch.autograd.backward(list(outs), [out.sign() for out in outs])
        steps.append([*outs, *(p.grad for p in network_now.parameters()), *network_now.buffers()])
    for inorder, *others in zip(*steps, strict=True):
        assert all(torch.equal(inorder, other) for other in others)
