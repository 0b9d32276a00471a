"""mmcv's synchronised batch norm, against PyTorch's over the whole batch."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.test_ops.conftest import FLOAT64, random_tensor


def whole_batch(x, weight, bias, grad, momentum):
    """Output, gradients of x, weight and bias, and running statistics, in float64."""
    running = [torch.zeros(4, dtype=FLOAT64, device=x.device) for _ in range(2)]
    running[1] += 1
    inputs = [t.to(FLOAT64).requires_grad_() for t in (x, weight, bias)]
    out = F.batch_norm(inputs[0], *running, *inputs[1:], True, momentum, 1e-5)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad.to(FLOAT64)), *running]


@pytest.mark.parametrize('size', [(5,), (3, 4)])
def test_one_process(ops, device, size):
    function = importlib.import_module('mmcv.ops.sync_bn').SyncBatchNormFunction
    x, grad = (random_tensor(6, 4, *size, seed=seed, device=device) + 3 for seed in (1, 2))
    inputs = [x, *(random_tensor(4, seed=seed, device=device) for seed in (3, 4))]
    running = [torch.zeros(4, device=device), torch.ones(4, device=device)]
    inputs = [t.requires_grad_() for t in inputs]
    out = function.apply(inputs[0], *running, *inputs[1:], 0.3, 1e-5, None, 1, 'default')
    actual = [out.detach(), *torch.autograd.grad(out, inputs, grad), *running]
    expected = whole_batch(*(t.detach() for t in inputs), grad, 0.3)
    assert_close([t.to(FLOAT64) for t in actual], expected, rtol=1e-4, atol=1e-5)


def test_two_processes(ops, device, monkeypatch):
    """Both halves of a batch, with the operators' results averaged as mmcv averages them."""
    ext = importlib.import_module('mmsb.ops.mmcv_ext._ext')
    x, grad = (random_tensor(6, 4, 5, seed=seed, device=device) + 3 for seed in (1, 2))
    weight, bias = (random_tensor(4, seed=seed, device=device) for seed in (3, 4))
    halves = list(zip(x.chunk(2), grad.chunk(2), strict=True))

    def mean_over_processes(run):
        """The mean of the outputs, each (4,), of ``run`` for each half."""
        results = []
        for half in halves:
            results.append([torch.empty(4, device=device) for _ in range(2)])
            run(half, *results[-1])
        return [torch.stack(values).mean(dim=0) for values in zip(*results, strict=True)]

    mean, _ = mean_over_processes(lambda half, mean, _: ext.sync_bn_forward_mean(half[0], mean))
    var, _ = mean_over_processes(lambda half, var, _: ext.sync_bn_forward_var(half[0], mean, var))
    outputs, norms, grads = [], [], []
    for part, _ in halves:
        running = [torch.zeros(4, device=device), torch.ones(4, device=device)]
        norm, output, std = torch.empty_like(part), torch.empty_like(part), torch.empty_like(mean)
        ext.sync_bn_forward_output(
            part, mean, var, weight, bias, *running, norm, std, output,
            eps=1e-5, momentum=torch.tensor(0.3), group_size=2,
        )  # fmt: skip
        outputs.append(output)
        norms.append(norm)
    number = iter(range(2))
    grad_weight, grad_bias = mean_over_processes(
        lambda half, *out: ext.sync_bn_backward_param(half[1], norms[next(number)], *out)
    )
    for (_, part), norm in zip(halves, norms, strict=True):
        grads.append(torch.empty_like(part))
        ext.sync_bn_backward_data(part, weight, grad_weight, grad_bias, norm, std, grads[-1])
    actual = [torch.cat(outputs), torch.cat(grads), 2 * grad_weight, 2 * grad_bias, *running]
    expected = whole_batch(x, weight, bias, grad, 0.3)
    assert_close([t.to(FLOAT64) for t in actual], expected, rtol=1e-4, atol=1e-5)
