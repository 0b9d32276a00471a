"""Benchmark results: a setting, and the time and memory of each network."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field

PARTS = dict(inference=('inference',), training=('forward', 'backward', 'optimizer'))


@dataclass(frozen=True)
class Setting:
    """Conditions shared by all networks of a comparison.

    Attributes:
        mode: 'inference', or 'training' (forward, backward and an SGD step).
        batch: Images per step.
        shape: Height and width of the images.
        dtype: 'fp32', 'bf16' or 'fp16'. The last two use autocast; with ``fuse`` a classifier's
            weights are converted instead, as for deployment.
        layout: 'nchw' or 'nhwc' (channels last).
        fuse: Whether to fold batch norms into convolutions (inference only).
        compile: Whether to use torch.compile.
        graph: Whether to record the step as a CUDA graph and replay it, so that launching kernels
            costs nothing (GPU only). In training the graph holds the forward and the backward
            pass, not the optimizer.
        data: Whether to load training batches from the config's loader, which ignores ``shape``.
        kernels: Whether unfused networks may run in kernels; if not, in PyTorch's operators.
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
    kernels: bool = True

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a step that are timed, in their order."""
        if self.graph:
            return ('graph',)
        return ('data', *PARTS[self.mode]) if self.data else PARTS[self.mode]

    def __str__(self) -> str:
        size = 'own images' if self.data else 'x'.join(map(str, self.shape))
        flags = [name for name in ('fuse', 'compile', 'graph') if getattr(self, name)]
        flags += ['no kernels'] * (not self.kernels)
        return ', '.join([self.mode, f'batch {self.batch}', size, self.dtype, self.layout, *flags])


@dataclass
class Measured:
    """Time and memory of one network.

    Attributes:
        name: Name of the network.
        params: Number of its parameters.
        rounds: For each round the seconds per step, by part of the step.
        memory: Peak bytes of a step including the weights; None if not on a GPU.
    """

    name: str
    params: int
    rounds: list[dict[str, float]] = field(default_factory=list)
    memory: int | None = None

    @property
    def seconds(self) -> list[float]:
        """Seconds per step, for each round."""
        return [sum(parts.values()) for parts in self.rounds]

    def part(self, name: str) -> float:
        """Compute the median seconds of a part of the step."""
        return statistics.median(parts[name] for parts in self.rounds)


@dataclass
class Comparison:
    """Networks timed with one setting; the first is the baseline."""

    setting: Setting
    networks: list[Measured]

    def ratios(self, network: Measured, baseline: Measured | None = None) -> list[float]:
        """Compute the throughput relative to a baseline, for each round.

        Args:
            network: One of the networks.
            baseline: Another one. Defaults to the first.
        """
        baseline = baseline or self.networks[0]
        pairs = zip(baseline.seconds, network.seconds, strict=True)
        return [base / seconds for base, seconds in pairs]


def as_json(comparison: Comparison) -> dict:
    """Convert a comparison to plain values, with all rounds."""
    return asdict(comparison)


def from_json(values: dict) -> Comparison:
    """Rebuild a comparison from the values of :func:`as_json`."""
    setting = dict(values['setting'], shape=tuple(values['setting']['shape']))
    return Comparison(Setting(**setting), [Measured(**row) for row in values['networks']])
