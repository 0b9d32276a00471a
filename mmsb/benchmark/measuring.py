"""Time and memory of networks, measured in one process in interleaved rounds."""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mmsb.benchmark.results import Comparison, Measured, Setting
from mmsb.benchmark.workloads import Workload, build_workload
from mmsb.models import fuse_spatial_bias
from mmsb.utils.errors import UserError

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
LAYOUTS = dict(nchw=torch.contiguous_format, nhwc=torch.channels_last)


def benchmark(
    names: Sequence[str],
    settings: Iterable[Setting],
    device: str = 'cpu',
    rounds: int = 10,
    min_seconds: float = 0.3,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Comparison]:
    """Time networks side by side.

    Each round runs every network once, starting with a different one, so that a slower machine
    affects all of them. Weights are random; only a detector's box post-processing depends on them.

    Args:
        names: Networks (`workloads.NETWORKS`, `VARIANTS`) and configs; the first is the baseline.
        settings: Settings to run, one after the other.
        device: 'cpu' or 'cuda'. Defaults to 'cpu'.
        rounds: Number of measured rounds, after two warm-up steps. Defaults to 10.
        min_seconds: Minimum time per network and round, in seconds; sets the number of steps.
            Defaults to 0.3.
        progress: Called with each progress message. Defaults to None.

    Yields:
        One comparison per setting.

    Raises:
        UserError: A network, the device or the compiler is missing, or a setting is invalid.
    """
    settings, progress = list(settings), progress or _quiet
    _check(names, settings, device, rounds)
    for setting in settings:
        progress(str(setting))
        sides = _sides(names, setting, device)
        for side in sides:
            progress(f'  warming up {side.measured.name}')
            side.warm_up(min_seconds)
        for number in range(rounds):
            first = number % len(sides)
            for side in sides[first:] + sides[:first]:
                side.turn()
            progress(f'  round {number + 1} of {rounds}')
        yield Comparison(setting, [side.measured for side in sides])


def operator_times(
    names: Sequence[str],
    settings: Iterable[Setting],
    device: str = 'cpu',
    rounds: int = 10,
    progress: Callable[[str], None] | None = None,
) -> Iterator[tuple[Setting, dict[str, dict[str, float]], dict[str, int] | None]]:
    """Measure the self time of each operator, or GPU kernel, in a step with PyTorch's profiler.

    Rounds are as in :func:`benchmark`, with one step per network. Profiling slows the step down:
    compare these figures with each other only, not with those of :func:`benchmark`.

    Args:
        names: As in :func:`benchmark`.
        settings: As in :func:`benchmark`.
        device: As in :func:`benchmark`.
        rounds: As in :func:`benchmark`.
        progress: As in :func:`benchmark`.

    Yields:
        A setting; for each network, median milliseconds per step by operator (on a GPU by
        kernel); and for each network the number of kernels that a step launches, None on a CPU.

    Raises:
        UserError: As :func:`benchmark`.
    """
    settings, progress = list(settings), progress or _quiet
    _check(names, settings, device, rounds)
    for setting in settings:
        progress(str(setting))
        sides = _sides(names, setting, device)
        for side in sides:
            side.warm_up(0)
        launches: dict[str, int] = {}
        taken: dict[str, dict[str, list[float]]] = {side.measured.name: {} for side in sides}
        for number in range(rounds):
            first = number % len(sides)
            for side in sides[first:] + sides[:first]:
                network = side.measured.name
                found, launches[network] = side.profile()
                for key, milliseconds in found.items():
                    taken[network].setdefault(key, [0.0] * rounds)[number] = milliseconds
            progress(f'  round {number + 1} of {rounds}')
        yield (
            setting,
            {
                network: {key: statistics.median(values) for key, values in rows.items()}
                for network, rows in taken.items()
            },
            launches if device == 'cuda' else None,
        )


def _quiet(line: str) -> None:
    """Ignore a progress message."""


def _check(names, settings, device, rounds) -> None:
    if not names:
        raise UserError('no network to time: give configs, names or --preset')
    if rounds < 1:
        raise UserError(f'--rounds is {rounds}: give 1 or more')
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: there is no GPU here; leave it out or give cpu')
    exported = [name for name in names if name.endswith('.onnx')]
    for setting in settings:
        if exported and (setting.mode, setting.dtype, device) != ('inference', 'fp32', 'cpu'):
            raise UserError(
                f'{exported[0]}: ONNX files run on the CPU, at inference, in their own types; give '
                '--mode inference --dtype fp32 --device cpu'
            )
        if setting.batch < 1 or min(setting.shape) < 1:
            raise UserError(f'{setting}: batch and shape must be positive')
        if setting.mode == 'training' and setting.batch < 2:
            raise UserError(f'{setting}: batch norm cannot be trained on one image; give --batch 2')
        if setting.fuse and setting.mode == 'training':
            raise UserError('--fuse is for inference: a model with folded norms cannot be trained')
        if setting.data and setting.mode != 'training':
            raise UserError('--data times training: give --mode training')
        if setting.compile:
            check_compiler(device)
        if setting.graph and device != 'cuda':
            raise UserError('--graph records CUDA graphs, which need a GPU: give --device cuda')
        if setting.graph and setting.data:
            raise UserError('--graph replays one batch: leave out --data')
        if not setting.kernels and (setting.fuse or setting.compile):
            flag = 'fuse' if setting.fuse else 'compile'
            raise UserError(f'--no-kernels: with --{flag} these kernels never run; leave one out')
        if not setting.kernels and device != 'cuda':
            raise UserError('--no-kernels: on a CPU these kernels never run; give --device cuda')


def check_compiler(device: str) -> None:
    """Check that torch.compile can work on a device.

    Raises:
        UserError: There is no C++ compiler (CPU) or no Triton (GPU).
    """
    if device == 'cuda':
        try:
            import triton  # noqa: F401
        except ImportError as error:
            raise UserError('--compile on a GPU needs Triton: pip install triton') from error
    elif not any(map(shutil.which, (os.environ.get('CXX') or 'g++', 'clang++', 'cl'))):
        raise UserError('--compile needs a C++ compiler, and there is none: install g++ or set CXX')


def _sides(names: Sequence[str], setting: Setting, device: str) -> list[_Side]:
    sides = [_Side(name, setting, device) for name in names]
    if not setting.kernels and not any(side.has_kernels for side in sides):
        raise UserError(f'--no-kernels: none of {", ".join(names)} has kernels; leave it out')
    return sides


class _Side:
    """A network that is being measured in a setting."""

    def __init__(self, name: str, setting: Setting, device: str):
        self.setting, self.device, self.steps = setting, device, 1
        self.work: Workload = build_workload(name, setting.batch if setting.data else None)
        switches = [part for part in self.work.model.modules() if hasattr(part, 'kernels')]
        self.has_kernels = bool(switches)
        for part in switches:
            part.kernels = setting.kernels
        model = self.work.model.to(device, memory_format=LAYOUTS[setting.layout])
        self.measured = Measured(self.work.name, sum(p.numel() for p in model.parameters()))
        training = setting.mode == 'training'
        model.train(training)
        if training:
            parameters = [p for p in model.parameters() if p.requires_grad]
            self.optimizer = torch.optim.SGD(parameters, lr=1e-5, momentum=0.9)
            # float16 is trained with scaled losses, whose gradients are checked at every step
            self.scaler = torch.amp.GradScaler(device, enabled=setting.dtype == 'fp16')
        if setting.fuse:
            fuse_spatial_bias(model).to(memory_format=LAYOUTS[setting.layout])
        self.cast = setting.fuse and not self.work.from_config
        if self.cast:
            model.to(DTYPES[setting.dtype])
        if setting.compile:  # in place, because the workload's functions call these modules
            (model.backbone if self.work.from_config else model).compile()
        if setting.data:
            self.batches = self.work.batches()
        else:
            images, self.targets = self.work.inputs(setting.batch, setting.shape, device)
            self.images = images.contiguous(memory_format=LAYOUTS[setting.layout])
            if self.cast:
                self.images = self.images.to(DTYPES[setting.dtype])
        self.graph: torch.cuda.CUDAGraph | None = None
        if setting.graph:
            self._record()

    def warm_up(self, min_seconds: float) -> None:
        for _ in range(2):
            start = time.perf_counter()
            self.step()
            self._synchronise()
            seconds = time.perf_counter() - start
        self.steps = max(1, round(min_seconds / seconds))
        if self.device == 'cuda' and self.graph is None:  # a graph's memory is taken already
            model = self.work.model
            held = sum(t.nbytes for t in itertools.chain(model.parameters(), model.buffers()))
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self.step()
            self.measured.memory = torch.cuda.max_memory_allocated() - before + held

    def turn(self) -> None:
        """Time this network's steps of one round."""
        taken: dict[str, float] = {}
        for _ in range(self.steps):
            for part, seconds in self.step().items():
                taken[part] = taken.get(part, 0) + seconds / self.steps
        self.measured.rounds.append(taken)

    def step(self) -> dict[str, float]:
        marks = [self._mark()]
        if self.setting.data:
            self.images, self.targets = next(self.batches)
            marks.append(self._mark())
        if self.graph is not None:
            self.graph.replay()
        elif self.setting.mode == 'inference':
            self._predict()
        else:
            loss = self._loss()
            marks.append(self._mark())
            loss.backward()
            marks.append(self._mark())
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
        marks.append(self._mark())
        return dict(zip(self.setting.parts, self._between(marks), strict=True))

    def profile(self) -> tuple[dict[str, float], int]:
        """Return a step's milliseconds by operator (GPU: kernel) and the number of events."""
        on_gpu = self.device == 'cuda'
        activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
        with profile(activities=activities) as profiler:
            self.step()
        # an operator's time on the device is that of its kernels, which are events of their own
        events = [
            event
            for event in profiler.key_averages()
            if (event.device_type is DeviceType.CUDA) is on_gpu
            and not (on_gpu and getattr(event, 'is_user_annotation', False))
        ]
        time_of = f'self_{"device" if on_gpu else "cpu"}_time_total'
        times: dict[str, float] = {}
        for event in events:
            times[event.key] = times.get(event.key, 0) + getattr(event, time_of) / 1000
        return times, sum(event.count for event in events)

    def _amp(self):
        if self.setting.dtype == 'fp32' or self.cast:
            return nullcontext()
        return torch.autocast(self.device, DTYPES[self.setting.dtype])

    def _predict(self) -> None:
        with torch.inference_mode(), self._amp():
            self.work.predict(self.images, self.targets)

    def _loss(self) -> torch.Tensor:
        with self._amp():
            loss = self.work.loss(self.images, self.targets)
        return self.scaler.scale(loss)

    def _record(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # lazy initialization cannot be recorded
            for _ in range(3):
                self._replayed()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._replayed()
        except RuntimeError as error:
            reason = str(error).strip().partition('\n')[0]
            raise UserError(f'--graph cannot record {self.work.name}: {reason}') from error
        self.graph = graph

    def _replayed(self) -> None:
        """Run the recorded part of a step; gradients start empty, as after an optimizer step."""
        if self.setting.mode == 'inference':
            return self._predict()
        self.work.model.zero_grad()
        self._loss().backward()

    def _mark(self):
        if self.device != 'cuda':
            # one thread's processor time is disturbed less by other processes
            alone = torch.get_num_threads() == 1 and not self.setting.data
            return time.process_time() if alone else time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, marks: list) -> list[float]:
        pairs = itertools.pairwise(marks)
        if self.device != 'cuda':
            return [end - start for start, end in pairs]
        self._synchronise()
        return [start.elapsed_time(end) / 1000 for start, end in pairs]

    def _synchronise(self) -> None:
        if self.device == 'cuda':
            torch.cuda.synchronize()
