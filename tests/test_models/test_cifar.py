"""SBResNet_CIFAR, and the ablations of Table 5 in any network."""

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn
from torch.nn import functional as F

from mmsb.models import SBResNet, SBResNet_CIFAR, SpatialBias
from mmsb.models.backbones.residual_block import Bottleneck
from tests.conftest import assert_one_line
from tests.weights import randomise

BIAS = dict(position='conv2', resolution='released', num_channels=3, size=4)


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_current_instance().setLevel('WARNING')


def small(**bias):
    torch.manual_seed(0)
    return SBResNet_CIFAR(11, bias, base_channels=4)


def test_default_is_the_papers_resnet_65():
    with torch.device('meta'):
        model = SBResNet_CIFAR()
    assert sum(p.numel() for p in model.parameters()) + (256 + 1) * 100 == 768_060
    assert model.layer1[0].spatial_bias.size == 6
    assert not hasattr(model.layer3[0], 'spatial_bias')


def test_features():
    model = small().eval()
    for size in ((32, 32), (20, 28)):
        outs = model(torch.rand(1, 3, *size))
        assert [tuple(out.shape[1:]) for out in outs] == [
            (16 * 2**i, size[0] // 2**i, size[1] // 2**i) for i in range(3)
        ]


@pytest.mark.parametrize('depth', [38, 65, 110])
def test_bottlenecks_a_stage(depth):
    with torch.device('meta'):
        model = SBResNet_CIFAR(depth, base_channels=1)
    assert [len(getattr(model, name)) for name in model.res_layers] == [(depth - 2) // 9] * 3


def test_stem_and_stages_are_sbresnets():
    """One implementation: the same layers behind another stem."""
    model = randomise(small(size=4)).eval()
    two = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
    frozen = dict(frozen_stages=1, freeze_spatial_bias=True)
    other = SBResNet_CIFAR(11, dict(size=4), base_channels=4, **frozen, **two).double()
    other.load_state_dict(model.state_dict(), strict=False)
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(other.eval()(x)[0], model(x)[1])
    assert not any(p.requires_grad for p in other.layer1.parameters())
    stem = torch.relu(model.bn1(F.conv2d(x, model.conv1.weight, padding=1)))
    torch.testing.assert_close(model.layer1(stem), model(x)[0])


@pytest.mark.parametrize('bias', [
    dict(), dict(fusion='add', num_channels=1), dict(pooling='max'), dict(mixing=False),
    dict(position='conv1'), dict(stages=(True,) * 3, resolution='strided'),
])  # fmt: skip
def test_gradients_reach_every_parameter(bias):
    model = small(**bias).train()
    sum(out.square().mean() for out in model(torch.randn(4, 3, 32, 32))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_bias_0_is_the_plain_network():
    keys = small(num_channels=0).state_dict().keys()
    assert keys == SBResNet_CIFAR(11, None, base_channels=4).state_dict().keys()


class TestAblations:
    x = torch.randn(2, 8, 9, 7, dtype=torch.float64)

    def test_add(self):
        bias = dict(BIAS, num_channels=1, fusion='add')
        block = randomise(Bottleneck(8, 4, downsample=nn.Conv2d(8, 16, 1), spatial_bias=bias))
        block.eval()
        assert block.bn2.num_features == block.conv3.in_channels == 4
        u = torch.relu(block.bn1(block.conv1(self.x)))
        y = block.conv2(u) + block.spatial_bias(u, (9, 7)).expand(2, 4, 9, 7)
        y = block.bn3(block.conv3(torch.relu(block.bn2(y))))
        torch.testing.assert_close(block(self.x), torch.relu(y + block.downsample(self.x)))

    @pytest.mark.parametrize('pooling', ['avg', 'max'])
    @pytest.mark.parametrize('mixing', [True, False])
    def test_pooling_and_mixing(self, pooling, mixing):
        layer = SpatialBias(8, size=3, pooling=pooling, mixing=mixing)
        randomise(layer).eval()
        reduced = layer.reduction(self.x)
        assert reduced.shape[1] == (5 if mixing else 3)
        grid = torch.empty(2, reduced.shape[1], 3, 3, dtype=torch.float64)
        columns = [slice(0, 3), slice(2, 5), slice(4, 7)]  # of 7 pixels, overlapping
        for i in range(3):
            for j in range(3):
                cell = reduced[:, :, 3 * i : 3 * i + 3, columns[j]].flatten(2)
                grid[:, :, i, j] = cell.mean(2) if pooling == 'avg' else cell.amax(2)
        if mixing:
            weight, bias = layer.mixing.weight, layer.mixing.bias
            mixed = [torch.einsum('okn,bnk->bo', weight, grid[:, c : c + 3].flatten(2))
                     for c in range(3)]  # fmt: skip
            grid = (torch.stack(mixed, 1) + bias).view(2, 3, 3, 3)
        expected = F.interpolate(grid, (9, 7), mode='bilinear', align_corners=False)
        torch.testing.assert_close(layer(self.x, (9, 7)), expected)


@pytest.mark.parametrize('bias', [
    dict(), dict(mixing=False, num_channels=2), dict(pooling='max', position='conv1'),
])  # fmt: skip
def test_plain_weights_keep_their_function(bias):
    plain = randomise(SBResNet_CIFAR(11, None, base_channels=4)).eval()
    grown = small(**bias).double().eval()
    grown.load_state_dict(plain.state_dict(), strict=False)
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    for ours, theirs in zip(grown(x), plain(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_weights_of_its_own_load_where_nothing_grows():
    model = small(fusion='add', num_channels=1)
    small(fusion='add', num_channels=1).load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: SBResNet_CIFAR(50), 'depth is 50; give one of 11, 20, 29, 38'),
        (lambda: SBResNet_CIFAR(deep_stem=True), 'leave deep_stem out'),
        (lambda: SBResNet_CIFAR(num_stages=4), 'num_stages is 4; give one of 1, 2, 3'),
        (lambda: small(stages=(True,) * 4), 'give 3 values, one per stage'),
        (lambda: small(num_channels=-1), "num_channels'] is -1; give 0 or more"),
        (lambda: small(fusion='add'), 'give num_channels=1'),
        (lambda: small(fusion='sum'), "fusion'] is 'sum'; give one of 'concat', 'add'"),
        (lambda: small(pooling='min'), "pooling'] is 'min'; give one of 'avg', 'max'"),
        (lambda: small(mixing='no'), "mixing'] is 'no'; give one of True, False"),
        (lambda: small(fusion='add', num_channels=1).load_state_dict(
            SBResNet_CIFAR(11, None, base_channels=4).state_dict(), strict=False),
         'plain weights do not keep their function'),
        (lambda: SBResNet_CIFAR(11).load_state_dict(
            SBResNet(50, base_channels=16).state_dict(), strict=False), 'another depth'),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(make, message):
    assert_one_line(make, message)
