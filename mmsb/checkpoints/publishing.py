"""Publishing checkpoints: only weights and metadata, written atomically."""

import hashlib
import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.utils.finite import warn_not_finite
from mmsb.utils.safe_load import META, load_checkpoint_file
from mmsb.utils.safetensors import as_safetensors
from mmsb.version import __version__

FORMATS = ('pth', 'safetensors')


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
    format: str | None = None,
) -> Path:
    """Write the weights and metadata of a training checkpoint, with the file's hash in its name.

    ``state_dict`` and ``meta`` (the config, the classes in ``dataset_meta``, versions) are kept.
    The states of optimizer, schedulers and hooks are left out. With mmengine's ``EMAHook``,
    ``state_dict`` holds the averaged weights, which are kept; ``ema_state_dict``, the weights
    before averaging, is left out.

    Args:
        source: The checkpoint to read.
        target: ``NAME.pth`` or ``NAME.safetensors``; ``NAME-<first 8 digits of the file's
            SHA-256>`` with the same ending is written. A safetensors file holds ``meta`` as JSON;
            mmsb's tools read it, the toolboxes' own do not.
        force: Overwrite an existing file. Defaults to False.
        log: Called with lines on what was kept and left out. Defaults to None.
        format: 'pth' or 'safetensors', for a ``target`` without ending. Defaults to None: the
            ending of ``target`` decides.

    Returns:
        The path written.

    Raises:
        UserError: A file cannot be read or written, or is not a checkpoint from mmengine.
    """
    path = named(Path(target), format)  # refused before the file is read
    return write_published(*stripped(source), path, force, log)


def write_published(
    published: dict,
    left: list[str],
    path: Path,
    force: bool = False,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Write what :func:`stripped` returned; see :func:`publish_checkpoint`.

    Args:
        published: Weights and metadata.
        left: Names of what was left out.
        path: From :func:`named`.
        force: Overwrite an existing file. Defaults to False.
        log: Called with lines on what was kept and left out. Defaults to None.
    """
    as_content = _as_safetensors if path.suffix == '.safetensors' else _as_bytes
    content = as_content(published)
    path = path.with_stem(f'{path.stem}-{hashlib.sha256(content).hexdigest()[:8]}')
    _write(content, path, force)
    if log:
        averaged = ' (averaged, EMAHook)' if 'ema_state_dict' in left else ''
        tensors, meta = len(published['state_dict']), ', '.join(published['meta'])
        log(f'kept: {tensors} tensors{averaged}; {meta}')
        log(f'left out: {", ".join(left) or "nothing"}')
    return path


def stripped(source: str | os.PathLike) -> tuple[dict, list[str]]:
    """Return ``state_dict`` and ``meta`` of a training checkpoint, and the names of the rest.

    Raises:
        UserError: The file cannot be read, or is not a checkpoint from mmengine.
    """
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
    left = [name for name in checkpoint if name not in ('state_dict', 'meta')]
    return dict(meta=meta, state_dict=state), left


def named(target: Path, format: str | None) -> Path:
    """Return the target with the ending of its format."""
    endings = [f'.{name}' for name in FORMATS]
    if format and target.suffix not in endings:
        return target.with_name(f'{target.name}.{format}')
    if target.suffix not in endings:
        raise UserError(f'{target} is not a checkpoint name: give NAME{" or NAME".join(endings)}')
    if format and target.suffix != f'.{format}':
        raise UserError(f'{target} does not end as --format {format} says: give NAME.{format}')
    return target


def _as_safetensors(published: dict) -> bytes:
    state = {key: value for key, value in published['state_dict'].items() if torch.is_tensor(value)}
    if odd := [key for key in published['state_dict'] if key not in state]:
        raise UserError(
            f'{odd[0]} is no tensor, which safetensors files cannot hold: give NAME.pth'
        )
    try:
        meta = json.dumps(published['meta'])
    except TypeError as error:
        raise UserError(
            f'meta holds what safetensors files cannot ({error}): give NAME.pth'
        ) from error
    return as_safetensors(state, {META: meta})


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
