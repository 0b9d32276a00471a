"""Publishing checkpoints: only weights and metadata, written atomically."""

import hashlib
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.utils.finite import warn_not_finite
from mmsb.utils.safe_load import load_checkpoint_file
from mmsb.utils.safetensors import as_safetensors
from mmsb.version import __version__


def save_checkpoint(checkpoint: dict, path: str | os.PathLike, force: bool = False) -> None:
    """Save as ``torch.save`` does, but never leave a half-written file.

    NAME.safetensors is written in that format; ``checkpoint`` must then be a dict of tensors.

    Raises:
        UserError: The file exists and ``force`` is not set, or it cannot be written.
    """
    if str(path).endswith('.safetensors'):
        _write(as_safetensors(checkpoint), Path(path), force)
    else:
        _write(_as_bytes(checkpoint), Path(path), force)


def publish_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    force: bool = False,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Write the weights and metadata of a training checkpoint, with the file's hash in its name.

    ``state_dict`` and ``meta`` (the config, the classes in ``dataset_meta``, versions) are kept.
    The states of optimizer, schedulers and hooks are left out. With mmengine's ``EMAHook``,
    ``state_dict`` holds the averaged weights, which are kept; ``ema_state_dict``, the weights
    before averaging, is left out.

    Args:
        source: The checkpoint to read.
        target: ``NAME.pth``; ``NAME-<first 8 digits of the file's SHA-256>.pth`` is written.
        force: Overwrite an existing file. Defaults to False.
        log: Called with lines on what was kept and left out. Defaults to None.

    Returns:
        The path written.

    Raises:
        UserError: A file cannot be read or written, or is not a checkpoint from mmengine.
    """
    target = Path(target)
    if target.suffix != '.pth':
        raise UserError(f'{target} is not a checkpoint name: give NAME.pth')
    checkpoint = load_checkpoint_file(source)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), dict):
        raise UserError(
            f'{source} has no state_dict: give a checkpoint from training, or one from '
            'tools/model_converters/convert.py --to mmsb'
        )
    state = checkpoint['state_dict']
    warn_not_finite(state, f'checkpoint {source}')
    meta = checkpoint.get('meta')
    meta = dict(_plain(meta) if isinstance(meta, dict) else {}, mmsb_version=__version__)
    meta.pop('hook_msgs', None)
    content = _as_bytes(dict(meta=meta, state_dict=state))
    path = target.with_stem(f'{target.stem}-{hashlib.sha256(content).hexdigest()[:8]}')
    _write(content, path, force)
    if log:
        left = [name for name in checkpoint if name not in ('state_dict', 'meta')]
        averaged = ' (averaged, EMAHook)' if 'ema_state_dict' in left else ''
        log(f'kept: {len(state)} tensors{averaged}; {", ".join(meta)}')
        log(f'left out: {", ".join(left) or "nothing"}')
    return path


def _as_bytes(checkpoint: dict) -> memoryview:
    buffer = BytesIO()  # not a file: torch would write its name into the content
    torch.save(checkpoint, buffer)
    return buffer.getbuffer()


def _write(content: memoryview | bytes, path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise UserError(f'{path} exists: give another name, or --force to overwrite it')
    with replacing(path) as part:
        part.write_bytes(content)


def _plain(value):
    """Convert numpy values to Python's, which always load with ``weights_only=True``."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
