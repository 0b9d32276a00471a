"""Squeeze and excitation, SE (arXiv 1709.01507; compared in Table 8)."""

import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.models.identity import IdentityStart
from mmsb.registry import register_model


@register_model
class SqueezeExcitation(BaseModule):
    """Channel attention from the channels' means: Linear, ReLU, Linear, sigmoid (Table 8).

    mmdet's and mmseg's ``SELayer`` compute the same. They do not work as plugins (their argument is
    named ``channels``), and importing them imports a toolbox.

    Args:
        in_channels (int): Channels of the input and output.
        ratio (int): Channel reduction: the hidden layer has max(in_channels // ratio, 1) channels.
            Defaults to 16.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None,
            PyTorch's default initialization.
    """

    _abbr_ = 'se'
    identity_start = IdentityStart({'fc2.weight': 0.0, 'fc2.bias': 0.0}, factor=0.5)

    def __init__(self, in_channels: int, ratio: int = 16, init_cfg: dict | list | None = None):
        super().__init__(init_cfg)
        hidden = max(in_channels // ratio, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(in_channels, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(hidden, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        gate = self.fc2(self.relu(self.fc1(self.pool(x).flatten(1)))).sigmoid()
        return x * gate[:, :, None, None]
