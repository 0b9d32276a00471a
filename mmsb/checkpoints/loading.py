"""Loading checkpoints without running what they hold."""

import os
import zipfile
from contextlib import contextmanager

import numpy as np
import torch

from mmsb.errors import UserError


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


def _globals_of_mmengine() -> list:
    """What mmengine's own checkpoints hold beside tensors: logged scalars, as numpy arrays."""
    from mmengine.logging import HistoryBuffer

    core = np._core if hasattr(np, '_core') else np.core
    dtypes = {type(np.dtype(name)) for name in ('float32', 'float64', 'int32', 'int64', 'uint32')}
    return [
        HistoryBuffer,
        np.ndarray,
        np.dtype,
        core.multiarray._reconstruct,
        core.multiarray.scalar,
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
    torch.serialization.add_safe_globals(_globals_of_mmengine())
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before
