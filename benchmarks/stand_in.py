"""A stand-in for a GPU: benchmarks run through on a machine that has none, and measure nothing.

Tensors have shapes and types but no values (PyTorch's meta device) and say that they are on
``cuda:0``. Triton translates each kernel into its own intermediate code, which finds what is wrong
with names, types and shapes; nothing is compiled for a GPU and nothing is launched.
"""

import atexit
import os
import re
import shutil
import tempfile
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

CUDA, META = torch.device('cuda', 0), torch.device('meta')
translated = Counter()  # kernels by name


class _OnMeta(TorchFunctionMode):
    """Calls for a GPU go to the meta device; meta tensors say that they are on the GPU."""

    getters = {torch.Tensor.device.__get__: CUDA, torch.Tensor.is_cuda.__get__: True}
    # these need values
    answers = {torch.allclose: True, torch.Tensor.item: 1.0}
    layers = torch.conv1d, torch.conv2d, F.linear

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.getters and args[0].is_meta:
            return self.getters[func]
        if func in self.answers:
            return self.answers[func]
        kwargs = kwargs or {}
        if func is torch.device:
            return func(*args, **kwargs)
        kwargs = {name: _moved(value) for name, value in kwargs.items()}
        args = tuple(map(_moved, args))
        if func in self.layers and torch.is_autocast_enabled('cuda'):
            dtype = torch.get_autocast_dtype('cuda')
            args = tuple(a.to(dtype) if isinstance(a, torch.Tensor) else a for a in args)
        return func(*args, **kwargs)


def _moved(value):
    """The meta device in place of a GPU."""
    if isinstance(value, torch.device) or (isinstance(value, str) and value.startswith('cuda')):
        return META if torch.device(value).type == 'cuda' else value
    return value


class _Event:
    def __init__(self, enable_timing=False):
        pass

    def record(self, stream=None):
        pass

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return 1.0


class _Scaler:
    """torch.amp.GradScaler, whose checks need values."""

    def __init__(self, device, enabled=True):
        self.factor = 2.0**16 if enabled else 1.0

    def scale(self, loss):
        return loss * self.factor

    def step(self, optimizer):
        optimizer.step()

    def update(self):
        pass


class _Profiler:
    """torch.profiler.profile that finds one kernel."""

    def __init__(self, activities=None):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def key_averages(self):
        event = SimpleNamespace(key='kernel', count=1, self_device_time_total=1000.0)
        event.device_type = torch.autograd.DeviceType.CUDA
        return [event]


def _convolution(x, weight, bias, *options):
    return F.conv2d(x, weight, bias, *options).relu()


def _convolution_add(x, weight, z, alpha, bias, *options):
    return (F.conv2d(x, weight, bias, *options) + alpha * z).relu()


def install() -> None:
    """Lets this process believe that it has a GPU. Call it before anything imports Triton."""
    folder = tempfile.mkdtemp(prefix='mmsb_stand_in_')  # never the cache of real kernels
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(TRITON_CACHE_DIR=folder, CUDA_VISIBLE_DEVICES='0')
    os.environ.pop('TRITON_INTERPRET', None)
    torch.cuda.__dict__.update(
        is_available=lambda: True,
        get_device_capability=lambda *args: (9, 0),
        is_bf16_supported=lambda *args: True,
        current_device=lambda: 0,
        get_device_name=lambda *args: 'stand-in',
        synchronize=lambda *args: None,
        empty_cache=lambda: None,
        memory_allocated=lambda *args: 0,
        max_memory_allocated=lambda *args: 2**20,
        reset_peak_memory_stats=lambda *args: None,
        current_stream=MagicMock(),
        Stream=MagicMock(),
        stream=nullcontext,
        CUDAGraph=MagicMock,
        graph=nullcontext,
        Event=_Event,
    )
    torch.amp.GradScaler = _Scaler
    torch.profiler.profile = _Profiler
    torch._C._cuda_getCurrentRawStream = lambda index: 0
    torch.cudnn_convolution_relu = _convolution
    torch.cudnn_convolution_add_relu = _convolution_add
    _stand_in_driver()
    mode = _OnMeta()
    mode.__enter__()
    run_backward = torch.autograd._engine_run_backward

    def backward(*args, **kwargs):
        with mode:  # which is off while it handles the call of torch.autograd.grad or backward
            return run_backward(*args, **kwargs)

    torch.autograd._engine_run_backward = backward


def _stand_in_driver() -> None:
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import CUDABackend
    from triton.runtime import driver

    class Driver:
        """Triton's view of an H100 on which every launch succeeds."""

        utils = MagicMock()
        utils.load_binary.return_value = (1, 1, 64, 0, 1024)
        utils.get_device_properties.return_value = dict(
            max_shared_mem=232448, multiprocessor_count=132, max_num_regs=65536, warpSize=32
        )

        def launcher_cls(self, source, metadata):
            return lambda *args: None

        def get_current_device(self):
            return 0

        def get_current_stream(self, device=0):
            return 0

        def get_current_target(self):
            return GPUTarget('cuda', 90, 32)

        def get_active_torch_device(self):
            return CUDA

        def map_python_to_cpp_type(self, kind):
            return kind

    add_stages = CUDABackend.add_stages

    def only_first(self, stages, *args):
        add_stages(self, stages, *args)

        def skipped(module, metadata):
            return module

        def binary(module, metadata):
            metadata.update(name=re.search(r'tt.func public @(\w+)', str(module))[1])
            metadata.update(shared=0, tmem_size=0)
            translated[metadata['name']] += 1
            return b''

        for name in list(stages)[1:]:
            stages[name] = skipped
        stages[self.binary_ext] = binary

    CUDABackend.add_stages = only_first
    driver.set_active(Driver())
