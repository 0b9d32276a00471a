"""Pooling and bilinear interpolation between n pixels and a grid's S cells as matrices."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Axis(NamedTuple):
    """Tables for one side of a map, on its device, float32.

    Attributes:
        pool: (S, n), adaptive average pooling's weights.
        up: (S, n), bilinear interpolation's (``align_corners=False``), transposed.
        sums: (S,), up's sums over the pixels.
        gram: (3, S), up up' under, on and over the main diagonal; elsewhere it is zero.
    """

    pool: Tensor
    up: Tensor
    sums: Tensor
    gram: Tensor


def pooling_weights(pixels: int, size: int) -> Tensor:
    """Return the weights of adaptive average pooling, (size, pixels), float64."""
    cell, pixel = torch.arange(size, device='cpu')[:, None], torch.arange(pixels, device='cpu')
    first, end = cell * pixels // size, -(-(cell + 1) * pixels // size)
    return ((pixel >= first) & (pixel < end)).double() / (end - first)


def interpolation_weights(pixels: int, size: int) -> Tensor:
    """Return the weights of bilinear interpolation, (pixels, size), float64."""
    centre = torch.arange(pixels, dtype=torch.float64, device='cpu') + 0.5
    at = (centre * (size / pixels) - 0.5).clamp(min=0)
    low = at.long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    cells = torch.eye(size, dtype=torch.float64, device='cpu')
    share = (at - low)[:, None]
    return cells[low] * (1 - share) + cells[high] * share


# a detector's images come in some hundred heights and widths
@lru_cache(maxsize=4096)
def axis(pixels: int, size: int, device: torch.device) -> Axis:
    """Return the tables for n pixels and S cells; a second call neither copies nor waits."""
    pool, up = pooling_weights(pixels, size), interpolation_weights(pixels, size).T.contiguous()
    product = up @ up.T
    gram = product.new_zeros(3, size)
    gram[0, 1:] = gram[2, :-1] = product.diagonal(1)
    gram[1] = product.diagonal()
    parts = pool, up, up.sum(1), gram
    # one copy; each table begins at a multiple of 64 bytes
    lengths = [-(-part.numel() // 16) * 16 for part in parts]
    with torch.inference_mode(False):  # kept for training too
        together = torch.zeros(sum(lengths), device='cpu')
        for part, piece in zip(parts, together.split(lengths), strict=True):
            piece[: part.numel()] = part.flatten()
        pieces = together.to(device).split(lengths)
    return Axis(
        *[p[: part.numel()].view(part.shape) for part, p in zip(parts, pieces, strict=True)]
    )
