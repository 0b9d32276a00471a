"""Time and memory of networks side by side, in one process and in interleaved rounds."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

import torch
from torch.profiler import ProfilerActivity, profile

from mmsb.benchmark.workloads import NETWORKS, Classifier, Workload, build_workload
from mmsb.check_env import device_name
from mmsb.models import fuse_spatial_bias
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
LAYOUTS = dict(nchw=torch.contiguous_format, nhwc=torch.channels_last)
PARTS = dict(inference=('inference',), training=('forward', 'backward', 'optimizer'))
FASTER = ('configs/faster_rcnn_r50_fpn_1x_coco.py',
          'configs/faster_rcnn_sb_r50_fpn_1x_coco.py')  # fmt: skip


def _quiet(line: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Setting:
    """What all sides of a comparison are run with.

    Attributes:
        mode: 'inference' or 'training': forward, backward and an SGD step.
        batch: Images a step.
        shape: Their height and width.
        dtype: 'fp32', or 'bf16' and 'fp16': through autocast, but of a network with folded norms
            the weights themselves, as one would deploy it.
        layout: 'nchw' or 'nhwc' (channels last).
        fuse: Batch norms folded into convolutions (inference).
        compile: Through torch.compile.
        graph: The forward pass recorded as a CUDA graph and replayed (inference on a GPU).
        data: Training batches from the config's own loader; the shape is then its own.
    """

    mode: str = 'inference'
    batch: int = 8
    shape: tuple[int, int] = (224, 224)
    dtype: str = 'fp32'
    layout: str = 'nchw'
    fuse: bool = False
    compile: bool = False
    graph: bool = False
    data: bool = False

    def __str__(self) -> str:
        size = 'own images' if self.data else 'x'.join(map(str, self.shape))
        flags = [name for name in ('fuse', 'compile', 'graph') if getattr(self, name)]
        return ', '.join([self.mode, f'batch {self.batch}', size, self.dtype, self.layout, *flags])


@dataclass
class Measured:
    """What one network took.

    Attributes:
        name: The network.
        params: Its parameters.
        rounds: Per round the seconds a step, by part.
        memory: Peak bytes of a step with the weights; None where the device does not say.
    """

    name: str
    params: int
    rounds: list[dict[str, float]] = field(default_factory=list)
    memory: int | None = None

    @property
    def seconds(self) -> list[float]:
        """A step's seconds, round by round."""
        return [sum(parts.values()) for parts in self.rounds]

    def part(self, name: str) -> float:
        """Median seconds of a part of the step."""
        return statistics.median(parts[name] for parts in self.rounds)


@dataclass
class Comparison:
    """Networks timed with one setting; the first is the baseline."""

    setting: Setting
    networks: list[Measured]

    def ratios(self, network: Measured) -> list[float]:
        """Round by round the baseline's time over the network's: its relative throughput."""
        pairs = zip(self.networks[0].seconds, network.seconds, strict=True)
        return [baseline / seconds for baseline, seconds in pairs]


# (networks, settings) of the questions that are asked often; the settings are overridden by flags.
PRESETS: dict[str, tuple[tuple[str, ...], tuple[dict, ...]]] = {
    'paper': (tuple(NETWORKS), (dict(),)),
    'headline': (('ResNet-50', 'SB'), tuple(
        dict(mode=mode, layout=layout, fuse=mode == 'inference')
        for mode in PARTS for layout in LAYOUTS)),
    'resolution': (('ResNet-50', 'SB', 'NL'), tuple(
        dict(batch=1, shape=shape, layout='nhwc', fuse=True)
        for shape in ((224, 224), (320, 320), (512, 512), (640, 960), (800, 1333)))),
    'batch': (('ResNet-50', 'SB', 'NL'), tuple(
        dict(batch=batch, layout='nhwc', fuse=True) for batch in (1, 4, 16, 64))),
    'settings': (('ResNet-50', 'SB', 'SB size=4', 'SB size=7', 'SB size=14', 'SB size=20',
                  'SB channels=1', 'SB channels=2', 'SB channels=4', 'SB channels=6',
                  'SB channels=13', 'SB stages=1', 'SB stages=2', 'SB stages=3', 'SB stages=4',
                  'SB stages=1234'), (dict(layout='nhwc', fuse=True),)),
    'detector': (FASTER, tuple(
        dict(mode=mode, batch=batch, shape=(800, 1344))
        for mode, batch in (('inference', 1), ('training', 2)))),
    'segmentor': (('configs/fpn_r50_40k_ade20k-512x512.py',
                   'configs/fpn_sb_r50_40k_ade20k-512x512.py'), tuple(
        dict(mode=mode, batch=4, shape=(512, 512)) for mode in PARTS)),
    'training-split': (FASTER, (dict(mode='training', data=True),)),
}  # fmt: skip


def benchmark(
    names: Sequence[str],
    settings: Iterable[Setting],
    device: str = 'cpu',
    rounds: int = 10,
    min_seconds: float = 0.3,
    progress: Callable[[str], None] = _quiet,
) -> Iterator[Comparison]:
    """Times networks side by side.

    In a round every network has its turn, and every round begins with another one, so that a
    machine that slows down slows all of them. Weights are random: no time depends on them but that
    of a detector's boxes.

    Args:
        names: Networks (`workloads.NETWORKS`, `VARIANTS`) and configs; the first is the baseline.
        settings: What to run them with, one after the other.
        device: 'cpu' or 'cuda'.
        rounds: Rounds that count, after two to warm up.
        min_seconds: The least length of a network's turn; it takes steps enough.
        progress: Is told what goes on.

    Yields:
        A comparison for each setting.

    Raises:
        UserError: A network, the device or the compiler is missing, or a setting makes no sense.
    """
    settings = list(settings)
    _check(names, settings, device, rounds)
    for setting in settings:
        progress(str(setting))
        sides = [_Side(name, setting, device) for name in names]
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
    progress: Callable[[str], None] = _quiet,
) -> Iterator[tuple[Setting, dict[str, dict[str, float]]]]:
    """Where a step's time goes: each operator's own, by PyTorch's profiler.

    Turns are as in :func:`benchmark`, of one step each. The profiler costs time too: compare
    networks, not with figures of :func:`benchmark`.

    Args:
        names: As in :func:`benchmark`.
        settings: As there.
        device: As there.
        rounds: As there.
        progress: As there.

    Yields:
        A setting and, for each network, median milliseconds a step by operator.

    Raises:
        UserError: As :func:`benchmark`.
    """
    settings = list(settings)
    _check(names, settings, device, rounds)
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device == 'cuda')]
    time_of = f'self_{"device" if device == "cuda" else "cpu"}_time_total'
    for setting in settings:
        progress(str(setting))
        sides = [_Side(name, setting, device) for name in names]
        for side in sides:
            side.warm_up(0)
        taken: dict[str, dict[str, list[float]]] = {side.measured.name: {} for side in sides}
        for number in range(rounds):
            first = number % len(sides)
            for side in sides[first:] + sides[:first]:
                with profile(activities=activities) as profiler:
                    side.step()
                for event in profiler.key_averages():
                    rows = taken[side.measured.name].setdefault(event.key, [0.0] * rounds)
                    rows[number] = getattr(event, time_of) / 1000
            progress(f'  round {number + 1} of {rounds}')
        yield (
            setting,
            {
                network: {key: statistics.median(values) for key, values in rows.items()}
                for network, rows in taken.items()
            },
        )


def _check(names, settings, device, rounds) -> None:
    if not names:
        raise UserError('no network to time: give configs, names or --preset')
    if rounds < 1:
        raise UserError(f'--rounds is {rounds}: give 1 or more')
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: there is no GPU here; leave it out or give cpu')
    for setting in settings:
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
        if setting.graph and (device != 'cuda' or setting.mode != 'inference'):
            raise UserError('--graph records inference on a GPU: give --device cuda, no training')


def check_compiler(device: str) -> None:
    """Refuses torch.compile where it could not compile.

    Raises:
        UserError: There is no C++ compiler (CPU) or no Triton (GPU), or Windows.
    """
    if device == 'cuda':
        try:
            import triton  # noqa: F401
        except ImportError as error:
            raise UserError('--compile on a GPU needs Triton: pip install triton') from error
    elif not any(map(shutil.which, (os.environ.get('CXX') or 'g++', 'clang++', 'cl'))):
        raise UserError('--compile needs a C++ compiler, and there is none: install g++ or set CXX')


class _Side:
    """A network in the making of a comparison."""

    def __init__(self, name: str, setting: Setting, device: str):
        self.setting, self.device, self.steps = setting, device, 1
        self.work: Workload = build_workload(name, setting.batch if setting.data else None)
        model = self.work.model.to(device, memory_format=LAYOUTS[setting.layout])
        self.measured = Measured(self.work.name, sum(p.numel() for p in model.parameters()))
        training = setting.mode == 'training'
        model.train(training)
        if training:
            parameters = [p for p in model.parameters() if p.requires_grad]
            self.optimizer = torch.optim.SGD(parameters, lr=1e-5, momentum=0.9)
        if setting.fuse:
            fuse_spatial_bias(model).to(memory_format=LAYOUTS[setting.layout])
        self.cast = setting.fuse and isinstance(model, Classifier)
        if self.cast:
            model.to(DTYPES[setting.dtype])
        if setting.compile:  # in place: the workload's functions call the same modules
            (model if isinstance(model, Classifier) else model.backbone).compile()
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
        if self.device == 'cuda':
            model = self.work.model
            held = sum(t.nbytes for t in itertools.chain(model.parameters(), model.buffers()))
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self.step()
            self.measured.memory = torch.cuda.max_memory_allocated() - before + held

    def turn(self) -> None:
        """A round's steps of this network, timed."""
        taken: dict[str, float] = {}
        for _ in range(self.steps):
            for part, seconds in self.step().items():
                taken[part] = taken.get(part, 0) + seconds / self.steps
        self.measured.rounds.append(taken)

    def step(self) -> dict[str, float]:
        marks = [self._mark()]
        parts = PARTS[self.setting.mode]
        if self.setting.data:
            self.images, self.targets = next(self.batches)
            marks.append(self._mark())
            parts = ('data', *parts)
        if self.graph is not None:
            self.graph.replay()
        elif self.setting.mode == 'inference':
            self._predict()
        else:
            with self._amp():
                loss = self.work.loss(self.images, self.targets)
            marks.append(self._mark())
            loss.backward()
            marks.append(self._mark())
            self.optimizer.step()
            self.optimizer.zero_grad()
        marks.append(self._mark())
        return dict(zip(parts, self._between(marks), strict=True))

    def _amp(self):
        if self.setting.dtype == 'fp32' or self.cast:
            return nullcontext()
        return torch.autocast(self.device, DTYPES[self.setting.dtype])

    def _predict(self) -> None:
        with torch.inference_mode(), self._amp():
            self.work.predict(self.images, self.targets)

    def _record(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what is made at the first call cannot be recorded
            for _ in range(3):
                self._predict()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._predict()
        self.graph = graph

    def _mark(self):
        if self.device != 'cuda':
            return time.perf_counter()
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


def as_json(comparison: Comparison) -> dict:
    """A comparison as plain values, with every round."""
    return asdict(comparison)


def from_json(values: dict) -> Comparison:
    """The comparison that :func:`as_json` wrote."""
    setting = dict(values['setting'], shape=tuple(values['setting']['shape']))
    return Comparison(Setting(**setting), [Measured(**row) for row in values['networks']])


def versions(device: str) -> dict[str, str | int]:
    """What the figures depend on: device, threads, PyTorch and Python."""
    return dict(
        device=device_name(device),
        threads=torch.get_num_threads(),
        torch=torch.__version__.partition('+')[0],
        python='.'.join(map(str, sys.version_info[:2])),
    )


def run_benchmark(args) -> None:
    """Does as ``tools/analysis_tools/benchmark.py``'s arguments say: prints, and writes files.

    Raises:
        UserError: As :func:`benchmark`; ``args.out`` cannot be written.
    """
    from mmsb.analysis.reports.page import as_text
    from mmsb.benchmark.report import as_csv, draw, table

    names, presets = PRESETS[args.preset] if args.preset else ((), (dict(),))
    names = args.networks or names
    given = {
        name: getattr(args, name)
        for name in ('mode', 'batch', 'shape', 'dtype', 'layout')
        if getattr(args, name)
    }
    flags = {name: True for name in ('fuse', 'compile', 'graph', 'data') if getattr(args, name)}
    settings = []
    for preset, values in itertools.product(presets, itertools.product(*given.values())):
        setting = {**preset, **dict(zip(given, values, strict=True))}
        if setting.get('mode') == 'training':
            setting.pop('fuse', None)  # the preset's, for its inference
        settings.append(Setting(**{**setting, **flags}))
    settings = list(dict.fromkeys(settings))
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if args.threads:
        torch.set_num_threads(args.threads)
    found = versions(device)
    print(', '.join(f'{key} {value}' for key, value in found.items()))
    progress = (lambda line: print(line, file=sys.stderr)) if sys.stderr.isatty() else _quiet
    if args.operators:
        return _run_operators(args, names, settings, device, progress)
    comparisons = []
    for comparison in benchmark(names, settings, device, args.rounds, args.min_seconds, progress):
        comparisons.append(comparison)
        print(f'\n{comparison.setting}\n{as_text(*table(comparison))}', flush=True)
    if args.out:
        stem = args.name or args.preset or 'benchmark'
        values = dict(**found, comparisons=[as_json(comparison) for comparison in comparisons])
        with replacing(args.out / f'{stem}.json') as part:
            part.write_text(json.dumps(values, indent=1) + '\n', encoding='utf-8')
        with replacing(args.out / f'{stem}.csv') as part:
            part.write_text(as_csv(comparisons), encoding='utf-8')
        figure = draw(comparisons, found['device'])
        if figure is not None:
            with replacing(args.out / f'{stem}.png') as part:
                figure.savefig(part, format='png')


def _run_operators(args, names, settings, device, progress) -> None:
    from mmsb.analysis.reports.page import as_text
    from mmsb.benchmark.report import operator_table

    lines = []
    for setting, times in operator_times(names, settings, device, args.rounds, progress):
        print(f'\n{setting}, ms a step\n{as_text(*operator_table(times))}', flush=True)
        for network, operators in times.items():
            lines += [[str(setting), network, *pair] for pair in operators.items()]
    if args.out:
        stem = args.name or f'{args.preset or "benchmark"}_operators'
        with (
            replacing(args.out / f'{stem}.csv') as part,
            part.open('w', newline='', encoding='utf-8') as file,
        ):
            csv.writer(file).writerows([['setting', 'network', 'operator', 'ms'], *lines])
