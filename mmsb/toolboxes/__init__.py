"""Code that differs between toolboxes, one file each. To add a task, add a file and a line here."""

from mmengine.config import Config

from .base import NothingToExplainError, Target, Toolbox
from .mmdet import MMDet
from .mmpretrain import MMPretrain
from .mmseg import MMSeg

__all__ = ['TOOLBOXES', 'NothingToExplainError', 'Target', 'Toolbox', 'toolbox_of']

TOOLBOXES: dict[str, Toolbox] = {kind.name: kind() for kind in (MMDet, MMSeg, MMPretrain)}


def toolbox_of(cfg: Config) -> Toolbox:
    """Get the toolbox of a config by its ``default_scope``; a neutral one if there is none."""
    return TOOLBOXES.get(cfg.get('default_scope')) or Toolbox()
