"""Spatial bias: global context as a few extra channels (arXiv 2302.12505, section 3)."""

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.registry import register_model

POOLING = dict(avg=F.adaptive_avg_pool2d, max=F.adaptive_max_pool2d)


@register_model
class SpatialBias(BaseModule):
    """Layer that computes spatial bias maps from a feature map (paper, section 3, Fig. 3).

    A 1x1 convolution with norm and ReLU reduces the channels, and average pooling brings any
    map to a ``size`` x ``size`` grid. A 1-D convolution then takes the grid's cells as its
    channels, so that every output cell depends on the whole grid. The result is upsampled, to
    be concatenated to a convolution's output.

    The paper does not specify the norm and ReLU before pooling (its parameter counts confirm
    them) or the reduced width. Here that is ``num_channels + kernel_size - 1``, so that the
    unpadded 1-D convolution outputs ``num_channels`` maps.

    Args:
        in_channels (int): Channels of the input.
        num_channels (int): Number of spatial bias maps, b in the paper's "bias-b" (Tables 4
            and 7). Defaults to 3.
        size (int): Side of the pooled grid in cells (Table 3). The paper uses 10 on ImageNet and
            6 on CIFAR. The map may be smaller than the grid. Defaults to 10.
        kernel_size (int): Width N of the 1-D convolution along the reduced channels.
            Defaults to 3.
        stride (int): Stride of the 1x1 convolution. Defaults to 1.
        pooling (str): How the map is pooled to the grid, 'avg' or 'max' (Table 5). Defaults to
            'avg'.
        mixing (bool): Whether to apply the 1-D convolution. If False (Table 5, "pool only"), the
            1x1 convolution outputs the num_channels maps directly. Defaults to True.
        conv_cfg (dict, optional): Config of the 1x1 convolution. Defaults to None, Conv2d.
        norm_cfg (dict): Config of the norm after it. Defaults to ``dict(type='BN')``.
        init_cfg (dict, optional): mmengine initialization config. Defaults to None: Kaiming
            (fan out) for the 1x1 convolution, PyTorch's default for the 1-D one.

    Example:
        >>> import torch
        >>> from mmsb.models import SpatialBias
        >>> layer = SpatialBias(64).eval()
        >>> tuple(layer(torch.rand(1, 64, 56, 40), (56, 40)).shape)
        (1, 3, 56, 40)
    """

    def __init__(
        self,
        in_channels: int,
        num_channels: int = 3,
        size: int = 10,
        kernel_size: int = 3,
        stride: int = 1,
        pooling: str = 'avg',
        mixing: bool = True,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006 (read only, as everywhere in OpenMMLab)
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.num_channels = num_channels
        self.size = size
        self.pool = POOLING[pooling]
        self.reduction = ConvModule(
            in_channels,
            num_channels + kernel_size - 1 if mixing else num_channels,
            1,
            stride=stride,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
        )
        self.mixing = nn.Conv1d(size * size, size * size, kernel_size) if mixing else None
        # set by fusion: the maps' part of the block's widened norm, applied on the grid
        self.norm: nn.Module | None = None

    def forward(self, x: Tensor, out_size: tuple[int, int]) -> Tensor:
        """Compute the maps.

        Args:
            x: Features, (B, in_channels, H, W); any H, W and B, also 1.
            out_size: Height and width in pixels of the features that the maps will be
                concatenated to.

        Returns:
            Spatial bias maps, (B, num_channels, *out_size). They are not normalised, except in a
            model fused by :func:`mmsb.models.fuse_spatial_bias`.
        """
        maps = self.pool(self.reduction(x), self.size)
        if self.mixing is not None:
            cells = maps.flatten(2).transpose(1, 2)  # (B, size * size, reduced channels)
            maps = self.mixing(cells).transpose(1, 2).unflatten(2, (self.size, self.size))
        if self.norm is not None:
            maps = self.norm(maps)
        return F.interpolate(maps, size=out_size, mode='bilinear', align_corners=False)
