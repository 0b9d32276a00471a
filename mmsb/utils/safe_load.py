"""Loading checkpoints without running code that they contain."""

import argparse
import codecs
import os
import pickle
import re
import zipfile
from contextlib import contextmanager
from importlib import import_module

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mmsb.utils.errors import UserError


def check_checkpoint_file(path: str) -> None:
    """Raise an error if a local checkpoint is missing or truncated, before it is loaded.

    Args:
        path: A file. Remote checkpoints (``torchvision://...``) are not checked.

    Raises:
        UserError: The file does not exist, is empty, or is a zip archive without its end.
    """
    if '://' in path:
        return
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path} does not exist')
    with open(path, 'rb') as file:
        start = file.read(2)
    # torch writes zip archives; their table of contents is at the end.
    if not start or (start == b'PK' and not zipfile.is_zipfile(path)):
        raise UserError(f'checkpoint {path} is damaged or cut short: copy or download it again')


def refusal(name: str, error: pickle.UnpicklingError) -> UserError:
    """Return the error for a checkpoint that did not load with ``weights_only=True``."""
    unknown = re.search(r'GLOBAL (\S+)', str(error))
    return UserError(
        f'checkpoint {name} was refused: it holds more than weights, pickled code'
        f'{f" ({unknown[1]})" if unknown else ""}, or is damaged; save its tensors alone, as files '
        'are loaded with weights_only=True'
    )


def load_checkpoint_file(path: str | os.PathLike, mmap: bool = False):
    """Load a local checkpoint on the CPU, without running code that it contains.

    Args:
        path: A file written by ``torch.save``.
        mmap: Memory-map the tensors if the file's format allows it. Defaults to False.

    Raises:
        UserError: The file is missing, damaged, or holds more than weights.
    """
    path = str(path)
    check_checkpoint_file(path)
    try:
        with safe_loading():
            return torch.load(path, map_location='cpu', mmap=mmap and zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise refusal(path, error) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:  # torch raises any
        reason = f'{error}'.splitlines()[0] if f'{error}' else type(error).__name__
        raise UserError(
            f'checkpoint {path} is damaged or cannot be read ({reason}): copy or download it again'
        ) from error


def checkpoint_keys(path: str) -> list[str]:
    """Return the names of the tensors in a local checkpoint.

    Returns:
        The keys of its ``state_dict``, or of the file itself if it has none.

    Raises:
        UserError: The file is missing or damaged, or does not hold weights.
    """
    content = load_checkpoint_file(path, mmap=True)
    if not isinstance(content, dict):
        raise UserError(f'checkpoint {path} holds a {type(content).__name__}, not weights')
    return list(content.get('state_dict', content))


def pretrained_files(init_cfg: dict | list | None) -> list[str]:
    """Return the checkpoints, files or addresses, that a module's ``init_cfg`` names."""
    cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or ()
    return [cfg['checkpoint'] for cfg in cfgs if cfg.get('checkpoint')]


def _method_of_history_buffer(owner: type, name: str):
    """``getattr``, restricted to the methods that mmengine's checkpoints refer to."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'the file asks for attribute {name} of {owner}')
    return getattr(owner, name)


# OpenMMLab's HistoryBuffer stores its statistics methods, which pickle as getattr calls. torch
# looks up an allowed function by its module and name.
_method_of_history_buffer.__module__ = 'builtins'
_method_of_history_buffer.__name__ = _method_of_history_buffer.__qualname__ = 'getattr'


def _allowed_globals() -> list:
    """Return the types in checkpoints besides tensors, e.g. mmengine's logged numpy scalars."""
    multiarray = import_module(f'numpy.{"_" * (np.__version__ >= "2")}core.multiarray')
    dtypes = {type(np.dtype(name)) for name in ('float32', 'float64', 'int32', 'int64', 'uint32')}
    return [
        HistoryBuffer,
        _method_of_history_buffer,
        np.ndarray,
        np.dtype,
        multiarray._reconstruct,
        multiarray.scalar,
        argparse.Namespace,  # the arguments that timm's train.py saves
        codecs.encode,  # bytes in protocol 2; torch 2.4 does not allow it itself
        *sorted(dtypes, key=str),
    ]


@contextmanager
def safe_loading():
    """Make every ``torch.load`` inside the ``with`` block use ``weights_only=True``.

    mmengine 0.10.7 loads without it, and OneDL's mmengine falls back to loading without it.
    Types that mmengine's own checkpoints need are allowed; anything else raises
    ``pickle.UnpicklingError``.
    """
    key = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
    before = os.environ.get(key)
    os.environ[key] = '1'
    torch.serialization.add_safe_globals(_allowed_globals())
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before
