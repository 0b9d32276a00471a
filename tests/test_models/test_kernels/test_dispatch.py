"""Which way a block runs: in kernels (in Triton's interpreter, or on a GPU) or in operators."""

import copy
import importlib
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmsb.models import SBResNet, SBSKNet
from mmsb.models.kernels import dispatch

pytest.importorskip('triton', minversion='3.2')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
SMALL = dict(depth=50, base_channels=16, spatial_bias=dict(size=4))


@pytest.fixture
def kernels_everywhere(monkeypatch):
    monkeypatch.setattr(dispatch, 'DEVICES', ('cuda', 'cpu'))
    monkeypatch.setattr(dispatch, 'LEAST_ELEMENTS', 0)
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def bottleneck(x, **options):
    """A block's output in kernels, None where operators have to run."""
    torch.manual_seed(0)
    block = SBResNet(**{**SMALL, **options}).to(DEVICE).layer2[1]
    return dispatch.bottleneck(block, x.to(DEVICE))


X = torch.rand(2, 128, 6, 5)


@pytest.mark.parametrize(
    ('options', 'runs'),
    [
        (dict(), True),
        (dict(spatial_bias=None), True),
        (dict(spatial_bias=dict(num_channels=13)), True),
        (dict(spatial_bias=dict(kernel_size=1)), True),
        (dict(norm_eval=True), True),
        (dict(groups=2), True),
        (dict(spatial_bias=dict(num_channels=14)), False),
        (dict(spatial_bias=dict(size=33)), False),
        (dict(spatial_bias=dict(pooling='max')), False),
        (dict(spatial_bias=dict(mixing=False)), False),
        (dict(spatial_bias=dict(fusion='add', num_channels=1)), False),
        (dict(spatial_bias=dict(position='conv1')), False),
        (dict(spatial_bias=dict(resolution='strided')), True),  # this block has no stride
        (dict(norm_cfg=dict(type='IN')), False),
        (dict(norm_cfg=dict(type='BN', affine=False)), False),
        (dict(norm_cfg=dict(type='BN', momentum=None)), False),
        (dict(drop_path_rate=0.5), False),
        (dict(base_channels=12), False),
        (
            dict(plugins=[dict(cfg=dict(type='ContextBlock', ratio=0.25), position='after_conv2')]),
            False,
        ),
    ],
)
def test_which_blocks_run_in_kernels(kernels_everywhere, options, runs):
    channels = 8 * options.get('base_channels', 16)
    x = torch.rand(2, channels, 6, 5)
    out = bottleneck(x, **options)
    assert (out is not None) == runs
    if runs:
        theirs = SBResNet(**{**SMALL, **options}, kernels=False)
        torch.manual_seed(0)
        theirs = SBResNet(**{**SMALL, **options}, kernels=False).to(DEVICE).layer2[1]
        torch.testing.assert_close(out, theirs(x.to(DEVICE)), rtol=1e-4, atol=1e-4)


def test_other_tensors_run_in_operators(kernels_everywhere):
    assert bottleneck(X) is not None
    assert bottleneck(X[:0]) is None
    assert bottleneck(X.double(), norm_cfg=dict(type='BN')) is None
    assert dispatch.kernels_for(X[0]) is None
    assert torch.func.vmap(lambda x: torch.ones(()) * (dispatch.kernels_for(x[None]) is None))(
        X
    ).all()
    traced = torch.jit.trace(
        lambda x: x * float(dispatch.kernels_for(x) is None), X, check_trace=False
    )
    assert torch.equal(traced(X), X)


def test_blocks_that_are_not_bottlenecks_run_in_operators(kernels_everywhere, monkeypatch):
    monkeypatch.setattr(dispatch, 'bottleneck', lambda *_: pytest.fail('a bottleneck'))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for model in (SBResNet(18, base_channels=8), SBSKNet(groups=2, base_channels=16)):
            model.eval()(image)


def test_small_features_without_spatial_bias_run_in_operators(kernels_everywhere, monkeypatch):
    plain = dict(spatial_bias=None)
    assert bottleneck(X, **plain) is not None
    monkeypatch.setattr(dispatch, 'LEAST_ELEMENTS', X.numel() + 1)
    assert bottleneck(X, **plain) is None
    assert bottleneck(X) is not None
    x = X.to(DEVICE)
    norm = nn.BatchNorm2d(128).to(DEVICE)
    assert dispatch.norm_relu(x, norm, nn.ReLU()) is None
    monkeypatch.setattr(dispatch, 'LEAST_ELEMENTS', X.numel())
    torch.testing.assert_close(
        dispatch.norm_relu(x, norm, nn.ReLU()), norm(x).relu(), rtol=1e-4, atol=1e-4
    )


def test_hooks_are_called(kernels_everywhere):
    block = SBResNet(**SMALL).to(DEVICE).layer2[1]
    assert dispatch.bottleneck(block, X.to(DEVICE)) is not None
    seen = []
    block.spatial_bias.reduction.bn.register_forward_hook(lambda *_: seen.append(1))
    assert dispatch.bottleneck(block, X.to(DEVICE)) is None
    block(X.to(DEVICE))
    assert seen == [1]


def test_the_switches(kernels_everywhere, monkeypatch):
    calls = []
    real = dispatch.bottleneck
    monkeypatch.setattr(
        dispatch, 'bottleneck', lambda *args: calls.append(real(*args) is not None) or real(*args)
    )
    image = torch.rand(1, 3, 64, 64).to(DEVICE)
    with torch.no_grad():
        SBResNet(**SMALL, kernels=False).to(DEVICE).eval()(image)
        assert not calls
        SBResNet(**SMALL).to(DEVICE).eval()(image)
        assert calls == [True] * 16
    said = []
    monkeypatch.setattr(dispatch, 'print_log', lambda text, *_: said.append(text))
    monkeypatch.setenv('MMSB_KERNELS', 'off')
    assert dispatch._kernels.__wrapped__(DEVICE) is None
    assert said == ['MMSB_KERNELS=off: batch norms and spatial bias run in PyTorch operators']


@pytest.mark.parametrize('fault', ['import', 'result'])
def test_kernels_that_do_not_work_are_said_once(monkeypatch, fault):
    said = []
    monkeypatch.setattr(dispatch, 'print_log', lambda text, *_: said.append(text))
    if fault == 'import':
        monkeypatch.setitem(sys.modules, 'mmsb.models.kernels.training', None)
    else:
        training = importlib.import_module('mmsb.models.kernels.training')
        monkeypatch.setattr(training, '_combine_gradients', lambda part, stats, *_, into: (
            torch.zeros_like(stats[:2]), stats[0], stats[0], None))  # fmt: skip
    assert dispatch._kernels.__wrapped__(DEVICE) is None
    (line,) = said
    assert (
        line.startswith('batch norms and spatial bias run in PyTorch operators')
        and ('training' if fault == 'import' else 'something else') in line
        and '\n' not in line
    )


@pytest.mark.parametrize('capability', [(7, 5), (8, 0)])
def test_old_gpus_run_operators(monkeypatch, capability):
    said = []
    monkeypatch.setattr(dispatch, 'print_log', lambda text, *_: said.append(text))
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: capability)
    monkeypatch.setattr(torch.version, 'hip', None)
    monkeypatch.setattr(dispatch, '_test', lambda *_: None)
    works = dispatch._kernels.__wrapped__('cuda') is not None
    assert works == (capability == (8, 0))
    ends = 'in Triton kernels' if works else 'they are for NVIDIA GPUs from Ampere on'
    assert len(said) == 1 and said[0].endswith(ends)


def test_weights_are_channels_last_where_kernels_run(kernels_everywhere):
    last = torch.channels_last
    for kernels in (True, False):
        model = SBResNet(**SMALL, kernels=kernels).to(DEVICE)
        weights = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1]
        assert all(w.is_contiguous(memory_format=last) == kernels for w in weights)
        assert weights


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('training', [True, False])
def test_nan_and_infinity_pass(kernels_everywhere, training, value):
    torch.manual_seed(0)
    ours = SBResNet(**SMALL).to(DEVICE).layer2[1].train(training)
    theirs = copy.deepcopy(ours)
    theirs.kernels = False
    x = X.to(DEVICE).clone()
    x[1, 5, 2, 3] = value
    outs = [block(x) for block in (ours, theirs)]
    images = [out.isfinite().flatten(1).all(1).tolist() for out in outs]
    assert images[0] == images[1] == [not training, False]
    if value != value:
        assert torch.equal(outs[0].isnan(), outs[1].isnan())
    if not training:
        torch.testing.assert_close(outs[0][0], outs[1][0], rtol=1e-4, atol=1e-4)


def test_one_value_per_channel_cannot_be_normalised(kernels_everywhere):
    for kernels in (True, False):
        block = SBResNet(**SMALL, kernels=kernels).to(DEVICE).layer2[1].train()
        with pytest.raises(ValueError, match='Expected more than 1 value per channel'):
            block(X[:1, :, :1, :1].to(DEVICE))


def test_checkpointing_gives_the_same_gradients(kernels_everywhere):
    torch.manual_seed(0)
    plain = SBResNet(**SMALL).to(DEVICE).layer2[0]
    checkpointed = copy.deepcopy(plain)
    checkpointed.with_cp = True
    inputs = [torch.rand(2, 64, 9, 7, device=DEVICE).requires_grad_() for _ in range(1)] * 2
    grads = []
    for block, x in zip((plain, checkpointed), inputs, strict=True):
        x.grad = None
        block(x).square().sum().backward()
        grads.append([x.grad.clone(), *(p.grad for p in block.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert checkpointed.bn1.num_batches_tracked == 2  # as PyTorch's operators


def test_backward_passes_over_a_part_of_the_graph_leave_nothing_behind(kernels_everywhere):
    block = SBResNet(50, base_channels=16).layer1[1]
    x = torch.randn(2, 64, 9, 8)
    out = block(x)
    torch.autograd.grad(out.square().sum(), block.conv2.weight, retain_graph=True)
    ours = torch.autograd.grad(out.sum(), list(block.parameters()))
    block.kernels = False
    theirs = torch.autograd.grad(block(x).sum(), list(block.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_second_derivatives_are_refused(kernels_everywhere):
    block = SBResNet(**SMALL).to(DEVICE).layer2[1]
    x = X.to(DEVICE).requires_grad_()
    with pytest.raises(
        RuntimeError, match='no second derivatives: give the backbone kernels=False'
    ):
        torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    block.kernels = False
    (gradient,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    torch.autograd.grad(gradient.sum(), x)


def test_results_are_the_same_in_every_run(kernels_everywhere):
    block = SBResNet(**SMALL).to(DEVICE).layer2[1]
    runs = []
    for _ in range(2):
        x = X.detach().to(DEVICE).clone().requires_grad_()
        twin = copy.deepcopy(block)
        out = twin(x)
        out.square().sum().backward()
        runs.append([out.detach(), x.grad, *(p.grad for p in twin.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_memory_kept_for_the_backward_pass(kernels_everywhere):
    """Bytes that autograd keeps, SB over plain, as the paper's network trains on ImageNet."""
    training = importlib.import_module('mmsb.models.kernels.training')
    kept = []
    for spatial_bias in (None, dict()):
        storages, held = {}, []

        def pack(tensor, storages=storages, held=held):
            if not isinstance(tensor, nn.Parameter):
                storages[id(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
            held.append(tensor)  # or another storage might take its place
            return tensor

        with torch.device('meta'):
            model = SBResNet(50, spatial_bias=spatial_bias)
            x = torch.zeros(128, 3, 224, 224)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dispatch, 'DEVICES', ('meta',))
            patch.setattr(dispatch, 'LEAST_ELEMENTS', 0)
            patch.setattr(dispatch, '_kernels', lambda _: training)
            patch.setattr(training, 'launch', lambda *args, **kwargs: None)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                outs = model(x)
        kept.append(sum(storages.values()))
        assert len(outs) == 4
    assert 1.0 < kept[1] / kept[0] < 1.03


def test_what_the_kernels_do_not_compute_is_said_once(monkeypatch):
    training = importlib.import_module('mmsb.models.kernels.training')
    said = []
    monkeypatch.setattr(dispatch, 'print_log', lambda text, *_: said.append(text))
    monkeypatch.setattr(dispatch, 'kernels_for', lambda x: training)
    dispatch._say_once.cache_clear()
    block = SBResNet(50, base_channels=16, norm_cfg=dict(type='IN', affine=True)).layer1[1]
    on_gpu = SimpleNamespace(is_cuda=True, numel=lambda: 2**25)
    assert all(dispatch.bottleneck(block, on_gpu) is None for _ in range(2))
    assert len(said) == 1 and said[0].endswith(('batch norms', 'of another name', 'in float32'))
    dispatch.bottleneck(block, SimpleNamespace(is_cuda=False))
    assert len(said) == 1
