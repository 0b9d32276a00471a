"""Batch norms folded into convolutions, for inference."""

import torch
import torch.nn.functional as F
from mmcv.cnn import fuse_conv_bn
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

from mmsb.errors import UserError

from .backbones.sb_resnet import ResidualBlock
from .layers import SpatialBias


def fuse_spatial_bias(model: nn.Module) -> nn.Module:
    """Folds every batch norm that follows a convolution into it, spatial bias's too.

    For a backbone of this package or a whole classifier, detector or segmentor of the toolboxes
    with one, with spatial bias or without. The outputs are the same up to rounding.
    mmcv's ``fuse_conv_bn`` alone fails on the widened norm, which spans a convolution's output
    and the maps: its parts are separated first, the maps' then works on the grid, before the
    upsampling. Norms that are not batch norms stay. A fused model stays as it is.

    Args:
        model: A model in eval mode with its weights loaded; changed in place. It can neither be
            trained nor load weights of the unfused model afterwards.

    Returns:
        The model.

    Raises:
        UserError: The model, or a batch norm in it, is in training mode.

    Example:
        >>> from mmsb.models import SBResNet, fuse_spatial_bias
        >>> model = fuse_spatial_bias(SBResNet(depth=50).eval())
        >>> any(isinstance(module, nn.BatchNorm2d) for module in model.layer4.modules())
        False
    """
    norms = (module for module in model.modules() if isinstance(module, _BatchNorm))
    if model.training or any(norm.training for norm in norms):
        raise UserError('a model is fused for inference only: call model.eval() first')
    blocks = [module for module in model.modules() if isinstance(module, ResidualBlock)]
    for block in blocks:
        block.split_norm()
    fuse_conv_bn(model)
    for block in blocks:
        layer = block.spatial_bias if block.spatial_bias_at else None
        if isinstance(layer, SpatialBias) and type(layer.reduction.conv) is nn.Conv2d:
            block.spatial_bias = FusedSpatialBias(layer)
    return model


class FusedSpatialBias(nn.Module):
    """What :class:`mmsb.models.SpatialBias` computes at inference, in shapes that suit kernels.

    A convolution to a handful of channels costs more than one to 16, and the 1-D convolution more
    than a matrix product of its taps side by side.

    Args:
        layer: In eval mode, the norm of its 1x1 convolution folded.
    """

    def __init__(self, layer: SpatialBias):
        super().__init__()
        self.num_channels, self.size, self.pool = layer.num_channels, layer.size, layer.pool
        conv = layer.reduction.conv
        self.reduced = conv.out_channels
        padding = -self.reduced % 16
        conv.weight = nn.Parameter(F.pad(conv.weight, (0, 0, 0, 0, 0, 0, 0, padding)))
        conv.out_channels += padding
        if conv.bias is not None:
            conv.bias = nn.Parameter(F.pad(conv.bias, (0, padding)))
        self.reduction = layer.reduction
        scale, shift = _affine(layer.norm, conv.weight.new_ones(self.num_channels))
        self.mixing = None
        if layer.mixing is not None:
            self.taps = layer.mixing.kernel_size[0]
            self.mixing = nn.Parameter(layer.mixing.weight.transpose(1, 2).flatten(1))
            shift = shift + scale * layer.mixing.bias
        self.register_buffer('scale', scale.detach())
        self.register_buffer('shift', shift.detach())

    def forward(self, x: Tensor, out_size: tuple[int, int]) -> Tensor:
        """As :meth:`mmsb.models.SpatialBias.forward`."""
        maps = self.pool(self.reduction(x), self.size).flatten(2)
        if self.mixing is None:
            maps = maps[:, : self.reduced]
        else:
            taps = [maps[:, tap : tap + self.num_channels] for tap in range(self.taps)]
            maps = F.linear(torch.cat(taps, dim=2), self.mixing)
        maps = torch.addcmul(self.shift, maps, self.scale).unflatten(2, (self.size, self.size))
        # few channels are upsampled faster so, and concatenated faster to what is so too
        maps = maps.contiguous(memory_format=torch.channels_last)
        return F.interpolate(maps, size=out_size, mode='bilinear', align_corners=False).to(x.dtype)


def _affine(norm: nn.BatchNorm2d | None, ones: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and summand, each (channels, 1), of a batch norm at inference; of none, 1 and 0."""
    if norm is None:
        return ones[:, None], torch.zeros_like(ones)[:, None]
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.affine:
        shift = shift + norm.bias
    return scale[:, None], shift[:, None]
