"""SpatialBias against the paper's equations, written out in loops."""

import numpy as np
import pytest
import torch
from torch import nn

from mmsb.models import SpatialBias

EPS = 1e-5


def naive_spatial_bias(x, weights, size, kernel_size, stride, out_size):
    """Section 3 of the paper for one image, in plain Python and numpy; no torch operator."""
    w, gamma, beta, mean, var, mix, mix_bias = weights
    x = x[:, ::stride, ::stride]
    _, height, width = x.shape
    reduced = np.empty((len(w), height, width))
    for c in range(len(w)):
        value = sum(w[c, k] * x[k] for k in range(len(x)))
        value = (value - mean[c]) / np.sqrt(var[c] + EPS) * gamma[c] + beta[c]
        reduced[c] = np.maximum(value, 0)
    pooled = np.empty((len(w), size, size))
    for i in range(size):  # a cell spans floor(i H / S) to ceil((i + 1) H / S)
        rows = slice(i * height // size, -(-(i + 1) * height // size))
        for j in range(size):
            columns = slice(j * width // size, -(-(j + 1) * width // size))
            pooled[:, i, j] = reduced[:, rows, columns].mean(axis=(1, 2))
    num_channels = len(w) - kernel_size + 1
    maps = np.empty((num_channels, size, size))
    cells = [(i, j) for i in range(size) for j in range(size)]
    for out, (i, j) in enumerate(cells):
        for b in range(num_channels):
            maps[b, i, j] = mix_bias[out] + sum(
                mix[out, k, n] * pooled[b + n, p, q]
                for k, (p, q) in enumerate(cells)
                for n in range(kernel_size)
            )
    result = np.empty((num_channels, *out_size))
    for y in range(out_size[0]):
        for x_ in range(out_size[1]):
            result[:, y, x_] = bilinear(
                maps, (y + 0.5) * size / out_size[0] - 0.5, (x_ + 0.5) * size / out_size[1] - 0.5
            )
    return result


def bilinear(maps, y, x):
    """Samples maps at a point; points outside take the border's value."""
    size = maps.shape[1]
    y, x = min(max(y, 0), size - 1), min(max(x, 0), size - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, size - 1), min(x0 + 1, size - 1)
    dy, dx = y - y0, x - x0
    top = maps[:, y0, x0] * (1 - dx) + maps[:, y0, x1] * dx
    bottom = maps[:, y1, x0] * (1 - dx) + maps[:, y1, x1] * dx
    return top * (1 - dy) + bottom * dy


@pytest.mark.parametrize(
    ('shape', 'out_size', 'kwargs'),
    [
        ((1, 6, 9, 14), (9, 14), dict(size=4)),
        ((2, 6, 3, 5), (3, 5), dict(size=4)),  # a map smaller than the grid
        ((1, 6, 9, 13), (5, 7), dict(size=3, stride=2)),
        ((2, 4, 8, 8), (4, 4), dict(size=3, num_channels=1, kernel_size=2)),
        ((1, 4, 7, 7), (7, 7), dict(size=2, num_channels=5, kernel_size=1)),
    ],
)
def test_equals_the_papers_equations(shape, out_size, kwargs):
    torch.manual_seed(0)
    layer = SpatialBias(shape[1], **kwargs).double().eval()
    bn = layer.reduction.bn
    with torch.no_grad():
        for tensor in (bn.weight, bn.bias, bn.running_mean):
            tensor.normal_()
        bn.running_var.uniform_(0.5, 2)
    x = torch.randn(shape, dtype=torch.float64)
    weights = [
        layer.reduction.conv.weight[:, :, 0, 0], bn.weight, bn.bias, bn.running_mean,
        bn.running_var, layer.mixing.weight, layer.mixing.bias,
    ]  # fmt: skip
    weights = [tensor.detach().numpy() for tensor in weights]
    kernel_size, stride = kwargs.get('kernel_size', 3), kwargs.get('stride', 1)
    expected = np.stack(
        [
            naive_spatial_bias(image, weights, kwargs['size'], kernel_size, stride, out_size)
            for image in x.numpy()
        ]
    )
    np.testing.assert_allclose(
        layer(x, out_size).detach().numpy(), expected, rtol=1e-12, atol=1e-12
    )


def test_parameters_are_counted_as_the_paper_does():
    # Extra parameters of a block less the p + b wide norm and convolution:
    # p (b + 2) + 2 (b + 2) + 3 S^4 + S^2
    p, b, s = 64, 3, 10
    count = sum(parameter.numel() for parameter in SpatialBias(p, b, s).parameters())
    assert count == p * (b + 2) + 2 * (b + 2) + 3 * s**4 + s**2 == 30_430


def test_every_output_knows_every_input():
    torch.manual_seed(0)
    layer = SpatialBias(4, size=3).eval()
    nn.init.constant_(layer.reduction.bn.bias, 10)  # every ReLU open
    x = torch.rand(1, 4, 12, 9, requires_grad=True)
    layer(x, (12, 9))[0, 0, 0, 0].backward()
    assert (x.grad.abs().sum(dim=1) > 0).all()
