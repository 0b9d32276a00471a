"""All that differs between the toolboxes, a file each. A new task is a new file and a line here."""

from mmengine.config import Config

from .base import NothingToExplainError, Target, Toolbox
from .mmdet import MMDet
from .mmpretrain import MMPretrain
from .mmseg import MMSeg

__all__ = ['TOOLBOXES', 'NothingToExplainError', 'Target', 'Toolbox', 'toolbox_of']

TOOLBOXES: dict[str, Toolbox] = {kind.name: kind() for kind in (MMDet, MMSeg, MMPretrain)}


def toolbox_of(cfg: Config) -> Toolbox:
    """The toolbox of a config, by its ``default_scope``; a neutral one where there is none."""
    return TOOLBOXES.get(cfg.get('default_scope')) or Toolbox()
