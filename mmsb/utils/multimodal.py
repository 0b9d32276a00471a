"""Keep models that a new transformers breaks from taking the toolboxes along.

mmpretrain's multimodal models need transformers 4: beside transformers 5 ``import mmpretrain``
fails, and most of mmdet and mmseg with it. mmdet does without transformers where importing it
raises ImportError; one that is too new for this torch raises other errors. No network of this
project needs transformers.
"""

import logging
from importlib.metadata import PackageNotFoundError, version

from mmengine.logging import print_log

from .on_import import when_imported, wrap_import


def leave_out() -> None:
    """Let mmpretrain, mmdet and mmseg import beside a transformers that is too new for them.

    The multimodal models are switched off when mmpretrain is imported. Does nothing beside
    transformers 4. Calling it again is harmless.
    """
    major = _found().partition('.')[0]
    if major.isdecimal() and int(major) >= 5:
        wrap_import('transformers.modeling_utils', _raise_import_error)  # mmdet imports it
        when_imported('mmpretrain.utils.dependency', _switch_off)  # mmpretrain's own switch


def _found() -> str:
    try:
        return version('transformers')
    except PackageNotFoundError:
        return ''


def _switch_off(module) -> None:
    module.WITH_MULTIMODAL = False
    print_log(
        f"mmpretrain's multimodal models are left out: they need transformers 4, not {_found()}",
        'current',
        logging.INFO,
    )


def _raise_import_error(execute, module) -> None:
    try:
        execute(module)
    except ImportError:
        raise
    except Exception as error:  # e.g. NameError, where it refuses this torch
        raise ImportError(f'transformers {_found()} does not import: {error}') from error
