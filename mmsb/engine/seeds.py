"""Training several configs with several seeds, one after the other, and keeping each result.

A run is one config with one seed, in ``WORK_DIR/<config's name>/seed_<S>``. Its ``run.json`` has
the settings that it was started with and, once it is finished, its metrics.
"""

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmsb.engine.arguments import parse_train_args
from mmsb.engine.config import check_data_paths, load_config
from mmsb.engine.training_log import NOT_METRICS, TrainingLog, read_log, trained_for, unit
from mmsb.utils.environment import PACKAGES, device_name, installed
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.utils.processes import die_with_parent, locked

SETTINGS = ('processes', 'flags', 'config_sha256')  # must not change between two calls


def train_seeds(
    configs: Sequence[str],
    seeds: Sequence[int],
    work_dir: str | os.PathLike,
    tools: str | os.PathLike,
    processes: int = 1,
    flags: Sequence[str] = (),
) -> list[dict]:
    """Train every config with every seed; keep finished runs and resume unfinished ones.

    A stopped run resumes from its last checkpoint; without one it starts again. Everything is
    checked before the first training starts.

    Args:
        configs: Config files.
        seeds: Random seeds, 0 or more.
        work_dir: Folder for all runs.
        tools: The folder that contains ``train.py`` and ``dist_train.sh``.
        processes: Processes on this node (GPUs or CPU processes) per training. Defaults to 1.
        flags: Further flags for ``tools/train.py``. Defaults to none.

    Returns:
        One dict per run: ``config``, ``seed``, `SETTINGS`, ``epochs`` (or ``iterations``), the
        metrics of the ``last`` and the ``best`` validation, ``best_epoch`` (or
        ``best_iteration``), ``device`` and ``versions``. The best validation has the highest first
        metric; for segmentation, the highest mIoU.

    Raises:
        UserError: An argument cannot be used, a folder holds another run, or a training failed;
            in the last case the error has the training's exit code.
    """
    _check(configs, seeds)
    if processes < 1:
        raise UserError(f'the number of processes is {processes}: give 1 or more')
    cfgs = {config: _load(config, flags) for config in configs}
    todo = []
    for seed in seeds:
        for config, cfg in cfgs.items():
            settings = (processes, list(flags), _sha256(cfg))
            record = dict(config=config, seed=seed, **dict(zip(SETTINGS, settings, strict=True)))
            folder = _folder(work_dir, config, seed)
            todo.append((folder, record, _kept(folder, record)))
    with locked(work_dir, 'train_seeds.py'):
        return _train_all(todo, cfgs, Path(tools))


def _train_all(
    todo: list[tuple[Path, dict, dict]], cfgs: dict[str, Config], tools: Path
) -> list[dict]:
    finished = []
    for number, (folder, record, kept) in enumerate(todo, 1):
        run = f'{record["config"]}, seed {record["seed"]}'
        if 'last' in kept:
            _print(f'[{number}/{len(todo)}] {run}: finished')
            finished.append(kept)
            continue
        _print(f'[{number}/{len(todo)}] {run}: {"resumes" if kept else "starts"} in {folder}')
        _write(folder, record)
        code = _call(record, folder, tools, resume=bool(kept))
        if code:
            error = UserError(
                f'{run} stopped with exit code {code} (its own message is above); run the same '
                'command again to continue'
            )
            error.exit_code = code if code > 0 else 1
            raise error
        scope = cfgs[record['config']].get('default_scope')
        names = [name for key in ('torch', 'torchvision', scope) for name in PACKAGES.get(key, ())]
        record.update(
            _figures(read_log(folder), f'{run}, in {folder}'),
            device=device_name(),
            versions=installed(names),
        )
        _write(folder, record)
        finished.append(record)
    return finished


def finished_runs(
    configs: Sequence[str], seeds: Sequence[int], work_dir: str | os.PathLike
) -> list[dict]:
    """Return the finished ones among the runs, as :func:`train_seeds` returns them.

    Raises:
        UserError: No run is finished, or an argument cannot be used.
    """
    _check(configs, seeds)
    records = [read_run(_folder(work_dir, config, seed)) for seed in seeds for config in configs]
    finished = [record for record in records if record and 'last' in record]
    if not finished:
        raise UserError(f'no run of these configs and seeds is finished in {work_dir}')
    return finished


def _check(configs: Sequence[str], seeds: Sequence[int]) -> None:
    if not configs:
        raise UserError('give at least one config')
    if not seeds:
        raise UserError('give at least one seed')
    if min(seeds) < 0:
        raise UserError(f'seed {min(seeds)}: give 0 or more')
    for kind, names in (('config', [Path(config).stem for config in configs]), ('seed', seeds)):
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UserError(f'{kind} {twice[0]} is given twice')


def _load(config: str, flags: Sequence[str]) -> Config:
    """Return the config as a training with these flags uses it, after checking it."""
    cfg = load_config(parse_train_args([config, *flags]))
    if cfg.get('val_dataloader') is None or cfg.get('val_evaluator') is None:
        raise UserError(f'{config} has no validation, whose metrics are averaged: add one')
    check_data_paths(cfg, ('train_dataloader', 'val_dataloader'))
    return cfg


def _sha256(cfg: Config) -> str:
    content = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _folder(work_dir: str | os.PathLike, config: str, seed: int) -> Path:
    # absolute, because mmengine stores this path of the last checkpoint
    return Path(work_dir).absolute() / Path(config).stem / f'seed_{seed}'


def _kept(folder: Path, wanted: dict) -> dict:
    """Return the record of a run to keep or resume; empty if there is none.

    Raises:
        UserError: The folder holds another run.
    """
    record = read_run(folder)
    if record is None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f'{folder} holds other files: give another --work-dir')
        return {}
    if 'last' not in record and not (folder / 'last_checkpoint').is_file():
        return {}
    changed = [name for name in SETTINGS if record.get(name) != wanted[name]]
    if changed:
        raise UserError(
            f'{folder} holds a run of {record.get("config")} with other settings ('
            f'{", ".join(changed)}): give another --work-dir, or remove that folder'
        )
    return record


def read_run(folder: Path) -> dict | None:
    """Return the record of a run, or None if there is none.

    Raises:
        UserError: The record is damaged.
    """
    path = folder / 'run.json'
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'{path} is damaged ({error}): remove {folder}') from error


def _write(folder: Path, record: dict) -> None:
    with replacing(folder / 'run.json') as part:
        part.write_text(json.dumps(record, indent=1) + '\n')


def _call(record: dict, folder: Path, tools: Path, resume: bool) -> int:
    """Train in a new process and return its exit code."""
    seed = ['--work-dir', str(folder), '--seed', str(record['seed'])]
    flags = [*seed, *(['--resume'] if resume else []), *record['flags']]
    if record['processes'] == 1:
        command = [sys.executable, tools / 'train.py', record['config'], *flags]
    else:
        processes = str(record['processes'])
        command = [tools / 'dist_train.sh', record['config'], processes, *flags]
    env = dict(os.environ, PYTHON=sys.executable)
    child = subprocess.Popen(
        command,
        env=env,
        stdout=sys.stderr,  # stdout is for the table
        preexec_fn=functools.partial(die_with_parent, os.getpid()),
    )

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.terminate()  # it must not keep training in a folder that seems free
        child.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _figures(log: TrainingLog, run: str) -> dict:
    """Return the metrics of the last and the best validation of a training."""
    found = [
        (line['step'], {name: value for name, value in line.items() if name not in NOT_METRICS})
        for line in log.val
    ]
    if not log.ends_with_val or not found[-1][1]:
        raise UserError(
            f'{run}: the log has no metrics after the last {unit(log.train)}: the model predicts '
            'nothing (a detector without boxes)'
        )
    last = found[-1][1]
    first = 'mIoU' if 'mIoU' in last else next(iter(last))
    step, best = max((pair for pair in found if first in pair[1]), key=lambda pair: pair[1][first])
    counted = unit(log.train)
    return {
        f'{counted}s': trained_for(log.train),
        'last': last,
        f'best_{counted}': step,
        'best': best,
    }


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
