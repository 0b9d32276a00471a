"""Fusion for inference: folded norms, fused convolutions and spatial bias kernels."""

from .fusing import fuse_spatial_bias

__all__ = ['fuse_spatial_bias']
