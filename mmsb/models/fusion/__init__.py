"""Fusing for inference: norms folded, blocks in their device's convolutions and our kernels."""

from .fusing import fuse_spatial_bias

__all__ = ['fuse_spatial_bias']
