"""Kill trainings at random moments, resume them, and compare with trainings that ran through.

    python benchmarks/kills.py OUT [--kills 50] [--tasks detection ...] [--workers 0 2]

Each task trains a small model on a synthetic miniature, on one CPU process. One training runs
through; then each of the others is ended by SIGKILL at a random moment of its time, and resumed by
``tools/train.py --resume`` (or started again if it had no checkpoint yet). It counts as equal if
the last checkpoint's weights, optimizer and schedulers, the metrics of the last validation and the
names of all checkpoints are those of the training that ran through, to the bit.

Everything is in OUT: the data, the table ``kills.json``, and the folder of each training that
differs. Trainings are forked from this process, which has imported the toolboxes: that saves 10 s.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')

import mmengine.runner.runner
import torch

from mmsb.datasets.miniatures.ade20k import make_mini_ade20k
from mmsb.datasets.miniatures.coco import make_mini_coco
from mmsb.datasets.miniatures.imagenet import make_mini_imagenet
from mmsb.engine import train
from mmsb.engine.arguments import parse_train_args
from mmsb.engine.checkpointing import LAST
from mmsb.engine.training_log import read_log
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_checkpoint_file

ROOT = Path(__file__).resolve().parents[1]
COMPARED = ('state_dict', 'optimizer', 'param_schedulers')

# Each draws random numbers in its data and in its model, validates in between, keeps one checkpoint
# and writes one after almost every step: many kills hit the writing of a checkpoint.
CONFIGS = dict(
    classification="""
_base_ = '{root}/configs/mini/sb_resnet18_mini_in1k.py'
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    head=dict(in_channels=64),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.2), dict(type='CutMix', alpha=1.0)]))
train_dataloader = dict(batch_size=12, num_workers={workers})
val_dataloader = dict(num_workers={workers})
train_cfg = dict(max_epochs=5, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1, save_best='auto'))
""",
    detection="""
_base_ = '{root}/configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py'
model = dict(test_cfg=dict(rcnn=dict(score_thr=-1.0)))
train_dataloader = dict(batch_size=4, num_workers={workers})
val_dataloader = dict(num_workers={workers})
train_cfg = dict(max_epochs=4, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
""",
    segmentation="""
_base_ = '{root}/configs/mini/fpn_sb_r18_mini_ade20k.py'
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    decode_head=dict(in_channels=[16] * 4, channels=16, dropout_ratio=0.1))
train_dataloader = dict(batch_size=2, num_workers={workers})
val_dataloader = dict(num_workers={workers})
train_cfg = dict(max_iters=12, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1, save_best='mIoU'))
""",
    longrange="""
_base_ = '{root}/configs/longrange/fcn_sb_r14_600_longrange-row.py'
model = dict(decode_head=dict(dropout_ratio=0.1))
param_scheduler = dict(type='OneCycleLR', eta_max=3e-3, total_steps=16, by_epoch=False)
train_dataloader = dict(batch_size=4, num_workers={workers})
val_dataloader = dict(batch_size=4, num_workers={workers}, dataset=dict(num_images=8))
train_cfg = dict(max_iters=16, val_interval=6)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(
    interval=1, max_keep_ckpts=1, save_optimizer=True, save_param_scheduler=True))
""",
)


def make_data(folder: Path) -> None:
    """Make the miniatures and set the variables that the configs read."""
    small = dict(num_workers=1)
    make_mini_imagenet(folder / 'imagenet', num_train=1, num_val=1, size=(64, 64), **small)
    make_mini_coco(folder / 'coco', num_train=8, num_val=4, size=(96, 128), **small)
    make_mini_ade20k(folder / 'ade20k', num_train=8, num_val=4, size=(96, 128), **small)
    for name in ('imagenet', 'coco', 'ade20k'):
        os.environ[f'MMSB_{name.upper()}_ROOT'] = str(folder / name)


def start(config: Path, work_dir: Path, *flags: str) -> int:
    """Start a training in a process of its own and return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = os.open(f'{work_dir}.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        torch.set_num_threads(1)
        mmengine.runner.runner.collect_env = dict  # takes a second, only for the log
        # without --seed: the seed that a run drew is its own after resuming too
        train(parse_train_args([str(config), '--work-dir', str(work_dir), *flags]))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(config: Path, work_dir: Path, *flags: str) -> tuple[float, float]:
    """Train to the end; return the seconds until the first checkpoint and until the end."""
    began, first = time.monotonic(), None
    pid = start(config, work_dir, *flags)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if first is None and (work_dir / LAST).is_file():
            first = time.monotonic() - began
        if ended:
            break
        time.sleep(0.01)
    if status:
        raise UserError(f'a training failed: see {work_dir}.log')
    return first, time.monotonic() - began


def result(work_dir: Path) -> dict:
    """Return what must be equal: tensors, numbers, metrics and names of checkpoints."""
    last = load_checkpoint_file(work_dir / (work_dir / LAST).read_text())
    metrics = {key: value for key, value in read_log(work_dir).val[-1].items() if 'time' not in key}
    names = sorted(path.name for path in work_dir.iterdir() if path.is_file())
    return {**{key: last[key] for key in COMPARED}, 'metrics': metrics, 'names': names}


def difference(a, b, where: str = '') -> str:
    """Return where two results differ first, '' if nowhere."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return f'{where}: {sorted(a.keys() ^ b.keys(), key=str)}'
        return next((d for k in a if (d := difference(a[k], b[k], f'{where}.{k}'))), '')
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return f'{where}: {a} and {b}'
        pairs = enumerate(zip(a, b, strict=True))
        return next((d for i, (x, y) in pairs if (d := difference(x, y, f'{where}.{i}'))), '')
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and torch.equal(a, b)
        return '' if same else f'{where}: {int((a != b).sum())} of {a.numel()} numbers'
    return '' if a == b or (a != a and b != b) else f'{where}: {a} and {b}'


def kill(
    task: str, workers: int, kills: int, out: Path, rng: random.Random, seed: int = 0
) -> dict[str, int | str]:
    """Kill and resume trainings of one task.

    Args:
        task: A key of `CONFIGS`.
        workers: Data-loading workers.
        kills: Number of trainings to kill, once each.
        out: The folder that the trainings are in.
        rng: Draws the moments.
        seed: Seed of the trainings. Defaults to 0.

    Returns:
        A row of the table: ``kills``, ``equal``, ``without_checkpoint`` (killed before the first
        one), ``cut_short`` (a checkpoint was being written) and the ``first_difference``.
    """
    # imported once, before the first fork
    toolbox = dict(classification='mmpretrain', detection='mmdet').get(task, 'mmseg')
    importlib.import_module(f'{toolbox}.apis')
    out = out / f'{task}_{workers}'
    out.mkdir(parents=True, exist_ok=True)
    config = out / f'{task}.py'
    config.write_text(CONFIGS[task].format(root=ROOT, workers=workers))
    flags = ('--seed', str(seed))
    run(config, out / 'whole', *flags)
    first, end = run(config, out / 'again', *flags)  # warm now
    whole = result(out / 'whole')
    row = dict(task=task, workers=workers, kills=0, equal=0, without_checkpoint=0, cut_short=0)
    row['first_difference'] = difference(whole, result(out / 'again'), 'no kill')
    for number in range(3 * kills):
        if row['kills'] == kills:
            break
        work_dir = out / f'kill_{number}'
        pid = start(config, work_dir, *flags)
        if rng.random() < 0.1:
            time.sleep(rng.uniform(0, first))
        else:  # on a busy machine, time alone does not tell how far a training is
            while not (work_dir / LAST).is_file():
                time.sleep(0.001)
            time.sleep(rng.uniform(0, end - first))
        os.kill(pid, signal.SIGKILL)
        if os.waitpid(pid, 0)[1] == 0:  # it had ended
            shutil.rmtree(work_dir)
            continue
        row['kills'] += 1
        found = (work_dir / LAST).is_file()
        row['without_checkpoint'] += not found
        row['cut_short'] += any(work_dir.glob('.*.part'))
        # a user need not give the seed again
        run(config, work_dir, *(['--resume'] if found else flags))
        differs = difference(whole, result(work_dir))
        row['equal'] += not differs
        if differs:
            row['first_difference'] = row['first_difference'] or f'{work_dir.name}{differs}'
        else:
            shutil.rmtree(work_dir)
    return row


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument('--kills', type=int, default=50, help='per task and number of workers')
    parser.add_argument('--tasks', nargs='+', default=list(CONFIGS), choices=CONFIGS)
    parser.add_argument('--workers', nargs='+', type=int, default=[0, 2])
    parser.add_argument('--seed', type=int, default=0, help='of trainings and moments')
    args = parser.parse_args(argv)
    make_data(args.out / 'data')
    rows = []
    for task in args.tasks:
        for workers in args.workers:
            rng = random.Random(f'{args.seed} {task} {workers}')
            rows.append(kill(task, workers, args.kills, args.out, rng, args.seed))
            print(json.dumps(rows[-1]), flush=True)
            (args.out / 'kills.json').write_text(json.dumps(rows, indent=1) + '\n')
    return int(any(row['equal'] != row['kills'] or row['first_difference'] for row in rows))


if __name__ == '__main__':
    sys.exit(main())
