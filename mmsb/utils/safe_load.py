"""Loading checkpoints without running what they hold."""

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
    """Refuses a local checkpoint that is missing or was cut short, before it is loaded.

    Args:
        path: A file, or an address as ``torchvision://resnet50``, which is left alone.

    Raises:
        UserError: The file does not exist, is empty, or is a zip archive without its end.
    """
    if '://' in path:
        return
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path} does not exist')
    with open(path, 'rb') as file:
        start = file.read(2)
    # torch writes zip archives, whose table of contents is at the end.
    if not start or (start == b'PK' and not zipfile.is_zipfile(path)):
        raise UserError(f'checkpoint {path} is damaged or cut short: copy or download it again')


def refusal(name: str, error: pickle.UnpicklingError) -> UserError:
    """What to say of a checkpoint that did not load with ``weights_only=True``."""
    unknown = re.search(r'GLOBAL (\S+)', str(error))
    return UserError(
        f'checkpoint {name} was refused: it holds more than weights, pickled code'
        f'{f" ({unknown[1]})" if unknown else ""}, or is damaged; files are read with '
        'weights_only=True'
    )


def load_checkpoint_file(path: str | os.PathLike, mmap: bool = False):
    """Loads a local checkpoint on CPU, without running what it holds.

    Args:
        path: A file, as ``torch.save`` wrote it.
        mmap: Map the tensors, where the file's format allows it, rather than read them.

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
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:  # as torch finds it
        reason = f'{error}'.splitlines()[0] if f'{error}' else type(error).__name__
        raise UserError(
            f'checkpoint {path} is damaged or cannot be read ({reason}): copy or download it again'
        ) from error


def checkpoint_keys(path: str) -> list[str]:
    """Names of the tensors in a local checkpoint.

    Returns:
        The keys of its ``state_dict``, or its own where it has none.

    Raises:
        UserError: The file is missing, damaged, or holds something else than weights.
    """
    content = load_checkpoint_file(path, mmap=True)
    if not isinstance(content, dict):
        raise UserError(f'checkpoint {path} holds a {type(content).__name__}, not weights')
    return list(content.get('state_dict', content))


def pretrained_files(init_cfg: dict | list | None) -> list[str]:
    """The checkpoints, files or addresses, that a module's ``init_cfg`` names."""
    cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or ()
    return [cfg['checkpoint'] for cfg in cfgs if cfg.get('checkpoint')]


def _method_of_history_buffer(owner: type, name: str):
    """``getattr`` as mmengine's checkpoints need it, and nothing else."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'the file asks for attribute {name} of {owner}')
    return getattr(owner, name)


# OpenMMLab's HistoryBuffer holds its statistics methods, which pickle as getattr calls. torch
# looks an allowed function up by its module and name.
_method_of_history_buffer.__module__ = 'builtins'
_method_of_history_buffer.__name__ = _method_of_history_buffer.__qualname__ = 'getattr'


def _allowed_globals() -> list:
    """What checkpoints hold beside tensors: mmengine's, logged scalars as numpy arrays."""
    multiarray = import_module(f'numpy.{"_" * (np.__version__ >= "2")}core.multiarray')
    dtypes = {type(np.dtype(name)) for name in ('float32', 'float64', 'int32', 'int64', 'uint32')}
    return [
        HistoryBuffer,
        _method_of_history_buffer,
        np.ndarray,
        np.dtype,
        multiarray._reconstruct,
        multiarray.scalar,
        argparse.Namespace,  # the arguments in a checkpoint of timm's train.py
        codecs.encode,  # bytes in protocol 2; torch 2.4 does not allow it itself
        *sorted(dtypes, key=str),
    ]


@contextmanager
def safe_loading():
    """Makes every ``torch.load`` inside load with ``weights_only=True``.

    mmengine 0.10.7 loads without it, and OneDL's falls back to loading without it. Names that
    mmengine's own checkpoints need are allowed; anything else raises
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
