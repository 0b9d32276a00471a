"""The norm over features and maps: the gradients it gets, its second derivatives, compiling it."""

import copy

import pytest
import torch
from torch import nn

from mmsb.models import SBResNet
from mmsb.models.layers import widened_norm
from tests.weights import randomise


@pytest.mark.parametrize('held', [False, True])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_batch_norm_gets_contiguous_gradients(layout, held, monkeypatch):
    """For others, its backward pass on a CPU is several times slower."""
    given, batch_norm = {}, widened_norm.F.batch_norm

    def record(x, *args, **kwargs):
        out = batch_norm(x, *args, **kwargs)
        out.grad_fn.register_prehook(lambda gradients: given.update({x.shape[1]: gradients[0]}))
        return out

    monkeypatch.setattr(widened_norm.F, 'batch_norm', record)
    features, maps = (
        torch.randn(2, channels, 5, 6).contiguous(memory_format=layout).requires_grad_()
        for channels in (8, 3)
    )
    out = widened_norm.widened_norm(nn.BatchNorm2d(11), features, maps, held)
    assert out.is_contiguous(memory_format=layout)
    gradient = torch.randn(2, 11, 5, 6).contiguous(memory_format=layout)
    out.backward(gradient)
    for expected in gradient.split([8, 3], dim=1):
        part = given.pop(expected.shape[1])
        assert torch.equal(part, expected) and part.is_contiguous(memory_format=layout)


@pytest.mark.parametrize('held', [False, True])
def test_first_and_second_derivatives(held):
    torch.manual_seed(0)
    norm = randomise(nn.BatchNorm2d(4))
    inputs = [torch.randn(2, n, 2, 2, dtype=torch.float64, requires_grad=True) for n in (2, 2)]

    def function(features, maps, *parameters):
        other = torch.func.functional_call(Joint(copy.deepcopy(norm), held), {
            f'norm.{name}': tensor
            for name, tensor in zip(('weight', 'bias'), parameters, strict=True)
        }, (features, maps))  # fmt: skip
        return other.sin()

    arguments = (*inputs, *norm.parameters())
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


class Joint(nn.Module):
    def __init__(self, norm, held):
        super().__init__()
        self.norm, self.held = norm, held

    def forward(self, features, maps):
        return widened_norm.widened_norm(self.norm, features, maps, self.held)


@pytest.mark.parametrize('held', [False, True])
def test_compiles_without_a_graph_break(held):
    torch.manual_seed(0)
    block = SBResNet(base_channels=8, spatial_bias=dict(size=4)).double().layer2[1]
    block.features_norm_held = held
    other = copy.deepcopy(block)
    compiled = torch.compile(other, fullgraph=True, backend='aot_eager')  # raises at a break
    for mode in (True, False):
        block.train(mode)
        other.train(mode)
        x = torch.randn(2, 64, 6, 5, dtype=torch.float64)
        outs = []
        for run, module in ((block, block), (compiled, other)):
            out = run(x)
            outs.append([out, *torch.autograd.grad(out.square().sum(), [*module.parameters()])])
        torch.testing.assert_close(outs[1], outs[0])
    torch.testing.assert_close(other.state_dict(), block.state_dict())
