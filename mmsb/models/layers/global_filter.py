"""Global filter of GFNet (Rao et al., NeurIPS 2021, arXiv 2107.00645)."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.models.identity import IdentityStart
from mmsb.registry import register_model

from .fourier import full_precision


@register_model
class GlobalFilter(BaseModule):
    """One learned factor per channel and frequency: a circular convolution as large as the map.

    Computes ``x + irfft2(weight * rfft2(norm(x)))``. GFNet's block has an MLP before the addition;
    here the convolutions of the network mix the channels. Its norm is a layer norm.

    **Maps of any size.** ``weight`` belongs to maps of ``size`` x ``size``. For other maps it is
    interpolated (bicubic, over frequencies), as GFNet does. The filter then reaches about ``size``
    pixels, so that ``size`` should be the side of the maps in training.

    Args:
        in_channels (int): Channels C of the input and output.
        size (int): Side of the maps that the filter is stored for; the block has
            2 C size (size // 2 + 1) factors. Defaults to 14.
        norm_cfg (dict): Config of the norm layer. Defaults to ``dict(type='BN')``.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None: normal
            with standard deviation 0.02, GFNet's.
    """

    _abbr_ = 'global_filter'
    identity_start = IdentityStart({'weight': 0.0})

    def __init__(
        self,
        in_channels: int,
        size: int = 14,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]
        # real and imaginary parts; not a complex tensor, which optimizers and AMP handle less well
        self.weight = nn.Parameter(0.02 * torch.randn(2, in_channels, size, size // 2 + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        height, width = x.shape[2:]
        weight = full_precision(self.weight)
        if weight.shape[2:] != (height, width // 2 + 1):
            shape = (height, width // 2 + 1)
            weight = F.interpolate(weight, shape, mode='bicubic', align_corners=True)
        spectrum = torch.fft.rfft2(full_precision(self.norm(x))) * torch.complex(*weight.unbind())
        return x + torch.fft.irfft2(spectrum, (height, width)).to(x.dtype)
