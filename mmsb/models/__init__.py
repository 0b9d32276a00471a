"""The networks: layers (one global-context block a file) and backbones."""

from .backbones import SBResNet
from .layers import SpatialBias

__all__ = ['SBResNet', 'SpatialBias']
