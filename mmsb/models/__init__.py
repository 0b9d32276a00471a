"""The networks: layers (one global-context block a file) and backbones."""

from .backbones import SBResNet, SBResNet_CIFAR, SBSKNet, SKNet
from .fusion import fuse_spatial_bias
from .layers import (
    BATBlock,
    GatherExcite,
    NonLocalBlock,
    SelectiveKernel,
    SpatialBias,
    SqueezeExcitation,
    StyleRecalibration,
)

__all__ = [
    'BATBlock',
    'GatherExcite',
    'NonLocalBlock',
    'SBResNet',
    'SBResNet_CIFAR',
    'SBSKNet',
    'SKNet',
    'SelectiveKernel',
    'SpatialBias',
    'SqueezeExcitation',
    'StyleRecalibration',
    'fuse_spatial_bias',
]
