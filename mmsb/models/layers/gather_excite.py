"""Gather-excite with a learned gather, GE-theta (arXiv 1810.12348; compared in Table 8)."""

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.registry import register_model


@register_model
class GatherExcite(BaseModule):
    """Channel attention by a depthwise convolution as large as the map (Table 8).

    ``x * sigmoid(norm(gather(x)))``; the paper's row has the global extent, so the kernel is
    the whole map at 224 x 224: 56, 28, 14 and 7 in stages 1 to 4, an entry of ``plugins``
    each.

    **Any map.** A map of another size is averaged (or, where smaller, repeated) to
    ``extent`` x ``extent`` before; a map of that size is left alone, so the 224 network is the
    paper's.

    The norm sees one value a channel and image: training needs 2 images on the device, or a
    norm in eval mode, else torch raises its ValueError.

    Args:
        in_channels (int): Channels of the input and output.
        extent (int): Side of the kernel in pixels.
        norm_cfg (dict): The norm. Defaults to ``dict(type='BN')``.
        init_cfg (dict or list, optional): Initialization config. Defaults to None, torch's.
    """

    _abbr_ = 'gather_excite'

    def __init__(
        self,
        in_channels: int,
        extent: int,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        self.extent = extent
        self.gather = nn.Conv2d(in_channels, in_channels, extent, groups=in_channels)
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to the same shape; any H, W and B."""
        grid = x
        if x.shape[2:] != (self.extent, self.extent):
            grid = F.adaptive_avg_pool2d(x, self.extent)
        return x * self.norm(self.gather(grid)).sigmoid()
