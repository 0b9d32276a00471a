"""Spatial bias at inference in a C++ kernel, compiled when this module is first imported.

On a CPU spatial bias costs passes over the features and small operators, not arithmetic: see
docs/performance.md. The compiler is ``$CXX``, or ``c++``; what it makes is kept in ``$TORCH_HOME``
(``~/.cache/torch``), beside the weights that PyTorch downloads.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.autograd import profiler

SOURCE = Path(__file__).with_suffix('.cpp')


def _compile(folder: Path | None = None) -> Path:
    """Return the shared library, compiled unless there is one of the same source and command.

    Args:
        folder: Where to keep it. Defaults to None: ``$TORCH_HOME/mmsb``.

    Raises:
        OSError: The folder cannot be used.
        RuntimeError: The compiler fails.
    """
    flags = ['-O3', '-std=c++17', '-fPIC', '-shared', '-fopenmp']
    if torch.backends.cpu.get_cpu_capability() in ('AVX2', 'AVX512'):
        flags += ['-mavx2', '-mfma']
    # PyTorch's own OpenMP, whatever its file is called: the threads of two get in each other's way
    openmp = sorted((Path(torch.__file__).parent / 'lib').glob('libgomp*.so*'))
    compiler = shlex.split(os.environ.get('CXX') or 'c++')  # e.g. ccache g++
    command = [*compiler, *flags, str(SOURCE), *map(str, openmp)]
    key = repr((SOURCE.read_text(), command, platform.machine()))
    folder = folder or _cache_folder()
    _make_private(folder)
    library = folder / f'spatial_bias_cpu-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so'
    if not _is_whole(library):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / library.name
            try:
                done = subprocess.run([*command, '-o', str(made)], capture_output=True, text=True)
            except OSError as error:  # no such compiler
                raise RuntimeError(str(error)) from error
            if done.returncode:
                raise RuntimeError(f'{" ".join(compiler)} failed: {done.stderr.strip()}')
            content = made.read_bytes()
            made.write_bytes(content + hashlib.sha256(content).digest())
            made.chmod(0o700)
            made.replace(library)  # whole or not at all, whoever else compiles it
    return library


def _cache_folder() -> Path:
    return Path(torch.hub.get_dir()).parent / 'mmsb'


def _make_private(folder: Path) -> None:
    """Make a folder in which nobody else can put a library that would then be run here."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f'{folder} belongs to another user, or is a link')
    if status.st_mode & 0o022:
        folder.chmod(status.st_mode & 0o755)


def _is_whole(library: Path) -> bool:
    """Tell whether a library is a file of this user's, with the hash that ends it right.

    Running a truncated library kills the process. A loader ignores what follows a library.
    """
    try:
        status = library.lstat()
        content = library.read_bytes()
    except OSError:
        return False
    mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()
    return (
        mine
        and not status.st_mode & 0o022
        and content[-32:] == hashlib.sha256(content[:-32]).digest()
    )


def _load() -> ctypes.CDLL:
    """Load the library from the cache, or from a temporary folder if that cannot be used."""
    try:
        return ctypes.CDLL(str(_compile()))
    except OSError as error:  # read-only, another user's, or mounted without the right to execute
        reason = str(error)
    with tempfile.TemporaryDirectory() as folder:
        library = ctypes.CDLL(str(_compile(Path(folder))))
    print_log(
        f'{_cache_folder()} cannot keep the compiled kernel ({reason}), which is compiled at every '
        'start: set TORCH_HOME to a folder of yours',
        'current',
        logging.WARNING,
    )
    return library


_concatenate = _load().concatenate
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
