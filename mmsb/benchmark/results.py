"""What a benchmark found: a setting, and each network's time and memory in it."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field

PARTS = dict(inference=('inference',), training=('forward', 'backward', 'optimizer'))


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


def as_json(comparison: Comparison) -> dict:
    """A comparison as plain values, with every round."""
    return asdict(comparison)


def from_json(values: dict) -> Comparison:
    """The comparison that :func:`as_json` wrote."""
    setting = dict(values['setting'], shape=tuple(values['setting']['shape']))
    return Comparison(Setting(**setting), [Measured(**row) for row in values['networks']])
