"""Networks: backbones, the layers they use (one global-context block per file) and fusion."""

from .adding import add_spatial_bias, with_spatial_bias
from .backbones import SBResNet, SBResNet_CIFAR, SBSKNet, SKNet
from .fusion import fuse_spatial_bias
from .layers import (
    BATBlock,
    ContextMixing,
    CoordinateAttention,
    EfficientAttention,
    GatherExcite,
    GlobalFilter,
    LargeKernelBlock,
    NonLocalBlock,
    SelectiveKernel,
    SpatialBias,
    SqueezeExcitation,
    StyleRecalibration,
)

__all__ = [
    'BATBlock',
    'ContextMixing',
    'CoordinateAttention',
    'EfficientAttention',
    'GatherExcite',
    'GlobalFilter',
    'LargeKernelBlock',
    'NonLocalBlock',
    'SBResNet',
    'SBResNet_CIFAR',
    'SBSKNet',
    'SKNet',
    'SelectiveKernel',
    'SpatialBias',
    'SqueezeExcitation',
    'StyleRecalibration',
    'add_spatial_bias',
    'fuse_spatial_bias',
    'with_spatial_bias',
]
