"""A runner whose training can be killed at any moment and resumed with the same results."""

import os
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from mmsb.engine.checkpointing import LAST, CheckpointHook
from mmsb.engine.randomness import SeededLoader, seed_generators, seeded
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.utils.finite import warn_not_finite

VALIDATED = 'last_validation'  # holds the iteration after which the last validation ended


class ResumableRunner(Runner):
    """mmengine's ``Runner`` with what a run needs to be killed and resumed as if it never stopped.

    - Checkpoints are written beside their place and renamed, so that each is whole or not there.
      mmengine's ``CheckpointHook`` is replaced by
      :class:`mmsb.engine.checkpointing.CheckpointHook`, which deletes old ones last.
    - Random numbers depend on the position in the training (:mod:`mmsb.engine.randomness`).
    - Data that was trained on is skipped, not loaded and thrown away.
    - A validation that was due when the run stopped is done first.
    """

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader that seeds the generators for each sample."""
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        return loader if seed is None else seeded(loader, (seed, get_rank()))

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load a checkpoint; weights that are not finite give a warning."""
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        warn_not_finite(self.model.state_dict(), f'checkpoint {filename}')
        return checkpoint

    def wrap_model(self, model_wrapper_cfg: dict | None, model: torch.nn.Module) -> torch.nn.Module:
        """Wrap the model for several processes, with the layout of weights that it will have.

        DDP adds up gradients in buckets of the layout that the weights have when it is made, and
        makes new ones after its first step. With another layout, that first step differs from later
        ones, so that a resumed training would differ, too.
        """
        for hook in self.cfg.get('custom_hooks') or ():
            if isinstance(hook, dict) and str(hook['type']).endswith('ChannelsLastHook'):
                model = model.to(memory_format=torch.channels_last)
        return super().wrap_model(model_wrapper_cfg, model)

    def register_hook(self, hook: Hook | dict, priority: str | int | None = None) -> None:
        """Register a hook; ours takes the place of mmengine's ``CheckpointHook``."""
        if isinstance(hook, dict):
            kind = hook['type']
            if (HOOKS.get(kind) if isinstance(kind, str) else kind) is _CheckpointHook:
                hook = dict(hook, type=CheckpointHook)
        super().register_hook(hook, priority)

    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Save a checkpoint, whole or not at all; only the main process does."""
        if not is_main_process():
            return
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        with replacing(Path(out_dir, filename)) as part:
            super().save_checkpoint(out_dir, part.name, *args, **kwargs)

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call all hooks, and do around them what resuming needs."""
        if fn_name in ('before_train_iter', 'before_val_epoch'):
            seed_generators(self.seed, self.rank, self.iter)
        if fn_name == 'before_val_epoch':
            self.val_dataloader.position = self.iter
        elif fn_name == 'before_train':
            self._check_resumed_alike()
            if is_main_process():
                self._mark_start()
        elif fn_name == 'before_save_checkpoint':
            _drop_functions(kwargs['checkpoint'].get('param_schedulers') or ())
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_train':
            self._validate_if_due()
        elif fn_name == 'before_train_epoch':
            self._skip_data()
        elif fn_name == 'after_val_epoch' and is_main_process():
            with replacing(Path(self.work_dir, VALIDATED)) as part:
                part.write_text(str(self.iter))

    def _check_resumed_alike(self) -> None:
        """Raise an error unless all processes continue from the same iteration."""
        iterations = all_gather_object(self.iter)
        if len(set(iterations)) > 1:
            found = ', '.join(map(str, iterations))
            raise UserError(
                f'the processes resumed from different iterations ({found}): --work-dir must be '
                'one folder that all nodes share'
            )

    def _mark_start(self) -> None:
        """Make ``last_checkpoint`` name what this training continues from, nothing if it is new."""
        last = Path(self.work_dir, LAST)
        if self._resume and os.path.isfile(self._load_from or ''):
            with replacing(last) as part:
                part.write_text(os.path.relpath(self._load_from, self.work_dir))
        elif not self._resume:
            for path in (last, last.with_name(VALIDATED)):  # an earlier training's
                path.unlink(missing_ok=True)

    def _skip_data(self) -> None:
        """Continue with the data after the last trained batch."""
        loop, loader = self.train_loop, self.train_dataloader
        if not isinstance(loader, SeededLoader):
            return
        loader.position = self.iter
        if isinstance(loop, IterBasedTrainLoop) and self.iter:
            passes = loader.skip(self.iter)
            loop.dataloader_iterator = _ResumedIterator(loader, self.iter, passes)
        elif isinstance(loop, EpochBasedTrainLoop):
            loader.skip(self.iter - self.epoch * len(loader))  # 0 unless saved within an epoch

    def _validate_if_due(self) -> None:
        """Do the validation after the resumed iteration unless it ended before the run stopped."""
        loop = self.train_loop
        if not self._resume or self.val_loop is None:
            return
        if isinstance(loop, EpochBasedTrainLoop):
            if self.iter != self.epoch * len(loop.dataloader):
                return
            done, total = self.epoch, self.max_epochs
        else:
            done, total = self.iter, self.max_iters
        loop._decide_current_val_interval()
        due = done == total or (loop.val_interval and done % loop.val_interval == 0)
        if not done or done < loop.val_begin or not due:
            return
        try:
            validated = int(Path(self._load_from or '').with_name(VALIDATED).read_text())
        except (OSError, ValueError):
            validated = 0
        if validated < self.iter:
            self.logger.info('the run stopped before the end of a validation: it is done first')
            self.val_loop.run()


def _drop_functions(states: dict | list) -> None:
    """Remove functions from the states of schedulers, in place.

    The state of ``OneCycleLR`` holds its annealing function. A file with such pickled code would be
    refused when it is loaded; the scheduler of the resumed run has its own.
    """
    for state in states.values() if isinstance(states, dict) else states:
        if isinstance(state, list):  # of one of several optimizers
            _drop_functions(state)
        else:
            for key in [key for key, value in state.items() if callable(value)]:
                del state[key]


class _ResumedIterator(_InfiniteDataloaderIterator):
    """The data of a resumed training that counts iterations.

    mmengine's loop skips the data itself, on one stack by loading it. Here this does nothing, as
    the loader has skipped it already.

    Args:
        loader: The loader.
        done: Iterations that were trained.
        passes: Whole passes over the data that were trained.
    """

    def __init__(self, loader: SeededLoader, done: int, passes: int):
        super().__init__(loader)
        self._epoch = passes
        self._ignored = done

    def skip_iter(self, num_iters: int) -> None:
        """Ignore the loop's call (OneDL's mmengine)."""
        self._ignored = 0

    def __next__(self):
        if self._ignored:  # mmengine's loop takes the batches one by one
            self._ignored -= 1
            return None
        return super().__next__()
