"""What all operators share."""

import torch
from torch import Tensor


def full(*tensors: Tensor) -> list[Tensor]:
    """Convert tensors below float32 to float32, which every kernel supports."""
    return [t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors]


def needs_compiled_mmcv(operator: str) -> str:
    """Return the message of the error for an operator that isn't served."""
    return (
        f"mmcv's operator {operator} needs a compiled mmcv; mmsb.ops doesn't serve it. "
        'OneDL: `MMCV_WITH_OPS=1 pip install --no-build-isolation --no-deps '
        '--force-reinstall --no-binary onedl-mmcv onedl-mmcv`. '
        'OpenMMLab: `pip uninstall mmcv-lite`, then `mim install mmcv`.'
    )
