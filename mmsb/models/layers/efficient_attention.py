"""Efficient attention (Shen et al., WACV 2021, arXiv 1812.01243)."""

import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.models.identity import IdentityStart
from mmsb.registry import register_model


@register_model
class EfficientAttention(BaseModule):
    """Non-local attention at a cost linear in the number of pixels.

    With queries q, keys k and values v from 1x1 convolutions, computes
    ``x + z(v softmax(k)^T softmax(q))``. The softmax is over pixels for k and over channels for q.
    No (H W) x (H W) matrix is built: ``v softmax(k)^T`` is C' x C', the context.

    Args:
        in_channels (int): Channels C of the input and output.
        reduction (int): Queries, keys and values have C' = max(C // reduction, 1) channels.
            Defaults to 2.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None,
            PyTorch's default initialization.
    """

    _abbr_ = 'efficient_attention'
    identity_start = IdentityStart({'z.weight': 0.0, 'z.bias': 0.0})

    def __init__(self, in_channels: int, reduction: int = 2, init_cfg: dict | list | None = None):
        super().__init__(init_cfg)
        channels = max(in_channels // reduction, 1)
        self.query = nn.Conv2d(in_channels, channels, 1)
        self.key = nn.Conv2d(in_channels, channels, 1, bias=False)  # the softmax removes a bias
        self.value = nn.Conv2d(in_channels, channels, 1)
        self.z = nn.Conv2d(channels, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        query, key, value = (conv(x).flatten(2) for conv in (self.query, self.key, self.value))
        context = value @ key.softmax(dim=2).transpose(1, 2)  # (B, values, keys)
        y = context @ query.softmax(dim=1)
        return x + self.z(y.unflatten(2, x.shape[2:]))
