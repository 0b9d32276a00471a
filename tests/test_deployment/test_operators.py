"""What ONNX lacks against torch's own, in float64."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from mmsb.deployment.operators import (
    ExportSafe,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
)
from mmsb.models import SpatialBias

LENGTHS = [*range(1, 24), 56, 75]


@pytest.mark.parametrize('size', [1, 6, 10, (7, 3), (10, 1), (1, 7)])
def test_every_size(size):
    for height, width in itertools.product(LENGTHS, (1, 7, 10, 25, 28, 100)):
        x = torch.randn(2, 3, height, width, dtype=torch.float64)
        wanted = F.adaptive_avg_pool2d(x, size)
        torch.testing.assert_close(adaptive_avg_pool2d(x, size), wanted, rtol=0, atol=1e-14)
        assert adaptive_max_pool2d(x, size).equal(F.adaptive_max_pool2d(x, size))


@pytest.mark.parametrize('pooling', ['avg', 'max'])
def test_modules_pool_so_inside_the_block_alone(pooling):
    layer = SpatialBias(4, pooling=pooling).double().eval()
    x = torch.randn(2, 4, 13, 17, dtype=torch.float64)

    def called():
        with torch.profiler.profile() as profile:
            out = layer(x, (13, 17))
        return out, any('adaptive' in event.name for event in profile.events())

    wanted, before = called()
    with ExportSafe():
        found, inside = called()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert before and not inside and called()[1]
