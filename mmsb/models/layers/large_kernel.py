"""Large-kernel block of RepLKNet (Ding et al., CVPR 2022, arXiv 2203.06717)."""

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.models.identity import IdentityStart
from mmsb.registry import register_model
from mmsb.utils.errors import UserError

from .fourier import depthwise_conv


@register_model
class LargeKernelBlock(BaseModule):
    """Residual block with a depthwise convolution of, for example, 31 x 31 pixels.

    Computes ``x + norm(1x1(relu(depthwise(relu(norm(1x1(norm(x))))))))``, RepLKNet's block with
    fewer channels inside. The depthwise convolution is the sum of a large and a small one, each
    with its norm. In eval mode both are merged into one kernel, which computes the same. RepLKNet's
    second block, of 1x1 convolutions, is left out.

    Args:
        in_channels (int): Channels C of the input and output.
        kernel_size (int): Size of the large kernel in pixels, odd. Defaults to 31.
        small_kernel (int): Size of the small kernel in pixels, odd, at most ``kernel_size``.
            Defaults to 5.
        reduction (int): The depthwise convolution has max(C // reduction, 1) channels. Defaults to
            1, as in RepLKNet.
        norm_cfg (dict): Config of the norm layers, ``BN`` or ``SyncBN``: only these can be merged.
            Defaults to ``dict(type='BN')``.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None,
            PyTorch's default initialization.

    Raises:
        UserError: A kernel size is even, or the small kernel is the larger one.
    """

    _abbr_ = 'large_kernel'
    identity_start = IdentityStart({'project.1.weight': 0.0, 'project.1.bias': 0.0})

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 31,
        small_kernel: int = 5,
        reduction: int = 1,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        if not (kernel_size % 2 and small_kernel % 2 and 0 < small_kernel <= kernel_size):
            raise UserError(
                f'LargeKernelBlock: kernel_size {kernel_size} and small_kernel {small_kernel} '
                'must be odd, the second at most the first'
            )
        channels = max(in_channels // reduction, 1)

        def norm(channels):
            return build_norm_layer(norm_cfg, channels)[1]

        def depthwise(size):
            return nn.Conv2d(channels, channels, size, groups=channels, bias=False)

        self.expand = nn.Sequential(
            norm(in_channels),
            nn.Conv2d(in_channels, channels, 1, bias=False),
            norm(channels),
            nn.ReLU(inplace=True),
        )
        self.large, self.large_norm = depthwise(kernel_size), norm(channels)
        self.small, self.small_norm = depthwise(small_kernel), norm(channels)
        self.project = nn.Sequential(
            nn.Conv2d(channels, in_channels, 1, bias=False), norm(in_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        y = self.expand(x)
        if self.training:
            large, small = (depthwise_conv(y, conv.weight) for conv in (self.large, self.small))
            y = self.large_norm(large) + self.small_norm(small)
        else:
            weight, bias = self.merged()
            y = depthwise_conv(y, weight) + bias[:, None, None]
        return x + self.project(F.relu(y))

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return the kernel, (C', 1, K, K), and the bias, (C',), of both convolutions and norms."""
        (large, bias), (small, small_bias) = (
            _with_norm(self.large, self.large_norm),
            _with_norm(self.small, self.small_norm),
        )
        margin = (large.shape[-1] - small.shape[-1]) // 2
        return large + F.pad(small, [margin] * 4), bias + small_bias


def _with_norm(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
