"""Spatial bias for OpenMMLab: SB-ResNet in mmpretrain, mmdet and mmseg (arXiv 2302.12505)."""

import sys

from .version import __version__

__all__ = ['__version__']

try:
    from . import ops
    from .utils import model_index, multimodal, on_import

    # Before anything imports mmcv.ops: without compiled operators, it uses torchvision's.
    ops.install()
    multimodal.leave_out()  # before anything imports mmpretrain
    model_index.introduce()
    from . import models  # registers the backbones, so that plain names resolve
    from .models import add_spatial_bias
    from .models.backbones import sb_resnet_timm

    on_import.when_imported('timm.models', sb_resnet_timm.register)
except ImportError as error:
    # check_env explains this very error, and running it imports this package first.
    if 'mmsb.check_env' not in sys.orig_argv:
        raise ImportError(f'{error} (python -m mmsb.check_env says what to install)') from error
else:
    __all__ += ['add_spatial_bias', 'models', 'ops']
