"""Bilinear attentional transform, BAT (Chi et al., CVPR 2020; compared in Table 9)."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.registry import register_model

from .checks import check_divides


@register_model
class BATBlock(BaseModule):
    """Non-local block built from grouped bilinear attentional transforms (Table 9).

    With C' = C // reduction and s = ``size``, the layers are: 1x1 convolution from C to C'; the
    transform Y = P X Q; 1x1 from C' to C'; 1x1 from C' to C; dropout of whole channels; addition
    of the input. Each 1x1 has a bias, a norm and a ReLU. P and Q are attention between s x s
    regions, predicted from the maximum of each row and column; the rows of P and the columns of
    Q sum to 1. Each pair of P and Q applies to C' / groups contiguous channels.

    **Maps of any size.** The authors' P is the Kronecker product of an s x s matrix with the t x t
    identity, t = H / s (Q likewise with W), which mixes pixels at the same place in their regions.
    It needs a square map whose side is a multiple of s, as at 224 x 224. Here H and W may differ,
    t is rounded up, the product is cropped to H x H, and its rows are normalised to sum to 1 again.
    If s divides H and W, nothing is cropped and the result is the authors'.

    Args:
        in_channels (int): Channels C of the input and output.
        reduction (int): Channel reduction inside the block, C' = C // reduction. Defaults to 2.
        size (int): Regions s per side of the map. Defaults to 7.
        groups (int): Number of pairs of P and Q; must divide C'. Defaults to 4.
        dropout (float): Dropout rate for whole output channels. Defaults to 0.2.
        norm_cfg (dict): Config of the norm layers. Defaults to ``dict(type='BN')``.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None: Kaiming
            (fan out) for convolutions, weight 1 for norms.

    Raises:
        UserError: ``groups`` does not divide C'.
    """

    _abbr_ = 'bat'
    # No identity_start: the branch ends in a ReLU, which passes no gradient at 0. Started just
    # above 0, half of the channels soon output 0 for good.

    def __init__(
        self,
        in_channels: int,
        reduction: int = 2,
        size: int = 7,
        groups: int = 4,
        dropout: float = 0.2,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = None,
    ):
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        channels = in_channels // reduction
        check_divides('BATBlock', channels, groups)
        self.size = size
        self.groups = groups

        def conv(in_channels, out_channels):  # not ConvModule, which warns about bias and norm
            return nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1),
                build_norm_layer(norm_cfg, out_channels)[1],
                nn.ReLU(inplace=True),
            )

        self.reduce = conv(in_channels, channels)
        self.compress = conv(channels, groups)
        self.to_p = nn.Conv2d(groups, size * size * groups, (size, 1))
        self.to_q = nn.Conv2d(groups, size * size * groups, (1, size))
        self.transformed = conv(channels, channels)
        self.expand = conv(channels, in_channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        y = self.transformed(self._transform(self.reduce(x)))
        return x + self.dropout(self.expand(y))

    def _transform(self, x: Tensor) -> Tensor:
        """Compute P X Q from X, (B, C', H, W); the shape stays."""
        a = self.compress(x)
        p = self.to_p(F.adaptive_max_pool2d(a, (self.size, 1)))
        q = self.to_q(F.adaptive_max_pool2d(a, (1, self.size)))
        p, q = self._spread(p, x.shape[2], 3), self._spread(q, x.shape[3], 2)
        x = x.unflatten(1, (self.groups, -1))  # (B, groups, C' / groups, H, W)
        x = torch.einsum('bkij,bkcjw->bkciw', p, x)
        return torch.einsum('bkcij,bkjw->bkciw', x, q).flatten(1, 2)

    def _spread(self, logits: Tensor, length: int, dim: int) -> Tensor:
        """Expand (B, s * s * groups, 1, 1) to (B, groups, length, length); sums to 1 along dim."""
        s = self.size
        regions = logits.flatten(1).unflatten(1, (self.groups, s, s)).sigmoid()
        if length % s == 0:
            regions = _normalized(regions, dim)
        identity = torch.eye(-(-length // s), dtype=regions.dtype, device=regions.device)
        pixels = torch.kron(regions, identity)
        if length % s:
            pixels = _normalized(pixels[..., :length, :length], dim)
        return pixels


def _normalized(weights: Tensor, dim: int) -> Tensor:
    # if every sigmoid underflows to 0, so does their sum, and 0 / 0 would be NaN
    return weights / weights.sum(dim, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
