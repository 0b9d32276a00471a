"""Spatial bias for OpenMMLab: SB-ResNet in mmpretrain, mmdet and mmseg (arXiv 2302.12505)."""

from . import ops
from .version import __version__

# Before anything imports mmcv.ops: where mmcv has no compiled operators, torchvision serves them.
ops.install()

from . import models  # noqa: E402 (registers the backbones, so that plain names resolve)

__all__ = ['__version__', 'models', 'ops']
