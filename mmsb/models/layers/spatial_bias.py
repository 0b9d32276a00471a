"""Spatial bias: global knowledge as a few extra channels (arXiv 2302.12505, section 3)."""

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.registry import register_model

POOLING = dict(avg=F.adaptive_avg_pool2d, max=F.adaptive_max_pool2d)


@register_model
class SpatialBias(BaseModule):
    """Spatial bias maps of a feature map (paper, section 3, Fig. 3).

    A 1x1 convolution with normalisation and ReLU reduces the channels, average pooling
    brings any map to a ``size`` x ``size`` grid, and one 1-D convolution, for which the
    grid's cells are the channels, lets every cell know every other. The result is
    upsampled and meant to be concatenated to a convolution's output.

    The paper leaves open: the normalisation and ReLU before pooling (confirmed by its
    printed parameter counts) and the reduced width ``num_channels + kernel_size - 1``, so
    that the unpadded 1-D convolution leaves ``num_channels`` maps.

    Args:
        in_channels (int): Channels of the input.
        num_channels (int): Spatial bias maps made, b in the paper's "bias-b" (Tables 4
            and 7). Defaults to 3.
        size (int): Side of the pooled grid in cells (Table 3): 10 on ImageNet, 6 on
            CIFAR. The map may be smaller than the grid. Defaults to 10.
        kernel_size (int): Width N of the 1-D convolution along the reduced channels.
            Defaults to 3.
        stride (int): Stride of the 1x1 convolution. Defaults to 1.
        pooling (str): 'avg' or 'max', how the map comes to the grid (Table 5). Defaults to
            'avg'.
        mixing (bool): Whether there is the 1-D convolution. Without it (Table 5, "pool only")
            the 1x1 convolution makes the num_channels maps itself. Defaults to True.
        conv_cfg (dict, optional): Config of the 1x1 convolution. Defaults to None, Conv2d.
        norm_cfg (dict): Config of its normalisation. Defaults to ``dict(type='BN')``.
        init_cfg (dict, optional): Initialization config. Defaults to None: Kaiming
            (fan out) for the 1x1 convolution, torch's own default for the 1-D one.

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
        # of the maps on the grid, once a block for inference has split its norm
        self.norm: nn.Module | None = None

    def forward(self, x: Tensor, out_size: tuple[int, int]) -> Tensor:
        """Makes the maps.

        Args:
            x: Features, (B, in_channels, H, W); any H, W and B, also 1.
            out_size: Height and width of the maps in pixels, those of the features that
                they are concatenated to.

        Returns:
            Spatial bias maps, (B, num_channels, *out_size), not normalised unless the norm has been
            split (:func:`mmsb.models.fuse_spatial_bias`).
        """
        maps = self.pool(self.reduction(x), self.size)
        if self.mixing is not None:
            cells = maps.flatten(2).transpose(1, 2)  # (B, size * size, reduced channels)
            maps = self.mixing(cells).transpose(1, 2).unflatten(2, (self.size, self.size))
        if self.norm is not None:
            maps = self.norm(maps)
        return F.interpolate(maps, size=out_size, mode='bilinear', align_corners=False)
