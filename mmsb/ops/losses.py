"""Focal losses. ``target`` holds labels, (N,); ``weight`` is (C,), or empty for no weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmsb.ops.common import full

# mmcv clamps probabilities to FLT_MIN before the logarithm, in every precision.
_FLT_MIN = torch.finfo(torch.float32).tiny


def _sigmoid_focal(input, target, weight, output, of_target, of_others) -> None:
    """Write ``of_target(p)`` in the column of each row's label and ``of_others(p)`` elsewhere.

    A label outside [0, C) is background: its row has no target column.
    """
    p = full(input)[0].sigmoid()
    value = of_others(p)
    rows = ((target >= 0) & (target < input.shape[1])).nonzero().squeeze(1)
    columns = target[rows]
    value[rows, columns] = of_target(p[rows, columns])
    if weight.numel():
        value *= weight[target][:, None]
    output.copy_(value)


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=_FLT_MIN).log()


def sigmoid_focal_loss_forward(input, target, weight, output, gamma, alpha) -> None:
    """Write the sigmoid focal loss of logits (N, C) to ``output`` (N, C)."""
    _sigmoid_focal(
        input,
        target,
        weight,
        output,
        lambda p: -alpha * (1 - p) ** gamma * _log(p),
        lambda p: -(1 - alpha) * p**gamma * _log(1 - p),
    )


def sigmoid_focal_loss_backward(input, target, weight, grad_input, gamma, alpha) -> None:
    """Write the derivative of each loss element by its logit to ``grad_input`` (N, C)."""
    _sigmoid_focal(
        input,
        target,
        weight,
        grad_input,
        lambda p: -alpha * (1 - p) ** gamma * (1 - p - gamma * p * _log(p)),
        lambda p: -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p),
    )


def _softmax_focal(softmax, target, weight, of_target) -> Tensor:
    """Return the weighted ``of_target(p)`` of each row's label; 0 if the label is negative."""
    label = target.clamp(min=0)
    value = of_target(softmax.gather(1, label[:, None]).squeeze(1))
    if weight.numel():
        value = value * weight[label]
    return value.masked_fill(target < 0, 0)


def softmax_focal_loss_forward(input, target, weight, output, gamma, alpha) -> None:
    """Write the softmax focal loss of probabilities (N, C) to ``output`` (N,)."""
    (softmax,) = full(input)
    loss = _softmax_focal(softmax, target, weight, lambda p: -alpha * (1 - p) ** gamma * _log(p))
    output.copy_(loss)


def softmax_focal_loss_backward(input, target, weight, buff, grad_input, gamma, alpha) -> None:
    """Write the derivative of each row's loss by its logits to ``grad_input`` (N, C)."""
    (softmax,) = full(input)
    factor = _softmax_focal(
        softmax,
        target,
        weight,
        lambda p: alpha * (gamma * (1 - p) ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma),
    )
    one_hot = F.one_hot(target.clamp(min=0), softmax.shape[1])
    grad_input.copy_(factor[:, None] * (one_hot - softmax))
