"""Gather-excite with a learned gather, GE-theta (arXiv 1810.12348; compared in Table 8)."""

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.models.identity import IdentityStart
from mmsb.registry import register_model


@register_model
class GatherExcite(BaseModule):
    """Channel attention from a depthwise convolution as large as the map (Table 8).

    Computes ``x * sigmoid(norm(gather(x)))``. Table 8 uses the global extent: the kernel covers
    the whole map of a 224 x 224 image, that is 56, 28, 14 and 7 pixels in stages 1 to 4, with one
    entry in ``plugins`` per stage.

    **Maps of any size.** A map of another size is first averaged (or, if smaller, repeated) to
    ``extent`` x ``extent``. At 224 x 224 this step does nothing, so the network is the paper's.

    The norm sees one value per channel and image, so training needs at least 2 images per device
    or a norm in eval mode; otherwise PyTorch raises a ValueError.

    Args:
        in_channels (int): Channels of the input and output.
        extent (int): Side of the kernel in pixels; the map's side for the global extent.
        norm_cfg (dict): Config of the norm layer. Defaults to ``dict(type='BN')``.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None,
            PyTorch's default initialization.
    """

    _abbr_ = 'gather_excite'
    identity_start = IdentityStart({'norm.weight': 0.0, 'norm.bias': 0.0}, factor=0.5)

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
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        grid = x
        if x.shape[2:] != (self.extent, self.extent):
            grid = F.adaptive_avg_pool2d(x, self.extent)
        return x * self.norm(self.gather(grid)).sigmoid()
