"""Fast forms of spatial bias, against the plain one: the norm by parts, and folded norms."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmsb.models import SBResNet, fuse_spatial_bias
from mmsb.models.backbones.settings import SPATIAL_BIAS
from mmsb.models.layers import widened_norm
from mmsb.registry import MODELS
from mmsb.studies.paper.networks import paper_networks
from tests.conftest import assert_one_line
from tests.weights import randomise

NETWORKS = {name: row['backbone_cfg'] for name, row in paper_networks().items()}
# One of each kind: every other row differs from one of them in numbers alone.
ROWS = [
    ('T1', 'R38 s(1, 2, 3)'), ('T2', 'R65 conv1 (1, 2)'), ('T5', 'Add b=1 broadcast'),
    ('T5', 'Maxpool'), ('T5', "Pool only (C'=3, no conv1d)"), ('T6', 'R50'),
    ('T6', 'R50 SB (1, 2, 3)'), ('T8', 'SRM'), ('T8', 'GE-theta'), ('T8', 'SB-SE'),
    ('T8', 'SB-SK cat-BN=sb'), ('T8', 'SB-SK cat-BN=full'), ('T9', 'SB-NL'), ('T9', 'SB-GC'),
    ('T9', 'SB-BAT'), ('T10', 'Reduced NL (t,p,g,z on 10x10)'),
]  # fmt: skip


def build(cfg):
    """A backbone as if trained: in float64, with statistics of its own, its outputs of order 1."""
    torch.manual_seed(0)
    model = MODELS.build(cfg).double().train()
    model.init_weights()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.uniform_(norm.bias, -0.5, 0.5)
            norm.momentum = None  # the statistics are those of the batches seen
    with torch.no_grad():  # images enough for every norm's variance to be well away from 0
        model(torch.randn(6, 3, 48, 48, dtype=torch.float64))
    return model.eval()


X50 = dict(type='SBResNet', depth=50, groups=8, base_width=16)
CFGS = {' '.join(row): NETWORKS[row] for row in ROWS} | {
    'x50': X50,
    'no affine': dict(type='SBResNet', depth=50, norm_cfg=dict(type='BN', affine=False)),
    # the widened convolution behind a plugin, which knows nothing of its padding
    'plugin': dict(
        type='SBResNet',
        plugins=[dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position='after_conv2')],
    ),
}


@pytest.mark.parametrize('name', CFGS)
def test_fused_equals_unfused(name):
    model = build(CFGS[name])
    fused = fuse_spatial_bias(copy.deepcopy(model))
    image = torch.randn(1, 3, 40, 24, dtype=torch.float64)
    with torch.no_grad():
        for ours, plain in zip(fused(image), model(image), strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


def test_no_norm_remains_behind_a_convolution():
    for spatial_bias in (None, SPATIAL_BIAS):
        fused = fuse_spatial_bias(SBResNet(50, spatial_bias=spatial_bias).eval())
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


def test_fused_again_stays_as_it_is():
    model = fuse_spatial_bias(build(dict(type='SBResNet', depth=18)))
    image = torch.randn(1, 3, 40, 24, dtype=torch.float64)
    with torch.no_grad():
        once = model(image)
        twice = fuse_spatial_bias(model)(image)
    torch.testing.assert_close(twice, once, rtol=0, atol=0)


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', [(7, 9), (33, 50)])  # a map smaller than the grid; odd sizes
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('cfg', [
    dict(type='SBResNet', depth=50),
    X50,
    dict(type='SBResNet', depth=50, conv_cfg=dict(type='Conv2d', padding_mode='replicate')),
], ids=['r50', 'x50', 'padding'])  # fmt: skip
def test_fused_in_float32(batch, size, memory_format, cfg):
    stage = dict(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    model = build(dict(cfg, **stage))
    image = torch.randn(batch, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = model(image)
        fused = fuse_spatial_bias(model).float().to(memory_format=memory_format)
        # every other column of a larger image: not contiguous in any format
        strided = image.float().repeat_interleave(2, dim=3)[..., ::2]
        for x in (image.float().contiguous(memory_format=memory_format), strided):
            for ours, exact in zip(fused(x), expected, strict=True):
                error = (ours - exact).abs().max() / exact.abs().max()
                assert error < 1e-5


def test_refuses_training_mode():
    model = SBResNet(18, base_channels=4)
    assert_one_line(lambda: fuse_spatial_bias(model), 'call model.eval() first')
    model.eval().layer1.train()
    assert_one_line(lambda: fuse_spatial_bias(model), 'call model.eval() first')
    model = SBResNet(18, base_channels=4, norm_cfg=dict(type='BN', track_running_stats=False))
    assert_one_line(lambda: fuse_spatial_bias(model.eval()), 'without running statistics')


@pytest.mark.parametrize('momentum', [0.1, None])
def test_norm_by_parts_equals_the_norm_of_the_whole(momentum):
    whole = randomise(nn.BatchNorm2d(7, momentum=momentum))
    parts = copy.deepcopy(whole)
    tensors = [torch.randn(2, channels, 5, 3, dtype=torch.float64) for channels in (4, 3)]
    outs, grads = [], []
    for norm in (whole, parts):
        features, maps = inputs = [tensor.clone().requires_grad_() for tensor in tensors]
        if norm is whole:
            out = norm(torch.cat(inputs, dim=1))
        else:
            out = widened_norm.widened_norm(norm, features, maps, False)
        out.square().cumsum(0).sum().backward()
        outs.append(out)
        grads.append([tensor.grad for tensor in (*inputs, *norm.parameters())])
    torch.testing.assert_close(outs[1], outs[0])
    torch.testing.assert_close(grads[1], grads[0])
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, msg=name)


def test_training_takes_the_norm_by_parts(monkeypatch):
    # The plain way is that of a norm type that the fast one does not know.
    class OtherBatchNorm(nn.BatchNorm2d):
        pass

    torch.manual_seed(0)
    fast = SBResNet(50, base_channels=8).double()
    plain = copy.deepcopy(fast)
    for norm in plain.modules():
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = OtherBatchNorm
    calls = []
    by_parts = widened_norm._normalise_by_parts
    monkeypatch.setattr(
        widened_norm, '_normalise_by_parts', lambda *args: (calls.append(args), by_parts(*args))[1]
    )
    image = torch.randn(2, 3, 64, 40, dtype=torch.float64)
    for number, model in ((13, fast), (0, plain)):
        calls.clear()
        sum(F.gelu(out).mean() for out in model(image)).backward()
        assert len(calls) == number
    for (name, ours), theirs in zip(fast.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9, msg=name)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[name], tensor, msg=name)


def test_autocast_keeps_the_features_type():
    model = SBResNet(50, base_channels=8)
    seen = []
    for block in model.layer1:
        block.conv3.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    for prepare in (model.train, model.eval, lambda: fuse_spatial_bias(model)):
        prepare()
        with torch.autocast('cpu', torch.bfloat16):
            model(torch.randn(2, 3, 64, 64))
    assert set(seen) == {torch.bfloat16} and len(seen) == 9
