"""Non-local block and its reduced form (arXiv 1711.07971; compared in Tables 9 and 10)."""

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmsb.models.identity import IdentityStart
from mmsb.registry import register_model


@register_model
class NonLocalBlock(BaseModule):
    """Non-local block, embedded Gaussian (Table 9), or Reduced NL on a grid (Table 10).

    Computes ``x + norm(z(softmax(theta(x)^T phi(x) / sqrt(C / 2)) g(x)))``. The norm's weight
    starts at zero, so the untrained block is the identity. mmcv's ``NonLocal2d`` with ``norm_cfg``
    computes the same without a bias in z; the paper's parameter counts include that bias.

    **Cost.** The attention is an (H W) x (H W) matrix: 2 (H W)^2 C / 2 multiplications, and
    B (H W)^2 numbers stored for the backward pass. That is 0.6 million numbers per image for a
    28 x 28 map, but 279 million (1.1 GB in float32) for stage 2 of an 800 x 1333 image
    (100 x 167). With ``size`` the matrix is size^2 x size^2 for every map.

    Args:
        in_channels (int): Channels C of the input and output.
        reduction (int): The embeddings have C // reduction channels. Defaults to 2.
        size (int, optional): Side in cells of a grid: the map is averaged to it before the
            attention and upsampled after it. The paper's Reduced NL uses 10. Defaults to None:
            every pixel attends to every pixel.
        norm_cfg (dict): Config of the norm after z. Defaults to ``dict(type='BN')``.
        init_cfg (dict or list, optional): mmengine initialization config. Defaults to None: Kaiming
            (fan out) for convolutions, norm weight 0.
    """

    _abbr_ = 'non_local'
    identity_start = IdentityStart({'norm.weight': 0.0, 'norm.bias': 0.0})

    def __init__(
        self,
        in_channels: int,
        reduction: int = 2,
        size: int | None = None,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = None,
    ):
        if init_cfg is None:  # reapplied after the backbone's init, which sets norms to 1
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=0, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        channels = max(in_channels // reduction, 1)
        self.scale = channels**-0.5
        self.pool = None if size is None else nn.AdaptiveAvgPool2d(size)
        self.theta = nn.Conv2d(in_channels, channels, 1)
        self.phi = nn.Conv2d(in_channels, channels, 1)
        self.g = nn.Conv2d(in_channels, channels, 1)
        self.z = nn.Conv2d(channels, in_channels, 1)
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to the same shape; any H, W and B."""
        grid = x if self.pool is None else self.pool(x)
        theta, phi, g = (embed(grid).flatten(2) for embed in (self.theta, self.phi, self.g))
        # (B, keys, queries); scaling theta is cheaper than scaling the attention
        attention = (phi.transpose(1, 2) @ (theta * self.scale)).softmax(dim=1)
        y = self.norm(self.z((g @ attention).unflatten(2, grid.shape[2:])))
        if self.pool is not None:
            y = F.interpolate(y, size=x.shape[2:], mode='bilinear', align_corners=False)
        return x + y
