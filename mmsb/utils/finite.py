"""A warning about weights that are not numbers."""

import logging
from collections.abc import Mapping

import torch
from mmengine.logging import print_log
from torch import Tensor


def warn_not_finite(state: Mapping[str, Tensor], source: str) -> bool:
    """Log one warning if weights are NaN or infinite: outputs will be, too.

    Args:
        state: A state dict.
        source: What the weights belong to, for the message.

    Returns:
        Whether it warned.
    """
    wrong = [
        name
        for name, tensor in state.items()
        if isinstance(tensor, Tensor)
        and torch.is_floating_point(tensor)
        and not tensor.is_meta
        and not tensor.isfinite().all()
    ]
    if wrong:
        more = f' and {len(wrong) - 1} more tensors' if len(wrong) > 1 else ''
        print_log(
            f'{source} has NaN or infinite weights, in {wrong[0]}{more}: its training diverged or '
            'the file is damaged; predictions will be NaN or meaningless',
            'current',
            logging.WARNING,
        )
    return bool(wrong)
