"""Training with channels last."""

from types import SimpleNamespace

import torch
from mmengine.registry import HOOKS, DefaultScope

from mmsb.models import SBResNet_CIFAR
from tests.weights import randomise


def test_every_feature_is_channels_last_and_the_same():
    model = randomise(SBResNet_CIFAR(depth=11)).eval()
    images = torch.rand(2, 3, 32, 24, dtype=torch.float64)
    with torch.no_grad():
        before = model(images)
    with DefaultScope.overwrite_default_scope('mmseg'):
        hook = HOOKS.build(dict(type='mmsb.ChannelsLastHook'))
    hook.before_run(SimpleNamespace(model=model))
    with torch.no_grad():
        after = model(images)
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)
        assert x.is_contiguous()
        assert y.is_contiguous(memory_format=torch.channels_last)
