"""Coordinate attention (Hou et al., CVPR 2021, arXiv 2103.02907)."""

import torch
import torch.nn as nn
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.models.identity import IdentityStart
from mmsb.registry import register_model


@register_model
class CoordinateAttention(BaseModule):
    """Gates from the means of each row and each column.

    The means of the rows, (C, H), and of the columns, (C, W), pass through one shared 1x1
    convolution, norm and Hardswish. Two more 1x1 convolutions and a sigmoid make a gate per row and
    channel from the first, and per column and channel from the second. The output is the input
    times both gates.

    Args:
        in_channels (int): Channels C of the input and output.
        ratio (int): Channel reduction: the hidden layer has max(C // ratio, 8) channels. Defaults
            to 32, the paper's.
        norm_cfg (dict): Config of the norm layer. Defaults to ``dict(type='BN')``.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None,
            PyTorch's default initialization.
    """

    _abbr_ = 'coordinate_attention'
    identity_start = IdentityStart(
        {f'to_{gate}.{name}': 0.0 for gate in ('rows', 'columns') for name in ('weight', 'bias')},
        factor=0.25,
    )

    def __init__(
        self,
        in_channels: int,
        ratio: int = 32,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        hidden = max(in_channels // ratio, 8)
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            build_norm_layer(norm_cfg, hidden)[1],
            nn.Hardswish(inplace=True),
        )
        self.to_rows = nn.Conv2d(hidden, in_channels, 1)
        self.to_columns = nn.Conv2d(hidden, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        means = torch.cat([x.mean(3), x.mean(2)], dim=2)[..., None]  # (B, C, H + W, 1)
        rows, columns = self.reduce(means).split(x.shape[2:], dim=2)
        rows, columns = self.to_rows(rows).sigmoid(), self.to_columns(columns).sigmoid()
        return x * rows * columns.transpose(2, 3)
