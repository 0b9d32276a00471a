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
        graph: Whether to replay the forward pass as a CUDA graph (inference on a GPU only).
        data: Whether to load training batches from the config's loader, which ignores ``shape``.
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

    def ratios(self, network: Measured) -> list[float]:
        """Compute the throughput relative to the baseline, for each round."""
        pairs = zip(self.networks[0].seconds, network.seconds, strict=True)
        return [baseline / seconds for baseline, seconds in pairs]


def as_json(comparison: Comparison) -> dict:
    """Convert a comparison to plain values, with all rounds."""
    return asdict(comparison)


def from_json(values: dict) -> Comparison:
    """Rebuild a comparison from the values of :func:`as_json`."""
    setting = dict(values['setting'], shape=tuple(values['setting']['shape']))
    return Comparison(Setting(**setting), [Measured(**row) for row in values['networks']])
