"""Checkpoints that survive a kill at any moment, and finding the one to resume from."""

import logging
import os
import re
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmsb.utils.errors import UserError
from mmsb.utils.files import remove_parts, replacing
from mmsb.utils.safe_load import check_checkpoint_file

LAST = 'last_checkpoint'  # mmengine's name


class CheckpointHook(_CheckpointHook):
    """mmengine's ``CheckpointHook``, but old checkpoints are deleted last.

    mmengine deletes the old checkpoint and then writes the new one: killed in between, a training
    with ``max_keep_ckpts=1`` loses everything. Here a file is deleted only after a checkpoint that
    no longer needs it is on the disk. That checkpoint lists the files to delete, so that a resumed
    run deletes them if this one was killed first. ``last_checkpoint`` holds a relative path, so
    that a work directory can be moved.
    """

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder of checkpoints, and remove what a killed run left in it."""
        super().before_train(runner)
        self.outdated = []
        self._find_best_here()
        resumed = Path(runner._load_from or '').absolute()
        resumed_here = runner._resume and resumed.parent == Path(self.out_dir).absolute()
        if resumed_here:  # it is written again if a validation finds a better model
            self.last_ckpt = self.file_backend.join_path(self.out_dir, resumed.name)
        if not is_main_process() or '://' in str(self.out_dir):
            return
        remove_parts(self.out_dir)
        if resumed_here:
            for name in runner.message_hub.runtime_info.get('outdated_ckpts', ()):
                if name != resumed.name:
                    self._delete(self.file_backend.join_path(self.out_dir, name))

    def _find_best_here(self) -> None:
        """Look for the best checkpoint in this run's folder, which may have been moved."""

        def here(path: str | None) -> str | None:
            return path and self.file_backend.join_path(self.out_dir, os.path.basename(path))

        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = here(self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = here(path)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if self.max_keep_ckpts > 0 and step not in list(self.keep_ckpt_ids)[-1:]:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                oldest = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                self.outdated.append(self.file_backend.join_path(self.out_dir, oldest))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        outdated = [os.path.basename(path) for path in self.outdated]
        runner.message_hub.update_info('outdated_ckpts', outdated)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            last = self.last_ckpt
            if '://' not in last:
                last = os.path.relpath(last, runner.work_dir)
            with replacing(Path(runner.work_dir, LAST)) as part:
                part.write_text(last)
            for path in self.outdated:
                self._delete(path)
        self.outdated.clear()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        backend = self.file_backend
        self.file_backend = _DeletesLater(backend, self.outdated)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend

    def _delete(self, path: str) -> None:
        backend = getattr(self.file_backend, 'backend', self.file_backend)
        if backend.isfile(path):
            backend.remove(path)
        elif backend.isdir(path):  # DeepSpeed's
            backend.rmtree(path)


class _DeletesLater:
    """A file backend that lists the paths to delete instead of deleting them."""

    def __init__(self, backend, outdated: list[str]):
        self.backend = backend
        self.remove = self.rmtree = outdated.append

    def __getattr__(self, name: str):
        return getattr(self.backend, name)


def latest_checkpoint(folder: str | os.PathLike) -> str | None:
    """Return the newest whole checkpoint to resume from in a work directory, None if there is none.

    It is the one that ``last_checkpoint`` names. If this is empty, missing or names a file that is
    missing or cut short, it is the file with the highest number; a warning says so.
    """
    folder = Path(folder)
    try:
        name = (folder / LAST).read_text(encoding='utf-8', errors='replace').strip()
    except OSError:
        name = ''
    if '://' in name:
        return name
    # the folder may have been moved since mmengine wrote an absolute path
    named = [folder / Path(name).name, folder / name, Path(name)] if name else []
    found = next((path for path in named if path.is_file()), None)
    if found and is_whole(found):
        return str(found)
    if found:
        reason = f'{found.name} is cut short'
    elif name:
        reason = f'{name}, which {LAST} names, does not exist'
    else:
        reason = f'{LAST} is {"empty" if (folder / LAST).exists() else "missing"}'
    numbered = [(int(n[1]), p) for p in folder.glob('*.pth') if (n := _number(p.name))]
    for _, path in sorted(numbered, reverse=True):
        if path != found and is_whole(path):
            print_log(
                f'in {folder}, {reason}: resumes from {path.name}, the newest whole checkpoint',
                'current',
                logging.WARNING,
            )
            return str(path)
    return None


def _number(name: str) -> re.Match | None:
    """Match the epoch or iteration in a checkpoint's name; a best one cannot be resumed from."""
    return None if name.startswith('best_') else re.search(r'(\d+)\.pth$', name)


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint is not cut short."""
    try:
        check_checkpoint_file(str(path))
    except UserError:
        return False
    return True
