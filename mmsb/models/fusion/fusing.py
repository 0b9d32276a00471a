"""Fold batch norms into convolutions, for inference."""

from collections.abc import Callable
from types import ModuleType

import torch
import torch.nn.functional as F
from mmcv.cnn import fuse_conv_bn
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

from mmsb.models.backbones.residual_block import BasicBlock, Bottleneck, ResidualBlock
from mmsb.models.kernels.dispatch import padded_width
from mmsb.models.layers import SpatialBias
from mmsb.utils.errors import UserError
from mmsb.utils.finite import warn_not_finite

from .block import FusedBlock, FusedStage, fits, is_folded


def fuse_spatial_bias(model: nn.Module) -> nn.Module:
    """Fold every batch norm that follows a convolution into it, including those of spatial bias.

    This works for a backbone of this package, with or without spatial bias, and for a toolbox's
    classifier, detector or segmentor that contains one. The outputs are the same up to rounding.
    mmcv's ``fuse_conv_bn`` alone fails on the widened norm, which spans a convolution's output and
    the maps. It is split first; the maps' part then works on the grid, before the upsampling.
    Norms that are not batch norms stay. Fusing a fused model changes nothing.

    Fused blocks call cuDNN (GPU) or oneDNN (CPU, float32) convolutions that include bias, ReLU and
    the shortcut; oneDNN keeps a second, reordered copy of the weights. Spatial bias uses our Triton
    kernel on a GPU, or a C++ kernel compiled on first use (about a second) on a CPU. PyTorch's
    operators run instead if gradients are enabled, inside a compiler, without Triton or a C++
    compiler, for other dtypes, and for blocks with plugins. Fuse a model on the device that it
    will run on.

    Args:
        model: A model in eval mode with its weights loaded; changed in place. Afterwards it can
            neither be trained nor load weights of the unfused model.

    Returns:
        The same model.

    Raises:
        UserError: The model or a batch norm in it is in training mode, or a batch norm has no
            running statistics.

    Example:
        >>> from mmsb.models import SBResNet, fuse_spatial_bias
        >>> model = fuse_spatial_bias(SBResNet(depth=50).eval())
        >>> any(isinstance(module, nn.BatchNorm2d) for module in model.layer4.modules())
        False
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if model.training or any(norm.training for norm in norms):
        raise UserError('a model is fused for inference only: call model.eval() first')
    if not all(norm.track_running_stats for norm in norms):
        raise UserError(
            'a batch norm without running statistics cannot be folded: leave '
            'track_running_stats=False out of norm_cfg, or run the model unfused'
        )
    if any(isinstance(module, ResidualBlock) for module in model.modules()):  # not fused yet
        warn_not_finite(model.state_dict(), f'the {type(model).__name__} to fuse')
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ResidualBlock):
                setattr(parent, name, _prepared(child))
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Sequential) and _are_fused(child):
                setattr(parent, name, FusedStage(*child).eval())
    for norm in model.modules():
        if isinstance(norm, _BatchNorm) and not norm.affine:  # mmcv cannot fold these
            norm.weight = nn.Parameter(torch.ones_like(norm.running_var))
            norm.bias = nn.Parameter(torch.zeros_like(norm.running_mean))
    fuse_conv_bn(model)
    for block in model.modules():
        layer = getattr(block, 'spatial_bias', None)
        if isinstance(block, FusedBlock | ResidualBlock) and isinstance(layer, SpatialBias):
            block.spatial_bias = FusedSpatialBias(layer, _pad_widened(block))
        if isinstance(block, FusedBlock):
            block.fast = fits(block)
            if block.conv1.weight.is_cuda:  # the layout of its inputs
                block.to(memory_format=torch.channels_last)
    return model


def _are_fused(blocks: nn.Sequential) -> bool:
    return len(blocks) > 0 and all(isinstance(block, FusedBlock) for block in blocks)


def _prepared(block: ResidualBlock) -> nn.Module:
    """Return the block to use instead, in which mmcv may fold every batch norm it finds."""
    name = block.widened_layers[0] if block.spatial_bias_at else None
    norm = getattr(block, name) if name else None
    if name and block.fusion == 'add':  # the norm follows the sum: hide it from mmcv
        setattr(block, name, nn.Sequential(norm))
    elif type(block)._forward in (BasicBlock._forward, Bottleneck._forward) and (
        norm is None or isinstance(norm, _BatchNorm)
    ):
        return FusedBlock(block)
    return block


def _pad_widened(block: FusedBlock | ResidualBlock) -> int:
    """Round up the input channels of the convolution that reads the maps, if that is faster.

    Returns the number of zero channels that this convolution expects after the maps.
    """
    conv = getattr(block, block.widened_layers[1])
    reduction = block.spatial_bias.reduction.conv
    plugged = block.plugin_names[f'after_conv{block.spatial_bias_at}']
    if (
        not isinstance(block, FusedBlock)
        or plugged
        or type(conv) is not nn.Conv2d
        or not is_folded(reduction)
    ):
        return 0
    channels = conv.in_channels - block.spatial_bias.num_channels
    padding = _width(conv.weight, channels, block.spatial_bias.num_channels) - conv.in_channels
    conv.weight = nn.Parameter(F.pad(conv.weight, (0, 0, 0, 0, 0, padding)))
    conv.in_channels += padding
    return padding


def _width(weight: Tensor, channels: int, num_maps: int) -> int:
    """Return the padded number of input channels; on a CPU, 68 is faster than 67 or 80."""
    if weight.is_cuda:
        return padded_width(channels, num_maps)
    return -(-(channels + num_maps) // 4) * 4


class FusedSpatialBias(nn.Module):
    """:class:`mmsb.models.SpatialBias` for inference, with tensor shapes that run faster.

    A convolution to a few channels is slower than one to 16, and the 1-D convolution is slower than
    one matrix product over its concatenated taps. If our kernels work, they do it all.

    Args:
        layer: A layer in eval mode; the norm of its 1x1 convolution should be folded.
        padding: Zero channels to append to the maps. Defaults to 0.
    """

    def __init__(self, layer: SpatialBias, padding: int = 0):
        super().__init__()
        self.num_channels, self.size, self.pool = layer.num_channels, layer.size, layer.pool
        self.reduction = layer.reduction
        conv = self.reduction.conv
        self.num_reduced = conv.out_channels  # those before padding
        self.num_maps = self.num_channels + padding
        self.taps = 1 if layer.mixing is None else layer.mixing.kernel_size[0]
        if is_folded(conv):
            outputs = -(-(self.num_maps + self.taps - 1) // 16) * 16
            further = outputs - conv.out_channels
            conv.weight = nn.Parameter(F.pad(conv.weight, (0, 0, 0, 0, 0, 0, 0, further)))
            conv.bias = nn.Parameter(F.pad(conv.bias, (0, further)))
            conv.out_channels = outputs
        scale, shift = _affine(layer.norm, conv.weight.new_ones(self.num_channels))
        self.mixing = None
        if layer.mixing is not None:
            self.mixing = nn.Parameter(layer.mixing.weight.transpose(1, 2).flatten(1))
            shift = shift + scale * layer.mixing.bias
        # zero factors and summands make the appended maps zero
        self.register_buffer('scale', F.pad(scale.detach(), (0, 0, 0, padding)))
        self.register_buffer('shift', F.pad(shift.detach(), (0, 0, 0, padding)))

    def forward(self, x: Tensor, out_size: tuple[int, int]) -> Tensor:
        """Compute the maps as ``SpatialBias.forward`` does, followed by the zero channels."""
        # without the appended channels, in which infinity times zero would be NaN
        maps = self.pool(self.reduction(x)[:, : self.num_reduced], self.size).flatten(2)
        taps = [maps[:, tap : tap + self.num_channels] for tap in range(self.taps)]
        maps = taps[0] if self.mixing is None else F.linear(torch.cat(taps, dim=2), self.mixing)
        scale, shift = self.scale[: self.num_channels], self.shift[: self.num_channels]
        maps = torch.addcmul(shift, maps, scale)
        maps = F.pad(maps, (0, 0, 0, self.num_maps - self.num_channels))
        maps = maps.unflatten(2, (self.size, self.size))
        # channels last is faster for upsampling few channels and for the concatenation
        maps = maps.contiguous(memory_format=torch.channels_last)
        maps = F.interpolate(maps, size=out_size, mode='bilinear', align_corners=False)
        return maps.type_as(x)  # for autocast; a trace then follows the dtype of x at run time

    def concatenate(self, y: Tensor, x: Tensor) -> Tensor:
        """Concatenate features and maps and apply ReLU.

        Args:
            y: Features before their ReLU, (B, C, H, W), which may be overwritten.
            x: The input from which the maps are computed, as in :meth:`forward`.

        Returns:
            (B, C + num_channels + padding, H, W).
        """
        # ReLU before concatenating: a compiler fuses it into the preceding operations
        return torch.cat([F.relu_(y), F.relu_(self(x, y.shape[2:]))], dim=1)

    def concatenate_in_kernels(
        self, features: Callable[[], Tensor], bias: Tensor, x: Tensor, kernels: ModuleType
    ) -> Tensor:
        """Do the same as :meth:`concatenate` in our kernels.

        ``features`` computes y, to which ``bias`` is added. On a GPU the maps are made meanwhile.
        """
        conv = self.reduction.conv
        return kernels.concatenate(
            features, bias, x, conv.weight, conv.bias, self.mixing, self.scale, self.shift,
            self.size, self.num_channels, self.num_maps,
        )  # fmt: skip


def _affine(norm: nn.BatchNorm2d | None, ones: Tensor) -> tuple[Tensor, Tensor]:
    """Return a batch norm's scale and shift at inference, each (channels, 1); None gives 1, 0."""
    if norm is None:
        return ones[:, None], torch.zeros_like(ones)[:, None]
    scale = (norm.running_var + norm.eps).rsqrt() * norm.weight
    shift = norm.bias - norm.running_mean * scale
    return scale[:, None], shift[:, None]
