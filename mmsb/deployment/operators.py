"""Adaptive pooling and spatial bias in operations that ONNX has and its runtimes run fast.

torch's exporter supports adaptive pooling only if the grid divides a map of known size. Here a
mask per axis says which pixels a cell covers; the graph computes it from the length of the axis,
or holds it as a constant if the size is fixed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmsb.models.fusion.block import FusedBlock
from mmsb.models.fusion.fusing import FusedSpatialBias

# ONNX Runtime keeps features in blocks of 8 channels with AVX2. With AVX-512 they are of 16; but
# padding to 16 costs a processor with AVX2 1.5 %.
CHANNEL_BLOCK = 8


def adaptive_avg_pool2d(
    x: Tensor, output_size: int | tuple[int, int], dynamic: bool = True
) -> Tensor:
    """Compute ``F.adaptive_avg_pool2d`` as two matrix products, P_h x P_w^T.

    Args:
        x: Maps, (B, C, H, W); H and W may be smaller than the grid.
        output_size: Cells of the grid: one number for both axes, or height and width.
        dynamic: Whether a traced graph computes the masks. Defaults to True.

    Returns:
        The averages, (B, C, *output_size).
    """
    rows, columns = (
        mask.to(x.dtype) / mask.sum(1, keepdim=True).to(x.dtype)
        for mask in _masks(x, output_size, dynamic)
    )
    return rows @ (x @ columns.t())  # the second factor constant: one matrix product for all maps


def adaptive_max_pool2d(
    x: Tensor,
    output_size: int | tuple[int, int],
    return_indices: bool = False,
    dynamic: bool = True,
) -> Tensor:
    """Compute ``F.adaptive_max_pool2d``.

    Args:
        x: Maps, (B, C, H, W); H and W may be smaller than the grid.
        output_size: Cells of the grid: one number for both axes, or height and width.
        return_indices: Not supported. Defaults to False.
        dynamic: Whether a traced graph computes the masks. Defaults to True.

    Returns:
        The largest values, (B, C, *output_size).

    Raises:
        NotImplementedError: ``return_indices`` is set.
    """
    if return_indices:
        raise NotImplementedError('adaptive_max_pool2d exports only with return_indices=False')
    rows, columns = _masks(x, output_size, dynamic)
    lowest = torch.finfo(x.dtype).min
    x = x.unsqueeze(2).masked_fill(~rows[:, :, None], lowest).amax(3)
    return x.unsqueeze(3).masked_fill(~columns, lowest).amax(4)


def _masks(x: Tensor, output_size: int | tuple[int, int], dynamic: bool) -> list[Tensor]:
    """Return for height and width which pixels each cell covers, bool (cells, pixels)."""
    sizes = (output_size, output_size) if isinstance(output_size, int) else output_size
    masks = []
    for length, cells in zip(x.shape[-2:], sizes, strict=True):
        length = length if dynamic else int(length)  # a tracer's lengths are tensors
        cell = torch.arange(cells, device=x.device)[:, None]
        pixel = torch.arange(length, device=x.device)
        # from floor(cell * length / cells) up to ceil((cell + 1) * length / cells)
        masks.append(((pixel + 1) * cells > cell * length) & (pixel * cells < (cell + 1) * length))
    return masks


class ExportedSpatialBias(nn.Module):
    """:class:`FusedSpatialBias` in few nodes, whose maps fill whole blocks of channels.

    Runtimes then concatenate them to features without changing the layout of either.

    Args:
        layer: The layer, whose norms are folded.
        conv: The convolution that reads the maps; it gets zero weights for the further channels,
            in place.
    """

    def __init__(self, layer: FusedSpatialBias, conv: nn.Conv2d):
        super().__init__()
        self.size, self.pool, self.mixing = layer.size, layer.pool, layer.mixing
        self.num_channels = maps = layer.num_channels
        self.num_inputs = layer.taps * self.size**2  # of the mixing, per map
        wide = -(-maps // CHANNEL_BLOCK) * CHANNEL_BLOCK
        reduction, reduced = layer.reduction.conv, layer.num_reduced
        self.reduction = nn.Conv2d(reduction.in_channels, reduced, 1)
        self.reduction.weight = nn.Parameter(reduction.weight[:reduced])
        self.reduction.bias = nn.Parameter(reduction.bias[:reduced])
        self.register_buffer('scale', layer.scale[:maps])
        self.register_buffer('shift', layer.shift[:maps])
        # the reduced channels that each map is mixed from, (maps, taps)
        self.register_buffer('taps', torch.arange(maps)[:, None] + torch.arange(layer.taps))
        self.widening = nn.Conv2d(maps, wide, 1, bias=False)
        self.widening.weight = nn.Parameter(torch.eye(wide, maps)[:, :, None, None])
        further = wide - layer.num_maps
        conv.weight = nn.Parameter(F.pad(conv.weight, (0, 0, 0, 0, 0, further)))
        conv.in_channels += further

    def forward(self, x: Tensor, out_size: tuple[int, int]) -> Tensor:
        """Compute the maps and zero channels after their ReLU, (B, 8, *out_size) for 3 maps."""
        maps = self.pool(F.relu(self.reduction(x)), self.size)
        cells = maps[:, self.taps].reshape(-1, self.num_channels, self.num_inputs)
        maps = F.linear(cells, self.mixing) * self.scale + self.shift
        maps = maps.reshape(-1, self.num_channels, self.size, self.size)
        maps = F.interpolate(maps, size=out_size, mode='bilinear', align_corners=False)
        return F.relu(self.widening(maps))

    def concatenate(self, y: Tensor, x: Tensor) -> Tensor:
        """Concatenate features and maps and apply ReLU, as ``FusedSpatialBias.concatenate``."""
        y = F.relu(y)
        return torch.cat([y, self(x, y.shape[2:])], dim=1)


def make_exportable(model: nn.Module) -> None:
    """Replace spatial bias in fused blocks by :class:`ExportedSpatialBias`, in place."""
    for block in model.modules():
        if isinstance(block, FusedBlock) and block.fast and block.spatial_bias_at:
            conv = getattr(block, block.widened_layers[1])
            block.spatial_bias = ExportedSpatialBias(block.spatial_bias, conv)
            block.fast = False  # its kernels compute FusedSpatialBias


class ExportSafe(TorchFunctionMode):
    """Context in which this module's functions replace torch's.

    Args:
        dynamic: Let the graph compute what depends on the size of a map. Defaults to True; if
            False, it is constant.
    """

    def __init__(self, dynamic: bool = True):
        super().__init__()
        self.dynamic = dynamic

    replacements = {
        F.adaptive_avg_pool2d: adaptive_avg_pool2d,
        F.adaptive_max_pool2d: adaptive_max_pool2d,
    }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.replacements:
            kwargs = dict(kwargs or {}, dynamic=self.dynamic)
        return self.replacements.get(func, func)(*args, **(kwargs or {}))
