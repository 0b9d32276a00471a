"""ContMix, the operator of OverLoCK (Lou and Yu, CVPR 2025, arXiv 2502.20087)."""

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.models.identity import IdentityStart
from mmsb.registry import register_model

from .checks import check_divides


@register_model
class ContextMixing(BaseModule):
    """Depthwise convolution whose kernel at each pixel comes from the whole map.

    The channels form G groups. In each, the affinity of every pixel with the averages of the
    map's S x S regions is ``q^T k / sqrt(C / G)``, with q a 1x1 convolution of the pixels and k one
    of the averages. A linear layer maps the S^2 affinities of a pixel to K^2 values. Their softmax
    is the K x K kernel of the group at this pixel. Pixels outside the map count as zero.

    ``x + norm(1x1(mixed x))`` is the output. The paper's operator also has kernels of two sizes,
    each for half of the channels, adds a bias per relative position before the softmax, gives
    queries and keys half of the channels and a batch norm, takes the keys from a second network,
    and moves windows at the border inside the map. Its block adds a static convolution and a gate.
    These are left out.

    Args:
        in_channels (int): Channels C of the input and output.
        kernel_size (int): Side K of the kernels in pixels, odd. Defaults to 7.
        regions (int): Regions S per side of the map. Defaults to 7, the paper's.
        groups (int): Groups G of channels, each with its own kernels; must divide C. Defaults to 4.
        norm_cfg (dict): Config of the norm after the 1x1 convolution. Defaults to
            ``dict(type='BN')``.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None,
            PyTorch's default initialization.

    Raises:
        UserError: ``groups`` does not divide C.
    """

    _abbr_ = 'context_mixing'
    identity_start = IdentityStart({'norm.weight': 0.0, 'norm.bias': 0.0})

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 7,
        regions: int = 7,
        groups: int = 4,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        check_divides('ContextMixing', in_channels, groups)
        self.groups, self.kernel_size = groups, kernel_size
        self.scale = (in_channels // groups) ** -0.5
        self.pool = nn.AdaptiveAvgPool2d(regions)
        self.query = nn.Conv2d(in_channels, in_channels, 1)
        self.key = nn.Conv2d(in_channels, in_channels, 1)
        self.to_kernel = nn.Linear(regions**2, kernel_size**2)
        self.z = nn.Conv2d(in_channels, in_channels, 1, bias=False)
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        return x + self.norm(self.z(self._mix(x)))

    def _mix(self, x: Tensor) -> Tensor:
        groups, size, (height, width) = self.groups, self.kernel_size, x.shape[2:]
        query = self.query(x).flatten(2).unflatten(1, (groups, -1))  # (B, G, C / G, H W)
        key = self.key(self.pool(x)).flatten(2).unflatten(1, (groups, -1))
        # the linear layer on the keys instead of the affinities: the same, H W / C times cheaper
        kernels = self.to_kernel.weight @ (key * self.scale).transpose(2, 3) @ query
        kernels = (kernels + self.to_kernel.bias[:, None]).softmax(dim=2)
        kernels = kernels.unflatten(3, (height, width))  # (B, G, K^2, H, W)
        # channels-last slices are slow to multiply; indexing `kernels` is slow to differentiate
        padded = F.pad(x.contiguous(), [size // 2] * 4).unflatten(1, (groups, -1))
        mixed = 0
        for place, weight in enumerate(kernels.unsqueeze(3).unbind(2)):
            top, left = divmod(place, size)
            mixed = mixed + weight * padded[..., top : top + height, left : left + width]
        return mixed.flatten(1, 2)
