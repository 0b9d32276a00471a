"""Training several configs with several seeds, and keeping each result.

A run is one config with one seed, in ``WORK_DIR/<config's name>/seed_<S>``. Its ``run.json`` has
the settings that it was started with and, once it is finished, its metrics. Runs train one after
the other, side by side on this machine, or as Slurm jobs; side by side, each writes what it prints
to its ``output.txt``.
"""

import functools
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from mmsb.engine.arguments import parse_train_args
from mmsb.engine.config import check_data_paths, leaf_datasets, load_config, metrics_of
from mmsb.engine.training_log import NOT_METRICS, TrainingLog, read_log, trained_for, unit
from mmsb.utils.environment import PACKAGES, device_name, installed
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.utils.processes import die_with_parent, locked
from mmsb.version import __version__

SETTINGS = ('processes', 'flags', 'config_sha256')  # must not change between two calls
PREFERRED = ('mIoU', 'bbox_mAP')  # to be best at, with any prefix, whichever is logged first
OUTPUT = 'output.txt'
END_SECONDS = 60  # for a training to end after SIGTERM; the launcher gives its processes 30


@dataclass
class _Run:
    """One config with one seed.

    Attributes:
        name: Its name in messages.
        number: Its number in messages, e.g. ``[1/6]``.
        folder: Its work directory.
        record: What ``run.json`` gets.
        kept: The record of an earlier call; empty if there is nothing to keep.
        scope: The config's ``default_scope``, the toolbox that it needs.
        without_boxes: Metrics if it finds no box; empty if it is no COCO detector.
    """

    name: str
    number: str
    folder: Path
    record: dict
    kept: dict
    scope: str | None
    without_boxes: dict[str, float]


@dataclass(frozen=True)
class _Places:
    """Where runs train.

    Attributes:
        tools: The folder of ``train.py`` and the launchers.
        partition: Slurm partition; None: this machine.
        environments: Environment variables, for each of the runs that train at the same time.
    """

    tools: Path
    partition: str | None
    environments: list[dict[str, str]]

    @property
    def own_output(self) -> bool:
        """Whether each run has a file for what it prints."""
        return self.partition is not None or len(self.environments) > 1


def train_seeds(
    configs: Sequence[str],
    seeds: Sequence[int],
    work_dir: str | os.PathLike,
    tools: str | os.PathLike,
    processes: int = 1,
    flags: Sequence[str] = (),
    jobs: int | None = None,
    partition: str | None = None,
) -> list[dict]:
    """Train every config with every seed; keep finished runs and resume unfinished ones.

    A stopped run resumes from its last checkpoint; without one it starts again. Everything is
    checked before the first training starts. After a failure no further run starts; those that
    have started are waited for. If this process is stopped, so are the trainings.

    Args:
        configs: Config files.
        seeds: Random seeds, 0 or more.
        work_dir: Folder for all runs.
        tools: The folder that contains ``train.py``, ``dist_train.sh`` and ``slurm_train.sh``.
        processes: Processes on this node (GPUs or CPU processes) per training. Defaults to 1.
        flags: Further flags for ``tools/train.py``. Defaults to none.
        jobs: Number of trainings that run at the same time. On a machine with GPUs, each uses
            others. Defaults to None: 1; in Slurm, all.
        partition: Slurm partition to train in, each run as a job of ``tools/slurm_train.sh``.
            Defaults to None: train on this machine.

    Returns:
        One dict per run: ``config``, ``seed``, `SETTINGS`, ``epochs`` (or ``iterations``), the
        metrics of the ``last`` and the ``best`` validation, ``best_epoch`` (or
        ``best_iteration``), ``device`` and ``versions``; ``validation_sha256`` is equal for
        configs that are validated on the same data. The best validation has the highest mIoU or
        box AP, else the highest first metric. A COCO detector that finds no box has AP 0.

    Raises:
        UserError: An argument cannot be used, a folder holds another run, or a training failed;
            in the last case the error has the training's exit code.
    """
    _check(configs, seeds)
    for name, number in (('processes', processes), ('jobs', 1 if jobs is None else jobs)):
        if number < 1:
            raise UserError(f'the number of {name} is {number}: give 1 or more')
    total = len(configs) * len(seeds)
    if partition is None:
        environments = _local_environments(jobs or 1, processes)
    else:
        environments = _slurm_environments(min(jobs or total, total), processes)
    places = _Places(Path(tools), partition, environments)
    cfgs = {config: _load(config, flags) for config in configs}
    todo = []
    for seed in seeds:
        for config, cfg in cfgs.items():
            settings = (processes, list(flags), _sha256(cfg))
            record = dict(config=config, seed=seed, **dict(zip(SETTINGS, settings, strict=True)))
            folder = _folder(work_dir, config, seed)
            kept, scope = _kept(folder, record), cfg.get('default_scope')
            record['validation_sha256'] = _validation_sha256(cfg)
            name, number = f'{config}, seed {seed}', f'[{len(todo) + 1}/{total}]'
            todo.append(_Run(name, number, folder, record, kept, scope, _without_boxes(cfg)))
    with locked(work_dir, 'train_seeds.py'):
        return _train_all(todo, places)


def _local_environments(jobs: int, processes: int) -> list[dict[str, str]]:
    """Divide this machine's GPUs, or its cores, between jobs."""
    if jobs == 1:
        return [{}]
    gpus = torch.cuda.device_count()
    if not gpus:
        threads = str(max(1, (os.cpu_count() or 1) // (jobs * processes)))
        names = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')
        return [{name: os.environ.get(name, threads) for name in names}] * jobs
    if jobs * processes > gpus:
        raise UserError(
            f'--jobs {jobs} with {processes} process(es) each needs {jobs * processes} GPUs, but '
            f'there are {gpus}: give fewer jobs'
        )
    visible = os.environ.get('CUDA_VISIBLE_DEVICES') or ','.join(map(str, range(gpus)))
    devices = visible.split(',')
    return [
        dict(CUDA_VISIBLE_DEVICES=','.join(devices[job * processes : (job + 1) * processes]))
        for job in range(jobs)
    ]


def _slurm_environments(jobs: int, processes: int) -> list[dict[str, str]]:
    """Return the variables of ``slurm_train.sh``; jobs that meet on a node have their own port."""
    if shutil.which('srun') is None:
        raise UserError('--slurm: there is no srun on this machine; run this on a login node')
    port = os.environ.get('MASTER_PORT', '29500')
    if not port.isdecimal():
        raise UserError(f'MASTER_PORT is {port!r}: give a whole number')
    return [dict(GPUS=str(processes), MASTER_PORT=str(int(port) + job)) for job in range(jobs)]


def _train_all(todo: list[_Run], places: _Places) -> list[dict]:
    waiting, failure = deque(todo), None
    running: dict[int, tuple[_Run, subprocess.Popen]] = {}  # by the job's number
    with _interrupted_by_sigterm():
        try:
            while running or (waiting and not failure):
                free = [job for job in range(len(places.environments)) if job not in running]
                while free and waiting and not failure:
                    run = waiting.popleft()
                    if 'last' in run.kept:
                        _print(f'{run.number} {run.name}: already finished')
                        run.record = run.kept
                    else:
                        job = free.pop(0)
                        running[job] = run, _start(run, places, places.environments[job])
                time.sleep(0.1)
                for job, (run, child) in list(running.items()):
                    if child.poll() is not None:
                        del running[job]
                        try:
                            _finish(run, child.returncode, places)
                            _print(f'{run.number} {run.name}: finished')
                        except UserError as error:
                            failure = failure or error
                            _print(f'{run.number} {run.name}: failed' + _waits_for(running))
        finally:
            _end([child for _, child in running.values()])
    if failure:
        raise failure
    return [run.record for run in todo]


def _waits_for(running: dict) -> str:
    return f'; no other run starts, {len(running)} still train' if running else ''


def _finish(run: _Run, code: int, places: _Places) -> None:
    """Complete the record of a run that has ended.

    Raises:
        UserError: It failed, or has no metrics.
    """
    if code:
        where = f'in {run.folder / OUTPUT}' if places.own_output else 'above'
        error = UserError(
            f'{run.name} stopped with exit code {code} (its own message is {where}); run the same '
            'command again to continue'
        )
        error.exit_code = code if code > 0 else 1
        raise error
    names = [name for key in ('torch', 'torchvision', run.scope) for name in PACKAGES.get(key, ())]
    log = read_log(run.folder)
    run.record.update(
        _figures(log, f'{run.name}, in {run.folder}', run.without_boxes),
        device=device_name() if places.partition is None else _slurm_device(log.folder, places),
        versions=dict(mmsb=__version__, **installed(names)),
    )
    _write(run.folder, run.record)


def _slurm_device(folder: Path, places: _Places) -> str:
    """Return the name of the GPU in mmengine's log, or the partition."""
    text = '\n'.join(path.read_text(errors='replace') for path in folder.glob('*.log'))
    found = re.search(r'^ *GPU [\d,]+: (.+)$', text, re.MULTILINE)
    return found[1] if found else f'CPU of Slurm partition {places.partition}'


def finished_runs(
    configs: Sequence[str], seeds: Sequence[int], work_dir: str | os.PathLike
) -> list[dict]:
    """Return the finished ones among the runs, as :func:`train_seeds` returns them.

    The others are named on stderr.

    Raises:
        UserError: No run is finished, an argument cannot be used, or the runs of a config have
            different settings.
    """
    _check(configs, seeds)
    records = {
        (config, seed): read_run(_folder(work_dir, config, seed))
        for seed in seeds
        for config in configs
    }
    finished = [record for record in records.values() if record and 'last' in record]
    if not finished:
        raise UserError(f'no run of these configs and seeds is finished in {work_dir}')
    check_same_settings(finished, work_dir)
    left_out = [run for run, record in records.items() if not record or 'last' not in record]
    if left_out:
        names = '; '.join(f'{config}, seed {seed}' for config, seed in left_out)
        _print(f'not finished, left out: {names}')
    return finished


def _changed(record: dict, other: dict) -> list[str]:
    return [name for name in SETTINGS if record.get(name) != other.get(name)]


def check_same_settings(records: Sequence[dict], work_dir: str | os.PathLike) -> None:
    """Raise an error if runs of one config were trained with different settings.

    Args:
        records: What :func:`read_run` returned.
        work_dir: The folder of the runs, for the message.

    Raises:
        UserError: They were: their mean would mix two experiments.
    """
    firsts: dict[str, dict] = {}
    for record in records:
        name = Path(record['config']).stem
        first = firsts.setdefault(name, record)
        changed = _changed(record, first)
        if changed:
            raise UserError(
                f'{work_dir}: seeds {first["seed"]} and {record["seed"]} of {name} were trained '
                f'with different settings ({", ".join(changed)}): leave one of them out'
            )


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
    return _hash(cfg.to_dict())


def _validation_sha256(cfg: Config) -> str:
    """Return a hash of what a config is validated on, whatever its resolution."""
    how = ('pipeline', 'backend_args', 'lazy_init')
    return _hash([
        {key: value for key, value in dataset.items() if key not in how}
        for dataset in leaf_datasets(cfg.val_dataloader.dataset)
    ])  # fmt: skip


def _hash(content) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_boxes(cfg: Config) -> dict[str, float]:
    """Return the APs of a detector without boxes, for which mmdet logs no metrics."""
    found = {}
    for _, metric in metrics_of(cfg, 'val_dataloader'):
        if str(metric.get('type')).split('.')[-1] == 'CocoMetric':
            kinds = metric.get('metric', 'bbox')
            for kind in {'bbox', 'segm'}.intersection([kinds] if isinstance(kinds, str) else kinds):
                start = f'{metric.get("prefix") or "coco"}/{kind}_mAP'
                found |= {start + suffix: 0.0 for suffix in ('', '_50', '_75')}
    return found


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
    changed = _changed(record, wanted)
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


def _start(run: _Run, places: _Places, environment: dict[str, str]) -> subprocess.Popen:
    """Start or resume a training in a new process, with its own group of processes."""
    _print(f'{run.number} {run.name}: {"resumes" if run.kept else "starts"} in {run.folder}')
    _write(run.folder, run.record)
    config, processes = run.record['config'], run.record['processes']
    flags = ['--work-dir', str(run.folder), '--seed', str(run.record['seed'])]
    flags += [*(['--resume'] if run.kept else []), *run.record['flags']]
    if places.partition is not None:
        name = f'{Path(config).stem}_{run.record["seed"]}'
        command = [places.tools / 'slurm_train.sh', places.partition, name, config, *flags]
    elif processes == 1:
        command = [sys.executable, places.tools / 'train.py', config, *flags]
    else:
        command = [places.tools / 'dist_train.sh', config, str(processes), *flags]

    def start(stdout, stderr=None):
        # The system kills it when the thread ends that started it: all start in the main thread.
        return subprocess.Popen(
            command,
            env={**os.environ, **environment, 'PYTHON': sys.executable},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
        )

    if not places.own_output:
        return start(sys.stderr)  # stdout is for the table
    with (run.folder / OUTPUT).open('ab') as file:
        return start(file, subprocess.STDOUT)


def _end(children: list[subprocess.Popen]) -> None:
    """End trainings: they must not keep training in folders that seem free."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + END_SECONDS
    for child in children:
        try:
            child.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _figures(log: TrainingLog, run: str, without_boxes: dict[str, float]) -> dict:
    """Return the metrics of the last and the best validation of a training."""
    found = [
        (line['step'], {name: value for name, value in line.items() if name not in NOT_METRICS})
        for line in log.val
    ]
    last = found[-1][1] if log.ends_with_val else None
    if last == {} and without_boxes:
        _print(f'{run}: the last validation found no boxes, AP 0')
        last = without_boxes
    if not last:
        raise UserError(
            f'{run}: the log has no metrics after the last {unit(log.train)}: its last validation '
            'was stopped, or its metric gave none; remove the folder to train it again'
        )
    found[-1] = found[-1][0], last
    preferred = (name for name in last if name.split('/')[-1] in PREFERRED)
    first = next(preferred, next(iter(last)))
    scores = [(of.get(first, math.nan), step, of) for step, of in found]
    scores = [score for score in scores if math.isfinite(score[0])]
    _, step, best = max(scores or [(0, *found[-1])], key=lambda score: score[0])
    counted = unit(log.train)
    return {
        f'{counted}s': trained_for(log.train),
        'last': last,
        f'best_{counted}': step,
        'best': best,
    }


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
