"""Keep models that a new transformers breaks from taking the toolboxes along.

mmpretrain's multimodal models need transformers 4: beside transformers 5 ``import mmpretrain``
fails, and most of mmdet and mmseg with it. mmdet does without transformers where importing it
raises ImportError; one that is too new for this torch raises other errors. No network of this
project needs transformers.
"""

import importlib.util
import logging
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import PackageNotFoundError, version

from mmengine.logging import print_log

SWITCH = 'mmpretrain.utils.dependency'  # the module with mmpretrain's own switch
IMPORTED = 'transformers.modeling_utils'  # by mmdet


def leave_out() -> None:
    """Let mmpretrain, mmdet and mmseg import beside a transformers that is too new for them.

    The multimodal models are switched off when mmpretrain is imported. Does nothing beside
    transformers 4, or if the modules have been imported already. Calling it again is harmless.
    """
    try:
        found = version('transformers')
    except PackageNotFoundError:
        return
    major = found.partition('.')[0]
    if not major.isdecimal() or int(major) < 5:
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(found))


class _Finder(MetaPathFinder):
    """Finds two modules, each once, and changes how they are run."""

    def __init__(self, found: str):
        self.found = found
        self.runs = {SWITCH: self._switch_off, IMPORTED: self._raise_import_error}

    def find_spec(self, name, path, target=None):
        run = self.runs.pop(name, None)
        spec = importlib.util.find_spec(name) if run else None
        if spec is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: run(execute, module)
        return spec

    def _switch_off(self, execute, module) -> None:
        execute(module)
        module.WITH_MULTIMODAL = False
        print_log(
            "mmpretrain's multimodal models are left out: they need transformers 4, not "
            f'{self.found}',
            'current',
            logging.INFO,
        )

    def _raise_import_error(self, execute, module) -> None:
        try:
            execute(module)
        except ImportError:
            raise
        except Exception as error:  # e.g. NameError, where it refuses this torch
            raise ImportError(f'transformers {self.found} does not import: {error}') from error
