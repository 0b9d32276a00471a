"""Training with channels last."""

from types import SimpleNamespace

import torch
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner

from mmsb.engine.resumable import ResumableRunner
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


def test_weights_are_channels_last_before_they_are_wrapped(monkeypatch):
    """DDP's first step has gradients in a wrong order if the layout changes after it is made."""
    monkeypatch.setattr(Runner, 'wrap_model', lambda self, cfg, model: model)
    runner = object.__new__(ResumableRunner)
    for hooks, last in (([dict(type='mmsb.ChannelsLastHook')], True), (None, False)):
        runner.cfg = dict(custom_hooks=hooks)
        conv = runner.wrap_model(None, torch.nn.Conv2d(4, 4, 3))
        assert conv.weight.is_contiguous(memory_format=torch.channels_last) == last
