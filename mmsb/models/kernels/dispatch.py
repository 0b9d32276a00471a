"""Choose between the kernels and PyTorch's operators, and run residual blocks in the kernels."""

import importlib
import logging
import os
from collections.abc import Callable
from functools import cache
from types import ModuleType

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

DEVICES = ('cuda',)
DTYPES = torch.float32, torch.bfloat16, torch.float16
# Without spatial bias, our calls cost more of the processor's time than PyTorch's: below this
# number of elements launching takes longer than the GPU saves (measured at batch 16 and 128).
LEAST_ELEMENTS = 2**24


def kernels_for(x: Tensor) -> ModuleType | None:
    """Return the kernels' module if they can run on this tensor now; None: use operators."""
    if (
        type(x) not in (Tensor, nn.Parameter)
        or x.dtype not in DTYPES
        or x.ndim != 4
        or not 0 < x.numel() < 2**31
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
    ):
        return None
    return kernels_on(x.device)


def kernels_on(device: torch.device) -> ModuleType | None:
    """Return the kernels' module if they run on this device, else None."""
    return _kernels(device.type) if device.type in DEVICES else None


@cache
def _kernels(device: str) -> ModuleType | None:
    """Return the kernels' module if they pass a self-test; say once what runs."""
    training = working_kernels('training', device, _test, 'batch norms and spatial bias run')
    if training is not None:
        print_log('batch norms and spatial bias run in Triton kernels', 'current', logging.INFO)
    return training


def working_kernels(
    name: str, device: str, test: Callable[[ModuleType, str], None], what: str
) -> ModuleType | None:
    """Import kernels if they are wanted and work; otherwise log why PyTorch's operators run.

    Args:
        name: Module in ``mmsb.models.kernels``.
        device: 'cuda' or 'cpu'.
        test: Raises an error if the module computes something wrong on the device.
        what: Begins the line in the log: what runs, in the plural, then "run".

    Returns:
        The module, or None.
    """
    if os.environ.get('MMSB_KERNELS') == 'off':
        print_log(f'MMSB_KERNELS=off: {what} in PyTorch operators', 'current')
        return None
    try:
        if device == 'cuda' and (torch.version.hip or torch.cuda.get_device_capability() < (8, 0)):
            raise RuntimeError('they are for NVIDIA GPUs from Ampere on')
        kernels = importlib.import_module(f'.{name}', __package__)
        test(kernels, device)
    except Exception as error:  # no Triton, an old one, a GPU that it does not know, no compiler
        reason = str(error).strip().partition('\n')[0] or type(error).__name__
        print_log(
            f'{what} in PyTorch operators, more slowly than in kernels: {reason}',
            'current',
            logging.WARNING,
        )
        return None
    return kernels


def _test(training, device: str) -> None:
    """Compare a norm with ReLU, forward and backward, with the operators."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False),
        torch.device(device),
    ):
        x = torch.linspace(-1, 2, 128).view(2, 16, 2, 2).requires_grad_()
        norm = nn.BatchNorm2d(16)
        outs = [
            training.NormReLU.apply(x, None, norm.weight, norm.bias, training.Norm.of(norm), True),
            F.relu(F.batch_norm(x, None, None, norm.weight, norm.bias, True)),
        ]
        weight = torch.linspace(0, 1, 128).view_as(x)
        gradients = [torch.autograd.grad((out * weight).sum(), x)[0] for out in outs]
        for ours, theirs in (outs, gradients):
            if not torch.allclose(ours, theirs, atol=1e-4):
                raise RuntimeError('the kernels compute something else than the operators')


def bottleneck(block: nn.Module, x: Tensor) -> Tensor | None:
    """Run a bottleneck in kernels; return None where its operators have to run.

    Args:
        block: A :class:`mmsb.models.backbones.Bottleneck`.
        x: (B, in_channels, H, W).

    Returns:
        The block's output, channels last, of the type of its convolutions.
    """
    training = kernels_for(x)
    if training is None:
        return None
    if reason := refusal(block, training):
        if x.is_cuda:
            _say_once(reason)
        return None
    if not block.spatial_bias_at and x.numel() < LEAST_ELEMENTS:
        return None
    x = x.contiguous(memory_format=torch.channels_last)
    y = block.conv1(x)
    if not block.spatial_bias_at:
        y = training.norm_relu(y, block.bn1)
        y = training.norm_relu(block.conv2(y), block.bn2)
        y = block.conv3(y)
    else:
        layer = block.spatial_bias
        conv, norm = layer.reduction.conv, layer.reduction.bn
        beside = training.Beside(y)
        u, maps = training.NormReduceMix.apply(
            y, block.bn1.weight, block.bn1.bias, conv.weight, norm.weight, norm.bias,
            layer.mixing.weight, layer.mixing.bias,
            training.Norm.of(block.bn1), training.Norm.of(norm), layer.size, beside,
        )  # fmt: skip
        y = block.conv2(u)
        channels, wide = y.shape[1], padded_width(y.shape[1], layer.num_channels)
        held = block.features_norm_held or not block.bn2.training
        y = training.Widen.apply(
            y, maps, block.bn2.weight, block.bn2.bias,
            training.Norm.of(block.bn2, held, slice(channels)),
            training.Norm.of(block.bn2, None, slice(channels, None), count=held),
            layer.size, wide, beside, maps.grad_fn,
        )  # fmt: skip
        y = F.conv2d(y, training.pad_inputs(block.conv3, wide))
    return training.norm_relu(y, block.bn3, _shortcut(block.downsample, x, training).to(y.dtype))


def _shortcut(downsample: nn.Module | None, x: Tensor, training: ModuleType) -> Tensor:
    if downsample is None:
        return x
    if type(downsample) is not nn.Sequential or _is_watched(downsample):
        return downsample(x)
    *layers, last = downsample
    for layer in layers:
        x = layer(x)
    if _is_watched(last) or not training.is_supported(last):
        return last(x)
    return training.norm_relu(x, last, relu=False)


def padded_width(channels: int, num_maps: int) -> int:
    """Return the channels of conv3's input: features, maps, and zeros for cuDNN's fast kernels.

    On an H200 in bfloat16, conv3's forward pass over 64 channels took 0.086 ms, over 80 0.129 ms
    and over 96 0.083 ms.
    """
    multiple = 32 if channels < 128 else 16
    return channels + -(-num_maps // multiple) * multiple


def norm_relu(x: Tensor, norm: nn.Module, relu: nn.Module) -> Tensor | None:
    """Run a norm with ReLU in kernels; return None where operators have to run."""
    training = kernels_for(x) if x.numel() >= LEAST_ELEMENTS else None
    if training is None or not training.is_supported(norm) or any(map(_is_watched, (norm, relu))):
        return None
    return training.norm_relu(x, norm)


def fits(block: nn.Module, training: ModuleType) -> bool:
    """Tell whether :func:`bottleneck` computes this block."""
    return refusal(block, training) is None


def refusal(block: nn.Module, training: ModuleType) -> str | None:
    """Return what in a block :func:`bottleneck` does not compute, or None."""
    if any(block.plugin_names.values()):
        return 'plugins'
    if not isinstance(block.drop_path, nn.Identity):
        return 'drop path'
    if block.norm_names != ['bn1', 'bn2', 'bn3']:
        return 'norms of another name'
    norms = [block.bn1, block.bn2, block.bn3]
    used = [*norms, block.relu]
    if block.spatial_bias_at:
        layer = block.spatial_bias
        if (
            block.spatial_bias_at != 2
            or block.fusion != 'concat'
            or layer.mixing is None
            or layer.pool is not F.adaptive_avg_pool2d
            or layer.num_channels > 13
            or type(layer.reduction.conv) is not nn.Conv2d
            or layer.reduction.conv.stride != (1, 1)
            or block.bn2.num_features != block.conv3.in_channels  # SKNet's is over maps alone
            or layer.size > 32
        ):
            return 'this variant of spatial bias'
        if type(block.conv3) is not nn.Conv2d or block.bn1.num_features % 16:
            return f'{block.bn1.num_features} channels, or this conv3'
        norms.append(layer.reduction.norm)
        used += [block.conv3, *layer.modules()]
    if not all(map(training.is_supported, norms)):
        return 'norms other than affine batch norms with running statistics, in float32'
    return 'hooks' if any(map(_is_watched, used)) else None


@cache
def _say_once(reason: str) -> None:
    print_log(
        f'some residual blocks run in PyTorch operators, more slowly than in kernels, which do not '
        f'compute {reason}',
        'current',
    )


def _is_watched(module: nn.Module) -> bool:
    """Tell whether a module has hooks, which only its own forward calls."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
