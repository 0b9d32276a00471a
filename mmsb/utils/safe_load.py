"""Loading checkpoints and pickles without running code that they contain."""

import argparse
import codecs
import functools
import io
import json
import logging
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from importlib import import_module

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner.checkpoint import CheckpointLoader

from mmsb.utils.errors import UserError
from mmsb.utils.hub import PREFIX, download
from mmsb.utils.safetensors import is_safetensors, read_metadata, read_safetensors

META = 'mmsb_meta'  # the name of a published checkpoint's ``meta``, as JSON, in safetensors files
_AGAIN = 'copy or download it again'
# The first bytes of files that are given in place of a checkpoint: what they are, what to do.
_OTHER_FILES = {
    b'version https://git-lfs': ('is a Git LFS pointer, not the file itself', 'run: git lfs pull'),
    b'\x93NUMPY': ('is a numpy array', 'save tensors by name, with torch.save'),
    b'\x89HDF': ('is an HDF5 file', 'convert it to a dict of tensors, with torch.save'),
    b'\x1f\x8b': ('is compressed (gzip)', 'unpack it'),
    b'BZh': ('is compressed (bzip2)', 'unpack it'),
    b'\xfd7zXZ': ('is compressed (xz)', 'unpack it'),
    b'\x28\xb5\x2f\xfd': ('is compressed (zstandard)', 'unpack it'),
    b'7z\xbc\xaf': ('is a 7z archive', 'unpack it and give the checkpoint in it'),
}
# How torch's older format, which is not a zip archive, begins: its magic number, pickled.
_OLD_TORCH = re.compile(rb'\x80.\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.', re.DOTALL)


def check_checkpoint_file(path: str) -> None:
    """Raise an error if a local file is no checkpoint, before it is loaded.

    Args:
        path: A file. Remote checkpoints (``torchvision://...``) are not checked.

    Raises:
        UserError: The file does not exist or is not one of ``torch.save`` or safetensors. The
            message says what it is.
    """
    if '://' in path:
        return
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path} does not exist')
    try:
        found = _not_a_checkpoint(path)
    except OSError as error:
        found = f'cannot be read ({error.strerror or error})', 'check its permissions'
    if found:
        raise UserError(f'checkpoint {path} {found[0]}: {found[1]}')


def _not_a_checkpoint(path: str) -> tuple[str, str] | None:
    """Return what a file is that is no checkpoint, and what to do; None for a checkpoint."""
    with open(path, 'rb') as file:
        start = file.read(512)
    if not start:
        return 'is empty', _AGAIN
    for magic, found in _OTHER_FILES.items():
        if start.startswith(magic):
            return found
    text = start.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if text.startswith((b'<!doctype html', b'<html', b'<head', b'<?xml')):
        return 'is a web page (HTML), not the file itself', 'download it from its direct address'
    if start[257:262] == b'ustar':
        return 'is a tar archive', 'unpack it and give the checkpoint in it'
    if start.startswith(b'PK'):
        return _not_torchs_zip(path)
    if _OLD_TORCH.match(start) or is_safetensors(start):
        return None
    if start[0] == 0x80:
        return None  # a plain pickle, as Detectron2's files
    if path.endswith('.onnx'):
        return 'is an ONNX model', 'give the checkpoint that it was exported from'
    what = 'is a text file' if start.isascii() and start.decode().isprintable() else 'is unknown'
    if b'\n' in start and start.replace(b'\n', b'').replace(b'\r', b'').isascii():
        what = 'is a text file'
    return f'{what}, not a checkpoint', 'give a file of torch.save, or safetensors'


def _is_plain_pickle(path: str) -> bool:
    with open(path, 'rb') as file:
        start = file.read(20)
    return start[:1] == b'\x80' and not _OLD_TORCH.match(start)


def _not_torchs_zip(path: str) -> tuple[str, str] | None:
    """As `_not_a_checkpoint`, for a zip archive, which is what torch.save writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError):
        # its table of contents is at the end
        return 'is damaged or cut short', _AGAIN
    inside = {name.partition('/')[2] for name in names}
    if any(name.endswith('.npy') for name in names):
        return 'is a numpy archive (npz)', 'save its arrays as tensors by name, with torch.save'
    if 'constants.pkl' in inside or any(name.startswith('code/') for name in inside):
        return 'is a TorchScript program', 'give the checkpoint that it was exported from'
    if 'archive_format' in inside or 'serialized_exported_program.json' in names:
        return 'is a torch.export program', 'give the checkpoint that it was exported from'
    if 'data.pkl' not in inside:
        some = next((name for name in names if name.endswith(('.pth', '.pt', '.ckpt'))), None)
        return 'is a zip archive', f'unpack it and give the checkpoint in it{some and f", {some}"}'
    return None


def _refusal(name: str, error: Exception) -> UserError:
    """Return the error for a checkpoint that torch could not load with ``weights_only=True``."""
    if unknown := re.search(
        r'GLOBAL (\S+)|attribute \S+ of \S+|unsupported class (.*)', f'{error}'
    ):
        return UserError(
            f'checkpoint {name} was refused: it holds more than weights, pickled code '
            f'({(unknown[1] or unknown[0]).strip()}), which is not run; where you trust it, save '
            'its tensors alone: torch.save(model.state_dict(), FILE)'
        )
    reason = f'{error}'.strip().splitlines()[0] if f'{error}'.strip() else type(error).__name__
    if isinstance(error, pickle.UnpicklingError):  # torch's text advises to run the code
        reason = 'its pickle is broken'
    return UserError(f'checkpoint {name} is damaged or cannot be read ({reason}): {_AGAIN}')


def _safe_load(load: Callable, file, map_location=None, mmap: bool | None = None):
    """Load a file or stream as ``torch.load`` does, with ``weights_only=True`` and our errors."""
    is_path = isinstance(file, str | os.PathLike)
    name = os.fspath(file) if is_path else getattr(file, 'name', 'in memory')
    if is_path:
        check_checkpoint_file(name)
    try:
        if is_path:
            with open(name, 'rb') as start:
                if is_safetensors(start.read(9)):
                    content = read_safetensors(name)
                    if isinstance(map_location, str | torch.device):
                        content = {key: x.to(map_location) for key, x in content.items()}
                    meta = read_metadata(name).get(META)
                    return dict(meta=json.loads(meta), state_dict=content) if meta else content
            if _is_plain_pickle(name):
                return load_pickle(name, encoding='latin1')
        options = dict(mmap=True) if mmap and is_path and zipfile.is_zipfile(name) else {}
        with _only_our_globals():
            return load(file, map_location=map_location, weights_only=True, **options)
    except (UserError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # torch's unpickler raises any kind for a damaged file
        raise _refusal(name, error) from error


def load_checkpoint_file(path: str | os.PathLike, mmap: bool = False):
    """Load a local checkpoint on the CPU, without running code that it contains.

    Args:
        path: A file written by ``torch.save``, safetensors, or a pickle of arrays by name, as
            Detectron2 writes.
        mmap: Memory-map the tensors if the file's format allows it. Defaults to False.

    Raises:
        UserError: The file is missing, damaged, no checkpoint, or holds more than weights.
    """
    with safe_loading():
        return torch.load(os.fspath(path), map_location='cpu', mmap=mmap)


def load_checkpoint_source(checkpoint: str):
    """Load a checkpoint from a file, or from an address such as ``torchvision://resnet50``.

    Raises:
        UserError: As :func:`load_checkpoint_file`.
    """
    if '://' not in checkpoint:
        return load_checkpoint_file(os.path.expanduser(checkpoint))
    with safe_loading():
        return CheckpointLoader.load_checkpoint(checkpoint, 'cpu', 'current')


@CheckpointLoader.register_scheme(prefixes=PREFIX)
def _load_from_hub(filename: str, map_location=None):
    """Load ``hf://OWNER/NAME``, the backbone of a model on the Hub, or ``hf://OWNER/NAME/FILE``."""
    owner, name, file = f'{filename.removeprefix(PREFIX)}//'.split('/', 2)
    path = download(f'{owner}/{name}', file.strip('/') or 'model.safetensors')
    with safe_loading():
        return torch.load(path, map_location)


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


def _stand_in(module: str, name: str, function: Callable | None = None) -> Callable:
    """Make what is loaded for a name in a file: torch looks it up by module and name.

    Args:
        module: The name's module.
        name: The name.
        function: What a call of it runs. Defaults to None: the name is a class that is not called.
    """
    if function is None:
        return type(name, (), dict(__module__=module))

    def stand_in(*args):
        return function(*args)

    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module, name, name
    return stand_in


# Methods in mmengine's checkpoints, which pickle as calls of getattr: those of the logged numbers'
# statistics, and those in the state of its OneCycle schedulers.
_OneCycle = _stand_in('mmengine.optim.scheduler.param_scheduler', 'OneCycleParamScheduler')
_METHODS = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    _OneCycle: ('_annealing_cos', '_annealing_linear'),
}


def _method(owner: type, name: str) -> Callable:
    """``getattr``, restricted to `_METHODS`."""
    if not isinstance(owner, type) or name not in _METHODS.get(owner, ()):
        raise pickle.UnpicklingError(f'the file asks for attribute {name} of {owner}')
    if owner is _OneCycle:
        owner = getattr(import_module(owner.__module__), owner.__name__)
    return getattr(owner, name)


@functools.cache
def _allowed_globals() -> list:
    """Return what checkpoints name besides tensors, e.g. mmengine's logged numpy scalars."""
    multiarray = import_module(f'numpy.{"_" * (np.__version__ >= "2")}core.multiarray')
    kinds = 'bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 S U'
    dtypes = {type(np.dtype(name)) for name in kinds.split()}
    return [
        HistoryBuffer,
        _OneCycle,
        _stand_in('builtins', 'getattr', _method),
        np.ndarray,
        np.dtype,
        # numpy 1 and numpy 2 name these two differently; each reads the other's files
        *(
            _stand_in(f'numpy.{core}.multiarray', name, getattr(multiarray, name))
            for core in ('core', '_core')
            for name in ('_reconstruct', 'scalar')
        ),
        slice,
        argparse.Namespace,  # the arguments that timm's train.py saves
        codecs.encode,  # bytes in protocol 2; torch 2.4 does not allow it itself
        *sorted(dtypes, key=str),
    ]


@contextmanager
def _only_our_globals():
    """Allow nothing else in ``torch.load``: others allow more, as OneDL's mmengine getattr."""
    serialization = torch.serialization
    before = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    serialization.add_safe_globals(_allowed_globals())
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


class _DataUnpickler(pickle.Unpickler):
    """Unpickler of arrays, tensors and Python's own containers."""

    def find_class(self, module: str, name: str):
        known = _data_globals()
        if (module, name) not in known:
            raise pickle.UnpicklingError(
                f'it holds pickled code ({module}.{name}), which is not run'
            )
        return known[module, name]


@functools.cache
def _data_globals() -> dict[tuple[str, str], Callable]:
    found = {(value.__module__, value.__name__): value for value in _allowed_globals()}
    numeric = import_module(f'numpy.{"_" * (np.__version__ >= "2")}core.numeric')
    for core in ('core', '_core'):  # arrays in pickles of protocol 5
        found[f'numpy.{core}.numeric', '_frombuffer'] = numeric._frombuffer
    found['torch._utils', '_rebuild_tensor_v2'] = torch._utils._rebuild_tensor_v2
    found['torch.storage', '_load_from_bytes'] = _storage
    found['collections', 'OrderedDict'] = OrderedDict
    return found


def _storage(content: bytes):
    """As ``torch.storage._load_from_bytes``, which runs code in the bytes."""
    with safe_loading():
        return torch.load(io.BytesIO(content))


def load_pickle(path: str | os.PathLike, **options):
    """Load a pickle of arrays, tensors and Python's own containers, without running code in it.

    Args:
        path: The file.
        **options: Passed to ``pickle.Unpickler``, e.g. ``encoding``.

    Raises:
        FileNotFoundError: It does not exist.
        UserError: It holds anything else, or is damaged.
    """
    try:
        with open(path, 'rb') as file:
            return _DataUnpickler(file, **options).load()
    except FileNotFoundError:
        raise
    except Exception as error:  # unpickling another kind of file can raise almost any error
        reason = f'{error}'.splitlines()[0] if f'{error}' else type(error).__name__
        raise UserError(f'{path} cannot be read: {reason}') from error


@contextmanager
def safe_loading():
    """Make every ``torch.load`` inside the ``with`` block safe, and its errors one line.

    mmengine 0.10.7 loads without ``weights_only=True``, and OneDL's mmengine falls back to that.
    Types that mmengine's own checkpoints need are allowed; anything else raises a
    :class:`UserError`. What the environment says of ``weights_only`` does not count.
    """
    names = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    if names[1] in before:
        print_log(
            f'{names[1]} is set, but checkpoints are loaded with weights_only=True here: code in '
            'them is never run',
            'current',
            logging.WARNING,
        )
    os.environ[names[0]] = '1'  # for whoever imported torch.load by its name
    load = torch.load

    def safe_load(f, map_location=None, *args, mmap=None, **kwargs):
        return _safe_load(load, f, map_location, mmap)

    if getattr(load, 'is_safe', False):  # a block inside another
        safe_load = load
    safe_load.is_safe = True
    torch.load = safe_load
    try:
        yield
    finally:
        torch.load = load
        del os.environ[names[0]]
        os.environ.update(before)
