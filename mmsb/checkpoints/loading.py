"""Loading checkpoints without running what they hold."""

import os
from contextlib import contextmanager

import numpy as np
import torch


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
