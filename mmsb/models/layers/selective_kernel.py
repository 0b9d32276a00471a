"""Selective kernel convolution, SK (arXiv 1903.06586; compared in Table 8)."""

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.registry import register_model

from .checks import check_divides


@register_model
class SelectiveKernel(BaseModule):
    """Convolution that weights, per channel, paths with different dilations (Table 8).

    Path m is a grouped 3x3 convolution with dilation m, norm and ReLU. The sum of the paths is
    averaged over the map; a 1x1 with norm and ReLU and one 1x1 (with bias) per path turn it into
    weights, with a softmax across the paths. The output is the weighted sum of the paths and is
    never negative.

    The norm after the averaging sees one value per channel and image, so training needs at least
    2 images per device or a norm in eval mode; otherwise PyTorch raises a ValueError.

    Args:
        in_channels (int): Channels of the input and output.
        stride (int): Stride of the paths. Defaults to 1.
        dilation (int): Dilation of the first path; path m has m times this. Defaults to 1.
        groups (int): Groups of the paths' convolutions; must divide ``in_channels``. Defaults to
            32.
        num_paths (int): Number of paths. Defaults to 2.
        ratio (int): Reduction before the softmax: the first 1x1 has
            max(in_channels // ratio, 32) output channels. Defaults to 16.
        conv_cfg (dict, optional): Config of the paths' convolutions. Defaults to None, Conv2d.
        norm_cfg (dict): Config of the norm layers. Defaults to ``dict(type='BN')``.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None, the
            initialization of mmcv's ``ConvModule``.

    Raises:
        UserError: ``groups`` does not divide ``in_channels``.
    """

    _abbr_ = 'selective_kernel'

    def __init__(
        self,
        in_channels: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 32,
        num_paths: int = 2,
        ratio: int = 16,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        check_divides('SelectiveKernel', in_channels, groups)
        hidden = max(in_channels // ratio, 32)
        self.paths = nn.ModuleList(
            ConvModule(
                in_channels,
                in_channels,
                3,
                stride=stride,
                padding=reach,
                dilation=reach,
                groups=groups,
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg,
            )
            for reach in range(dilation, dilation * num_paths + 1, dilation)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = ConvModule(in_channels, hidden, 1, norm_cfg=norm_cfg)
        self.select = nn.ModuleList(nn.Conv2d(hidden, in_channels, 1) for _ in range(num_paths))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, in_channels, H / stride, W / stride); any H, W, B."""
        paths = [path(x) for path in self.paths]
        z = self.reduce(self.pool(sum(paths[1:], paths[0])))
        weights = torch.stack([select(z) for select in self.select]).softmax(dim=0)
        weighted = [weight * path for weight, path in zip(weights, paths, strict=True)]
        return sum(weighted[1:], weighted[0])
