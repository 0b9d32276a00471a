"""Random numbers that depend on where a training is, not on what was drawn before.

Each iteration, and each sample that a data loader loads, starts from its own seed, computed from
the run's seed, the rank and its position in the training. So a resumed run draws the same numbers
as one that was never stopped, and the number of data-loading workers does not matter.
"""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset


def seed_generators(*key: int, cuda: bool = True) -> None:
    """Seed the generators of Python, numpy and torch from a few integers.

    Args:
        *key: Integers, 0 or more, that the seeds are computed from.
        cuda: Seed the GPUs' generators too. Defaults to True.
    """
    words = np.random.SeedSequence(key).generate_state(6)
    random.seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(words[2:4])
    seed = int(words[4]) << 32 | int(words[5])
    if cuda:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


class _SeededBatch:
    """The indices of a batch; taking one seeds the generators for the sample that it stands for.

    torch loads a batch as ``[dataset[index] for index in batch]``, in a worker or in the training
    process, whose own generators are as before afterwards.
    """

    def __init__(self, indices: Sequence[int], key: tuple[int, ...]):
        self.indices = indices
        self.key = key

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            for place, index in enumerate(self.indices, 1):  # 0 would be the iteration's own seed
                seed_generators(*self.key, place, cuda=False)
                yield index
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])


class _SeededBatches:
    """A loader's batch sampler, whose batches seed the generators."""

    def __init__(self, loader: 'SeededLoader', batches: BatchSampler):
        self.loader = loader
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[_SeededBatch]:
        loader = self.loader
        batches, loader.rest = loader.rest or iter(self.batches), None
        for batch in batches:
            yield _SeededBatch(batch, (*loader.key, loader.position))
            loader.position += 1


class SeededLoader(DataLoader):
    """A data loader that seeds the generators for each sample, and that can skip batches.

    Make one with :func:`seeded`.

    Attributes:
        key (tuple[int, ...]): Seed of the run and rank.
        position (int): Batches of the run before the next pass over the data.
        rest (Iterator | None): The batches of the next pass if its first ones are skipped.
    """

    key = (0, 0)
    position = 0
    rest = None

    @property
    def _index_sampler(self) -> _SeededBatches:
        return _SeededBatches(self, self.batch_sampler)

    def __iter__(self) -> Iterator:
        # A generator: workers start with the first batch, after a resumed run has skipped some.
        yield from super().__iter__()

    def skip(self, batches: int) -> int:
        """Skip the first batches of the next pass without loading them.

        Args:
            batches: How many; more than a pass has means to skip whole passes.

        Returns:
            The number of whole passes that were skipped.
        """
        if batches <= 0:
            return 0
        passes, self.rest = 0, iter(self.batch_sampler)
        for _ in range(batches):
            try:
                next(self.rest)
            except StopIteration:
                passes += 1
                sampler = getattr(self.batch_sampler, 'sampler', None)
                if hasattr(sampler, 'set_epoch'):
                    sampler.set_epoch(passes)
                self.rest = iter(self.batch_sampler)
                next(self.rest)
        return passes


def seeded(loader: DataLoader, key: tuple[int, ...]) -> DataLoader:
    """Turn a data loader into a :class:`SeededLoader`, in place.

    A loader of an iterable data set, or one without batches, is left as it is.
    """
    batched = loader.batch_sampler is not None
    if type(loader) is DataLoader and batched and not isinstance(loader.dataset, IterableDataset):
        loader.__class__ = SeededLoader
        loader.key = key
    return loader
