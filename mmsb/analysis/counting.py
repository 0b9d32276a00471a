"""Parameters and multiply-accumulates of any module, on any device including ``meta``.

There are two conventions. Most papers count *convolution and linear MACs* (fvcore's ``conv`` and
``linear``). The paper counts as thop 0.0.31 does; Table 1 agrees to the printed digit. Neither tool
counts products of two activations, as in attention, so these are reported separately.

thop sees only layers (modules without children), not functions that other modules call. Spatial
bias is an exception here: the paper's FLOPs include its pooling and upsampling, so the authors'
model must have had them as layers, while ours calls functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmsb.models import SpatialBias

aten = torch.ops.aten

# thop 0.0.31: operations per output element
UPSAMPLING = {'nearest': 0, 'linear': 5, 'bilinear': 11, 'trilinear': 31, 'bicubic': 259}


@dataclass(frozen=True)
class Counts:
    """Parameters and operations of a module.

    Attributes:
        params: Number of parameters.
        macs: Multiply-accumulates of convolutions and linear layers, without bias and norms.
        thop: Operations in the paper's convention, thop 0.0.31.
        matmul_macs: Multiply-accumulates of products of two activations. The linear layers inside
            torch's ``MultiheadAttention`` are hidden and count here.
    """

    params: int = 0
    macs: int = 0
    thop: int = 0
    matmul_macs: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.params + other.params,
            self.macs + other.macs,
            self.thop + other.thop,
            self.matmul_macs + other.matmul_macs,
        )


def count_params(module: nn.Module) -> int:
    """Count the parameters of a module, shared ones once, without buffers."""
    return sum(p.numel() for p in module.parameters())


def count(module: nn.Module, *inputs: Tensor, forward: Callable | None = None) -> Counts:
    """Count a module at inference.

    Args:
        module: The module. It is switched to eval mode and stays there.
        *inputs: Its inputs, on its device. Published figures are for a batch of 1.
        forward: Called instead of the module if given, e.g. for a model with several modes.

    Returns:
        Its parameters and operations.

    Example:
        >>> import torch
        >>> from mmsb.models import SBResNet
        >>> with torch.device('meta'):
        ...     model, image = SBResNet(depth=50), torch.empty(1, 3, 224, 224)
        >>> count(model, image).macs
        4112741968
    """
    module.eval()
    with torch.no_grad(), Counter() as counter:
        (forward or module)(*inputs)
    return counter.counts + Counts(params=count_params(module))


class Counter:
    """Counter of the operations that run inside a ``with`` block.

    Attributes:
        counts: Operations so far, without parameters.
    """

    def __init__(self):
        self.counts = Counts()
        self._modes = _Functions(self), _Products(self)
        self.in_layer = False  # a linear layer also calls matmul, but with weights
        self._callers: list[nn.Module] = []
        self._hooks = ()

    def __enter__(self) -> Counter:
        self._hooks = (
            register_module_forward_pre_hook(lambda module, _: self._callers.append(module)),
            register_module_forward_hook(self._leave, always_call=True),
        )
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def _leave(self, *_) -> None:
        self._callers.pop()

    @property
    def seen_by_thop(self) -> bool:
        """Whether a function called now would be a layer of the paper's measured model."""
        caller = self._callers[-1] if self._callers else None
        return isinstance(caller, SpatialBias) or (
            caller is not None and next(caller.children(), None) is None
        )


class _Functions(TorchFunctionMode):
    """Intercept torch functions before decomposition, so adaptive pooling is still recognisable."""

    def __init__(self, counter: Counter):
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        rule = RULES.get(func)
        if rule is None:
            return func(*args, **kwargs)
        self.counter.in_layer = True
        try:
            out = _shape_only(func, *args, **kwargs)
            if out is None:
                out = func(*args, **kwargs)
        finally:
            self.counter.in_layer = False
        counts = rule(out, *args, **kwargs)
        self.counter.counts += counts if self.counter.seen_by_thop else replace(counts, thop=0)
        return out


class _Products(TorchDispatchMode):
    """Intercept matrix products, written as ``@``, ``einsum`` or ``matmul``."""

    def __init__(self, counter: Counter):
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        left = PRODUCTS.get(func.overloadpacket)
        if left is not None and not self.counter.in_layer:
            macs = out.numel() * args[left].shape[-1]
            self.counter.counts += Counts(matmul_macs=macs)
        return out


def _shape_only(func: Callable, input: Tensor, size=None, *args, **kwargs) -> Tensor | None:
    # On the meta device torch decomposes these two into dozens of Python calls, which took three
    # quarters of the counting time, although their output shapes are obvious.
    if not input.is_meta:
        return None
    if func is F.batch_norm:
        return torch.empty_like(input)
    if func is F.interpolate and isinstance(size, (tuple, list)):
        return input.new_empty(*input.shape[:2], *size)
    return None


# Matrix products and the argument index of their left factor.
PRODUCTS = {aten.mm: 0, aten.bmm: 0, aten.mv: 0, aten.dot: 0, aten.addmm: 1, aten.baddbmm: 1}


# ------------------------------------------------- rules: the cost of one function call


def _conv(out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, *_, **__):
    each = weight[0].numel()  # input channels of the group x kernel
    return Counts(macs=out.numel() * each, thop=out.numel() * (each + (bias is not None)))


def _conv_transpose(
    out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, *_, **__
):
    macs = input.numel() * weight[0].numel()  # outputs per input element
    return Counts(macs=macs, thop=macs + (bias is not None) * out.numel())


def _linear(out: Tensor, input: Tensor, *_, **__):
    macs = out.numel() * input.shape[-1]
    return Counts(macs=macs, thop=macs)  # thop counts no bias here


def _batch_norm(out: Tensor, input: Tensor, *_, **__):
    return Counts(thop=2 * input.numel())  # thop 0.1 and later count 4, which contradicts Table 1


def _avg_pool(out: Tensor, *_, **__):
    return Counts(thop=out.numel())


def _adaptive_avg_pool(dims: int, out: Tensor, input: Tensor, *_, **__):
    cells = 1
    for i, o in zip(input.shape[-dims:], out.shape[-dims:], strict=True):
        cells *= i // o  # 0 if the map is smaller than the grid, as in thop
    return Counts(thop=out.numel() * (cells + 1))


def _interpolate(
    out: Tensor, input: Tensor, size=None, scale_factor=None, mode: str = 'nearest', *_, **__
):
    return Counts(thop=UPSAMPLING.get(mode, 0) * out.numel())


# Neither convention counts max pooling, activations, softmax, layer norm and arithmetic.
RULES: dict[Callable, Callable[..., Counts]] = {
    F.linear: _linear,
    F.batch_norm: _batch_norm,
    F.interpolate: _interpolate,
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), _conv),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _conv_transpose),
    **dict.fromkeys((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), _avg_pool),
    F.adaptive_avg_pool1d: partial(_adaptive_avg_pool, 1),
    F.adaptive_avg_pool2d: partial(_adaptive_avg_pool, 2),
    F.adaptive_avg_pool3d: partial(_adaptive_avg_pool, 3),
}
