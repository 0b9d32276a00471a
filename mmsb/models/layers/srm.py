"""Style-based recalibration, SRM (arXiv 1903.10829; compared in Table 8)."""

import torch
import torch.nn as nn
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.models.identity import IdentityStart
from mmsb.registry import register_model


@register_model
class StyleRecalibration(BaseModule):
    """Channel attention from each channel's own mean and standard deviation (Table 8).

    Computes ``x * sigmoid(norm(w1 mean + w2 std))`` with std = sqrt(unbiased variance + eps) and
    one pair (w1, w2) per channel. The variance of a 1 x 1 map is taken as 0.

    The norm sees one value per channel and image, so training needs at least 2 images per device
    or a norm in eval mode; otherwise PyTorch raises a ValueError.

    Args:
        in_channels (int): Channels of the input and output.
        eps (float): Added to the variance for stability. Defaults to 1e-5.
        norm_cfg (dict): Config of the norm layer. Defaults to ``dict(type='BN')``.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None: w
            starts at zero.
    """

    _abbr_ = 'srm'
    identity_start = IdentityStart({'weight': 0.0, 'norm.bias': 0.0}, factor=0.5)

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(in_channels, 2))
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        pixels = x.flatten(2)
        variance = pixels.var(2, correction=int(pixels.shape[2] > 1))
        style = torch.stack([pixels.mean(2), (variance + self.eps).sqrt()], dim=2)
        z = (style * self.weight).sum(2)
        return x * self.norm(z[:, :, None, None]).sigmoid()
