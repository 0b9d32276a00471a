"""Each rule of both conventions against a number worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmsb.analysis.counting import Counter, Counts, count, count_params
from mmsb.models import SBResNet, SpatialBias

# layer, input shape, MACs, operations in the paper's convention
LAYERS = {
    # 16 channels of 5 x 4, each 8 x 9 products; the bias one more
    'conv': (nn.Conv2d(8, 16, 3, 2, 1), (8, 9, 7), 320 * 72, 320 * 73),
    'conv without bias': (nn.Conv2d(8, 16, 3, bias=False), (8, 6, 6), 256 * 72, 256 * 72),
    'grouped': (nn.Conv2d(8, 16, 3, groups=4, bias=False), (8, 6, 6), 256 * 18, 256 * 18),
    'depthwise, dilated': (nn.Conv2d(8, 8, 3, dilation=2, groups=8), (8, 6, 6), 32 * 9, 32 * 10),
    'conv1d': (nn.Conv1d(4, 6, 3), (4, 5), 18 * 12, 18 * 13),
    'conv3d': (nn.Conv3d(2, 3, 2), (2, 3, 3, 3), 24 * 16, 24 * 17),
    # 4 x 3 x 3 inputs reach 6 x 2 x 2 outputs each; 6 x 6 x 6 biases
    'transposed': (nn.ConvTranspose2d(4, 6, 2, 2), (4, 3, 3), 36 * 24, 36 * 24 + 216),
    'linear': (nn.Linear(10, 7), (10,), 70, 70),
    'linear of a sequence': (nn.Linear(10, 7, bias=False), (5, 10), 350, 350),
    'batch norm': (nn.BatchNorm2d(4), (4, 3, 5), 0, 2 * 60),
    'batch norm 1d': (nn.BatchNorm1d(4), (4, 3), 0, 2 * 12),
    'sync batch norm': (nn.SyncBatchNorm(4), (4, 3, 5), 0, 2 * 60),
    'average pool': (nn.AvgPool2d(2), (4, 6, 6), 0, 36),
    'global pool': (nn.AdaptiveAvgPool2d(1), (4, 6, 5), 0, 4 * (30 + 1)),
    'uneven adaptive pool': (nn.AdaptiveAvgPool2d(2), (4, 7, 5), 0, 16 * (3 * 2 + 1)),
    'adaptive pool of a smaller map': (nn.AdaptiveAvgPool2d(10), (4, 7, 7), 0, 400 * (0 + 1)),
    'bilinear': (nn.Upsample(scale_factor=2, mode='bilinear'), (4, 3, 3), 0, 11 * 144),
    'bilinear to a size': (nn.Upsample(size=(5, 7), mode='bilinear'), (4, 3, 3), 0, 11 * 140),
    'nearest': (nn.Upsample(scale_factor=2), (4, 3, 3), 0, 0),
    'relu': (nn.ReLU(), (4, 3, 3), 0, 0),
    'max pool': (nn.MaxPool2d(2), (4, 6, 6), 0, 0),
    'adaptive max pool': (nn.AdaptiveMaxPool2d(2), (4, 6, 6), 0, 0),
    'layer norm': (nn.LayerNorm(6), (4, 6, 6), 0, 0),
    'softmax': (nn.Softmax(dim=1), (4, 6, 6), 0, 0),
    'sigmoid': (nn.Sigmoid(), (4, 6, 6), 0, 0),
}
PRODUCTS = {  # 6 x 4 by 4 x 5
    '@': lambda a, b: a @ b,
    'matmul': torch.matmul,
    'bmm': torch.bmm,
    'mm': lambda a, b: torch.mm(a[0], b[0]),
    'einsum': lambda a, b: torch.einsum('bik,bkj->bij', a, b),
    'addmm': lambda a, b: torch.addmm(a.new_zeros(6, 5), a[0], b[0]),
    'columns': lambda a, b: [a[0] @ column for column in b[0].T],
    'one by one': lambda a, b: [torch.dot(row, column) for row in a[0] for column in b[0].T],
    'baddbmm': lambda a, b: torch.baddbmm(a.new_zeros(1, 6, 5), a, b),
}


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('name', LAYERS)
def test_a_layer(name, device):
    layer, shape, macs, thop = LAYERS[name]
    found = count(layer.to(device), torch.empty(1, *shape, device=device))
    params = sum(p.numel() for p in layer.parameters())
    assert found == Counts(params=params, macs=macs, thop=thop, matmul_macs=0)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('name', PRODUCTS)
def test_products_of_activations_stand_alone(name, device):
    a, b = torch.rand(1, 6, 4, device=device), torch.rand(1, 4, 5, device=device)
    with Counter() as counter:
        PRODUCTS[name](a, b)
    assert counter.counts == Counts(matmul_macs=6 * 4 * 5)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_spatial_bias(device):
    layer = SpatialBias(8, num_channels=3, size=2).to(device)
    found = count(layer, torch.rand(1, 8, 6, 4, device=device), (6, 4))
    reduction, mixing = 5 * 24 * 8, 4 * 3 * (4 * 3)
    norm, pool, bias, upsample = 2 * 120, 20 * (3 * 2 + 1), 12, 11 * 3 * 24
    assert found == Counts(
        params=8 * 5 + 2 * 5 + 4 * 4 * 3 + 4,
        macs=reduction + mixing,
        thop=reduction + mixing + norm + pool + bias + upsample,
    )


class Calling(nn.Module):
    """Calls functions itself, which thop does not see, and a layer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 2, 1, 1))
        self.layer = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, x):
        x = F.interpolate(F.conv2d(x, self.weight), scale_factor=2, mode='bilinear')
        return self.layer(x)


def test_the_papers_convention_sees_layers_only():
    found = count(Calling(), torch.rand(1, 2, 3, 3))
    conv, layer = 3 * 9 * 2, 4 * 36 * 3
    assert found == Counts(params=6 + 12, macs=conv + layer, thop=layer)


def test_shared_parameters_count_once_and_buffers_not():
    layer = nn.Linear(3, 4)
    assert count_params(nn.Sequential(layer, layer, nn.BatchNorm1d(4))) == 16 + 8


def test_nothing_is_left_behind():
    model = Calling()
    with pytest.raises(RuntimeError, match='2 channels'), Counter() as counter:
        model(torch.rand(1, 5, 3, 3))
    x = torch.rand(1, 2, 3, 3)
    with Counter() as counter:
        pass
    model(x)  # outside
    assert counter.counts == Counts()
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_numbers_are_untouched():
    model, x = SBResNet(18).eval(), torch.rand(2, 3, 40, 56)
    with torch.no_grad():
        expected = model(x)
        with Counter():
            found = model(x)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('batch', [1, 2])
def test_a_network_against_torchs_own_counter(device, batch):
    attention = dict(type='NonLocal2d', reduction=2, mode='embedded_gaussian')
    plugins = [dict(cfg=attention, position='after_conv2')]
    model, x = SBResNet(18, plugins=plugins).to(device), torch.rand(batch, 3, 40, 56).to(device)
    found = count(model, x)
    with torch.no_grad(), FlopCounterMode(display=False) as theirs:
        model(x)
    assert found.matmul_macs > 0
    assert 2 * (found.macs + found.matmul_macs) == theirs.get_total_flops()
