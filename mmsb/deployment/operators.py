"""Adaptive pooling in operations that ONNX has, for maps of any size.

torch's exporter supports adaptive pooling only if the grid divides a map of known size. Here a
mask per axis says which pixels a cell covers; the graph computes it from the length of the axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int, int]) -> Tensor:
    """Compute ``F.adaptive_avg_pool2d`` as two matrix products, P_h x P_w^T.

    Args:
        x: Maps, (B, C, H, W); H and W may be smaller than the grid.
        output_size: Cells of the grid: one number for both axes, or height and width.

    Returns:
        The averages, (B, C, *output_size).
    """
    rows, columns = (
        mask.to(x.dtype) / mask.sum(1, keepdim=True).to(x.dtype) for mask in _masks(x, output_size)
    )
    return rows @ x @ columns.t()


def adaptive_max_pool2d(
    x: Tensor, output_size: int | tuple[int, int], return_indices: bool = False
) -> Tensor:
    """Compute ``F.adaptive_max_pool2d``.

    Args:
        x: Maps, (B, C, H, W); H and W may be smaller than the grid.
        output_size: Cells of the grid: one number for both axes, or height and width.
        return_indices: Not supported. Defaults to False.

    Returns:
        The largest values, (B, C, *output_size).

    Raises:
        NotImplementedError: ``return_indices`` is set.
    """
    if return_indices:
        raise NotImplementedError('adaptive_max_pool2d exports only with return_indices=False')
    rows, columns = _masks(x, output_size)
    lowest = torch.finfo(x.dtype).min
    x = x.unsqueeze(2).masked_fill(~rows[:, :, None], lowest).amax(3)
    return x.unsqueeze(3).masked_fill(~columns, lowest).amax(4)


def _masks(x: Tensor, output_size: int | tuple[int, int]) -> list[Tensor]:
    """Return for height and width which pixels each cell covers, bool (cells, pixels)."""
    sizes = (output_size, output_size) if isinstance(output_size, int) else output_size
    masks = []
    for length, cells in zip(x.shape[-2:], sizes, strict=True):
        cell = torch.arange(cells, device=x.device)[:, None]
        pixel = torch.arange(length, device=x.device)
        # from floor(cell * length / cells) up to ceil((cell + 1) * length / cells)
        masks.append(((pixel + 1) * cells > cell * length) & (pixel * cells < (cell + 1) * length))
    return masks


class ExportSafe(TorchFunctionMode):
    """Context in which this module's functions replace torch's."""

    replacements = {
        F.adaptive_avg_pool2d: adaptive_avg_pool2d,
        F.adaptive_max_pool2d: adaptive_max_pool2d,
    }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.replacements.get(func, func)(*args, **(kwargs or {}))
