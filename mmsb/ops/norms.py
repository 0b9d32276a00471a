"""mmcv's synchronised batch norm (``MMSyncBN``). Maps are (B, C, N), statistics float32 (C,).

mmcv's Python code reduces statistics over processes between these functions.
"""

import torch
from torch import Tensor

from mmsb.ops.common import full


def _column(statistic: Tensor) -> Tensor:
    """Reshape (C,) to (C, 1), which broadcasts over maps (B, C, N)."""
    return statistic[:, None]


def sync_bn_forward_mean(input, mean) -> None:
    """Write the mean of each channel of ``input`` to ``mean``."""
    mean.copy_(full(input)[0].mean(dim=(0, 2)))


def sync_bn_forward_var(input, mean, var) -> None:
    """Write the mean square distance from ``mean``, which may be that of all processes."""
    var.copy_((full(input)[0] - _column(mean)).square().mean(dim=(0, 2)))


def sync_bn_forward_output(
    input,
    mean,
    var,
    weight,
    bias,
    running_mean,
    running_var,
    norm,
    std,
    output,
    eps,
    momentum,
    group_size,
) -> None:
    """Normalise ``input`` into ``output`` and update the running statistics.

    Args:
        norm (Tensor): Output, float32 (B, C, N): normalised before weight and bias.
        std (Tensor): Output, (C,): the square root of ``var + eps``.
        momentum (float | Tensor): Share of the new statistics.
        group_size (int): Number of processes, taken to have inputs of the same size. It unbiases
            the running variance.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_((full(input)[0] - _column(mean)) / _column(std))
    output.copy_(norm * _column(weight) + _column(bias))
    count = input.shape[0] * input.shape[2] * group_size
    unbiased = var * count / (count - 1) if count > 1 else var
    running_mean.lerp_(mean.to(running_mean), torch.as_tensor(momentum).to(running_mean))
    running_var.lerp_(unbiased.to(running_var), torch.as_tensor(momentum).to(running_var))


def sync_bn_backward_param(grad_output, norm, grad_weight, grad_bias) -> None:
    """Write the gradients of weight and bias, (C,)."""
    (grad,) = full(grad_output)
    grad_weight.copy_((grad * norm).sum(dim=(0, 2)))
    grad_bias.copy_(grad.sum(dim=(0, 2)))


def sync_bn_backward_data(
    grad_output, weight, grad_weight, grad_bias, norm, std, grad_input
) -> None:
    """Write the gradient of the input; those of weight and bias are means over processes."""
    (grad,) = full(grad_output)
    count = grad.shape[0] * grad.shape[2]
    mean = (_column(grad_weight) * norm + _column(grad_bias)) / count
    grad_input.copy_(_column(weight / std) * (grad - mean))
