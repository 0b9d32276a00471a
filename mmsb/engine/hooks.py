"""Training with channels last in memory."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsb.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keeps the weights of convolutions channels last, which then all features are.

    On a CPU narrow networks on large maps train up to 1.5 times as fast; the function is the same.
    """

    def before_run(self, runner: Runner) -> None:
        """Converts the runner's model."""
        runner.model.to(memory_format=torch.channels_last)
