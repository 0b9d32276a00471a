"""Launch Triton kernels at the cost of a call into PyTorch.

At every launch Triton inspects every argument to find the compiled kernel. On the processor of a
GPU machine this took 20 us, a PyTorch operator 9 us and the launcher of a compiled kernel 7 us.
Compiled kernels are therefore kept, by what they depend on.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import triton
from torch import Tensor

# Least number of elements of features for work on a second stream, inf for none. It is not used
# before it has been measured: benchmarks/gpu_all.sh runs both ways.
LEAST_BESIDE = float('inf')

# Triton's interpreter computes on the CPU, with numpy: for tests
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
_KEPT: dict[tuple, tuple] = {}
_keeps = True


def launch(
    kernel: triton.JITFunction, grid: tuple[int, ...], *args, num_warps: int = 4, **constants
) -> None:
    """Run a kernel on the current stream of its first argument's device.

    Args:
        kernel: Its integer arguments must be in ``do_not_specialize``, so that one compiled kernel
            serves all their values.
        grid: Programs along one or two axes.
        *args: Tensors, numbers below 2^31 or None, in the kernel's order, before the constants.
        num_warps: Warps per program.
        **constants: The kernel's ``tl.constexpr`` arguments in its order.
    """
    global _keeps
    if INTERPRETED:
        kernel[grid](*args, **constants)
        return
    device = args[0].device
    if device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            return launch(kernel, grid, *args, num_warps=num_warps, **constants)
    values = tuple(constants.values())
    key = [id(kernel), device.index, num_warps, values]
    for a in args:
        # 16-byte loads are for aligned tensors
        key.append((a.dtype, a.data_ptr() & 15) if isinstance(a, Tensor) else a is None)
    key = tuple(key)
    kept = _KEPT.get(key)
    if kept is None or not _keeps:
        compiled = kernel[grid](*args, num_warps=num_warps, **constants)
        try:
            _KEPT[key] = compiled.run, compiled.function, compiled.packed_metadata
        except AttributeError:  # a Triton that keeps them elsewhere
            _keeps = False
        return
    run, function, metadata = kept
    stream = torch._C._cuda_getCurrentRawStream(device.index)
    columns = grid[1] if len(grid) > 1 else 1
    try:
        run(grid[0], columns, 1, stream, function, metadata, None, None, None, *args, *values)
    except TypeError:  # a Triton that is called otherwise: nothing was launched
        _keeps = False
        kernel[grid](*args, num_warps=num_warps, **constants)


def power(number: int, least: int = 1, most: int = 1 << 20) -> int:
    """Return the power of two that holds number, within bounds.

    Triton's own function takes as long as a launch.
    """
    return max(least, min(most, 1 << (number - 1).bit_length()))


class Beside:
    """Run small kernels on a second stream while the current one goes on, if that pays.

    Work on the grid fills a tenth of a GPU, and runs beside a convolution. The second stream has
    its own memory. What it takes from the allocator is safe on the current stream after
    :meth:`join`, and is used again only by later work of the second stream, which waits for the
    current one. The tensors of the current stream that it reads are kept until then.

    Args:
        x: Features next to which the kernels run. With fewer elements than ``LEAST_BESIDE``, or on
            a CPU, there is no second stream: everything runs in order.
    """

    _streams: dict[tuple[int, int], torch.cuda.Stream] = {}

    def __init__(self, x: Tensor):
        self._kept: tuple[Tensor, ...] = ()
        self._device, self._side = x.device, None
        self._on = x.is_cuda and x.numel() >= LEAST_BESIDE

    @contextmanager
    def run(self, *tensors: Tensor) -> Iterator[None]:
        """Within, kernels run on the second stream; tensors: the current one's that they read."""
        if not self._on:
            yield
            return
        stream = torch.cuda.current_stream(self._device)
        key = self._device.index, stream.cuda_stream
        if key not in self._streams:
            self._streams[key] = torch.cuda.Stream(self._device, priority=-1)
        side = self._streams[key]
        side.wait_stream(stream)
        with torch.cuda.stream(side):
            yield
        self._kept, self._side = self._kept + tensors, side

    def join(self) -> None:
        """Let the current stream wait for what the second one was given."""
        if self._side is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._side)
            self._kept, self._side = (), None
