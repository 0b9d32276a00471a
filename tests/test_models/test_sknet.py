"""SKNet with and without spatial bias."""

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from mmsb.models import SBSKNet, SKNet
from mmsb.models.backbones.sb_sknet import SKBottleneck
from tests.conftest import assert_one_line
from tests.weights import randomise

SMALL = dict(base_channels=16, stem_channels=8, groups=4)


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_current_instance().setLevel('WARNING')


def small(**bias):
    torch.manual_seed(0)
    return SBSKNet(spatial_bias=dict(size=4, **bias), **SMALL)


def parameters(model):
    return sum(p.numel() for p in model.parameters()) + (model.feat_dim + 1) * 1000


def test_parameters_of_the_paper():
    with torch.device('meta'):
        assert parameters(SKNet()) == 27_494_888
        assert parameters(SBSKNet()) == 27_935_676


def test_the_plain_network_is_sknet():
    keys = SKNet(**SMALL).state_dict().keys()
    assert keys == SBSKNet(spatial_bias=None, **SMALL).state_dict().keys()
    assert not any('bn2' in key or 'spatial_bias' in key for key in keys)


@pytest.mark.parametrize('norm', ['maps', 'all', 'none'])
def test_block_in_the_papers_order(norm):
    bias = dict(position='conv2', resolution='released', num_channels=3, size=4, norm=norm)
    block = SKBottleneck(8, 16, 2, groups=4, downsample=nn.Conv2d(8, 32, 1, 2), spatial_bias=bias)
    randomise(block).eval()
    x = torch.randn(2, 8, 9, 7, dtype=torch.float64)
    u = torch.relu(block.bn1(block.conv1(x)))
    y, maps = block.conv2(u), block.spatial_bias(u, (5, 4))
    if norm == 'all':
        o = torch.relu(block.bn2(torch.cat([y, maps], 1)))
    else:
        o = torch.cat([y, torch.relu(block.bn2(maps)) if norm == 'maps' else maps], 1)
    expected = torch.relu(block.bn3(block.conv3(o)) + block.downsample(x))
    torch.testing.assert_close(block(x), expected)


def test_features_and_gradients():
    model = small().train()
    model.init_weights()
    outs = model(torch.randn(2, 3, 64, 96))
    assert [tuple(out.shape[1:]) for out in outs] == [
        (32, 16, 24), (64, 8, 12), (128, 4, 6), (256, 2, 3)]  # fmt: skip
    sum(out.square().mean() for out in outs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize('norm', ['maps', 'none'])
def test_plain_weights_keep_their_function(norm):
    plain = randomise(SKNet(**SMALL)).float().eval()
    grown = small(norm=norm).eval()
    grown.load_state_dict(plain.state_dict(), strict=False)
    x = torch.rand(1, 3, 40, 64)
    for ours, theirs in zip(grown(x), plain(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_frozen_and_norm_eval():
    model = SBSKNet(frozen_stages=1, norm_eval=True, freeze_spatial_bias=True, **SMALL).train()
    assert not any(p.requires_grad for p in model.layer1.parameters())
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: SBSKNet(groups=24), 'SelectiveKernel: 128 channels do not divide into 24 groups'),
        (lambda: SKNet(groups=0), '128 channels do not divide into 0 groups'),
        (lambda: SKNet(depth=18), 'depth is 18; give one of 50, 101'),
        (lambda: small(position='conv1'), "position'] is 'conv1'; give one of 'conv2'"),
        (lambda: small(fusion='add', num_channels=1), "fusion'] is 'add'; give one of 'concat'"),
        (lambda: small(norm='BN'), "norm'] is 'BN'; give one of 'maps', 'all', 'none'"),
        (lambda: SKNet(dcn=dict(type='DCN')), 'SKNet has no plain 3x3 convolution for dcn'),
        (lambda: SBSKNet(base_width=8), 'SBSKNet takes its width from base_channels alone'),
        (lambda: small(norm='all').load_state_dict(SKNet(**SMALL).state_dict(), strict=False),
         'plain weights do not keep their function'),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(make, message):
    assert_one_line(make, message)
