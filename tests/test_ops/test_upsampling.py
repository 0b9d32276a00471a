"""CARAFE, against a formulation cell by cell."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.test_ops.conftest import FLOAT64, random_tensor


def reference_carafe(features, masks, kernel, groups, scale):
    batch, channels, height, width = features.shape
    out = np.zeros((batch, channels, height * scale, width * scale))
    for c, h, w in np.ndindex(*out.shape[1:]):
        group = c // (channels // groups)
        for i, j in np.ndindex(kernel, kernel):
            y, x = h // scale + i - kernel // 2, w // scale + j - kernel // 2
            if 0 <= y < height and 0 <= x < width:
                tap = (group * kernel + i) * kernel + j
                out[:, c, h, w] += features[:, c, y, x] * masks[:, tap, h, w]
    return out


@pytest.mark.parametrize('name', ['carafe', 'carafe_naive'])
@pytest.mark.parametrize('sizes', [(3, 1, 2), (5, 2, 1), (1, 2, 3)])  # kernel, groups, scale
def test_carafe(ops, device, sizes, name):
    kernel, groups, scale = sizes
    features = random_tensor(2, 4, 3, 2, seed=1, dtype=FLOAT64)
    masks = random_tensor(2, groups * kernel**2, 3 * scale, 2 * scale, seed=2, dtype=FLOAT64)
    expected = reference_carafe(features.numpy(), masks.numpy(), *sizes)
    inputs = [t.to(device).requires_grad_() for t in (features, masks)]
    run = getattr(ops, name)
    out = run(*inputs, *sizes)
    assert_close(out.detach().cpu().numpy(), expected)
    if name == 'carafe' or device == 'cuda':  # mmcv's own backward refuses CPU tensors
        assert torch.autograd.gradcheck(
            lambda *inputs: run(*inputs, *sizes), inputs, fast_mode=True
        )


def test_carafe_weights_of_one_interpolate(ops, device):
    """The packed layer starts with nearly equal weights: an upsampled mean over 5 x 5 cells."""
    layer = ops.CARAFEPack(4, 2).to(device)
    layer.content_encoder.weight.data.zero_()
    x = random_tensor(1, 4, 6, 7, device=device)
    mean = torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2)
    assert_close(layer(x), torch.nn.functional.interpolate(mean, scale_factor=2))
