"""Spatial bias at inference in three C++ kernels, compiled when this module is first imported.

On a CPU spatial bias costs passes over the features and small operators, not arithmetic: see
docs/performance.md. The functions compute what the Triton kernels do, for float32, best in memory
as channels last. The compiler is ``$CXX``, or ``c++``; what it makes is kept in ``$TORCH_HOME``
(``~/.cache/torch``), beside the weights that PyTorch downloads.
"""

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
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


_LIBRARY = ctypes.CDLL(str(_compile()))


def _call(name: str, tensors: list[Tensor], *sizes: int) -> None:
    for tensor in tensors:
        if tensor.dtype is not torch.float32 or not tensor.is_contiguous():
            raise ValueError(f'{name} takes contiguous float32 tensors, got {tensor.dtype}')
    profiled = profiler._is_profiler_enabled  # or else record_function would double a small call
    with profiler.record_function(f'mmsb::{name}') if profiled else nullcontext():
        getattr(_LIBRARY, name)(
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
            *map(ctypes.c_int64, (*sizes, torch.get_num_threads())),
        )


def _by_pixel(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H, W, C), contiguous; channels last is not copied."""
    return x.permute(0, 2, 3, 1).contiguous()


def pool(x: Tensor, weight: Tensor, bias: Tensor, size: int, reduced: int) -> Tensor:
    """1x1 convolution with ReLU, averaged over a grid.

    Args:
        x: (B, C, H, W).
        weight: (reduced or more, C, 1, 1).
        bias: (reduced or more,).
        size: Side of the grid in cells.
        reduced: How many of the convolution's outputs are needed.

    Returns:
        (B, reduced, size * size).
    """
    batch, channels, height, width = x.shape
    pooled = x.new_empty(batch, reduced, size * size)
    pixels = x.new_empty(batch * height * width * 8)
    tensors = [_by_pixel(x), weight.contiguous(), bias, pixels, pooled]
    _call('pool', tensors, batch, channels, height, width, size, reduced)
    return pooled


def mix(pooled: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, num_maps: int) -> Tensor:
    """The 1-D convolution whose channels are the cells, scaled and shifted.

    Args:
        pooled: (B, R, cells).
        weight: (cells, taps * cells), tap after tap.
        scale: num_maps values or more.
        shift: (num_maps or more, cells).
        num_maps: Maps to make, R - taps + 1 at most.

    Returns:
        (B, num_maps, cells).
    """
    batch, reduced, cells = pooled.shape
    maps = pooled.new_empty(batch, num_maps, cells)
    taps = weight.shape[1] // cells
    _call('mix', [pooled, weight, scale, shift, maps], batch, reduced, cells, taps, num_maps)
    return maps


def join(y: Tensor, bias: Tensor, maps: Tensor, size: int, extra: int) -> Tensor:
    """ReLU of features and upsampled maps, concatenated; the features' bias is added first.

    Args:
        y: Features, (B, C, H, W).
        bias: What their convolution adds, (C,).
        maps: (B, num_maps, size * size).
        size: Side of the grid in cells.
        extra: Channels after the features: the maps', the others zero.

    Returns:
        (B, C + extra, H, W), in memory as channels last.
    """
    batch, channels, height, width = y.shape
    joined = y.new_empty(batch, height, width, channels + extra)
    tensors = [_by_pixel(y), bias, maps, joined]
    _call('join', tensors, batch, channels, height, width, maps.shape[1], size, extra)
    return joined.permute(0, 3, 1, 2)
