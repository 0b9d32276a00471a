"""Spatial bias at inference in a C++ kernel, compiled when this module is first imported.

On a CPU spatial bias costs passes over the features and small operators, not arithmetic: see
docs/performance.md. The compiler is ``$CXX``, or ``c++``; what it makes is kept in ``$TORCH_HOME``
(``~/.cache/torch``), beside the weights that PyTorch downloads.
"""

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import profiler

SOURCE = Path(__file__).with_suffix('.cpp')


def _compile() -> Path:
    """The shared library, compiled unless there is one of the same source and command."""
    flags = ['-O3', '-std=c++17', '-fPIC', '-shared', '-fopenmp']
    if torch.backends.cpu.get_cpu_capability() in ('AVX2', 'AVX512'):
        flags += ['-mavx2', '-mfma']
    # PyTorch's own OpenMP, whatever its file is called: the threads of two get in each other's way
    openmp = sorted((Path(torch.__file__).parent / 'lib').glob('libgomp*.so*'))
    command = [os.environ.get('CXX') or 'c++', *flags, str(SOURCE), *map(str, openmp)]
    key = repr((SOURCE.read_text(), command, platform.machine()))
    folder = Path(torch.hub.get_dir()).parent / 'mmsb'
    library = folder / f'spatial_bias_cpu-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so'
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / library.name
            result = subprocess.run([*command, '-o', str(made)], capture_output=True, text=True)
            if result.returncode:
                raise RuntimeError(f'{command[0]} failed: {result.stderr.strip()}')
            made.replace(library)  # whole or not at all, whoever else compiles it
    return library


_concatenate = ctypes.CDLL(str(_compile())).concatenate
_concatenate.argtypes = [ctypes.c_void_p] * 9 + [ctypes.c_int64] * 12
_concatenate.restype = None


def concatenate(
    features: Callable[[], Tensor], bias: Tensor, x: Tensor, weight: Tensor, reduction_bias: Tensor,
    mixing: Tensor, scale: Tensor, shift: Tensor, size: int, num_maps: int, extra: int,
) -> Tensor:  # fmt: skip
    """ReLU of features and of the maps made of x, side by side. All tensors are float32.

    Args:
        features: Computes y, (B, C, H, W), best in memory as channels last; as x.
        bias: What is to be added to them first, (C,).
        x: What the maps are made of, (B, C', H', W').
        weight: Of the 1x1 convolution, (num_maps + taps - 1 or more, C', 1, 1).
        reduction_bias: Of the same.
        mixing: Weights of the 1-D convolution, (cells, taps * cells), tap after tap.
        scale: Factors of the mixed maps, num_maps or more.
        shift: What is added to them then, (num_maps or more, cells).
        size: Side of the grid in cells.
        num_maps: Maps to make.
        extra: Channels after the features: the maps', the others zero.

    Returns:
        (B, C + extra, H, W), in memory as channels last.
    """
    y = features()
    # sparing: between convolutions the caches hold none of PyTorch's code, and every call costs
    for tensor in (y, x, weight):
        if tensor.dtype is not torch.float32 or not tensor.is_cpu:
            raise ValueError(f'float32 on a CPU is expected, got {tensor.dtype} on {tensor.device}')
        if not tensor.is_contiguous(memory_format=torch.channels_last):
            y, x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (y, x, weight))
    batch, channels, height, width = y.shape
    joined = torch.empty(
        (batch, channels + extra, height, width), dtype=torch.float32, device='cpu',
        memory_format=torch.channels_last,
    )  # fmt: skip
    tensors = y, x, joined, bias, weight, reduction_bias, mixing, scale, shift
    profiled = profiler._is_profiler_enabled  # or else record_function would double a small call
    with profiler.record_function('mmsb::concatenate') if profiled else nullcontext():
        _concatenate(
            *[tensor.data_ptr() for tensor in tensors], batch, channels, height, width,
            *x.shape[1:], size, mixing.shape[1] // size**2, num_maps, extra,
            torch.get_num_threads(),
        )  # fmt: skip
    return joined
