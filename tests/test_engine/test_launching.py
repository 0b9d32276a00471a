"""The launchers, as a user types them: processes, nodes, interruption, resuming."""

import json
import os
import pickle
import re
import shlex
import signal
import socket
import subprocess
import time

import pytest
import torch
from pytest import approx

from mmsb.engine.training_log import read_log
from tests import readme
from tests.conftest import MINI_SB, ROOT, TINY, tool_environment, tracked

pytest.importorskip('mmdet')


@pytest.fixture(scope='module')
def trained(run_tool, tmp_path_factory):
    """A work directory after one epoch on two processes, started from another folder."""
    cwd = tmp_path_factory.mktemp('elsewhere')
    script = ROOT / 'tools/dist_train.sh'
    flags = ['--seed', 0, '--track', 'tensorboard', '--cfg-options', *TINY]
    done = run_tool(script, ROOT / MINI_SB, 2, *flags, cwd=cwd)
    return cwd / 'work_dirs' / 'faster_rcnn_sb_r18_fpn_mini_coco', done


def test_two_processes_train_and_evaluate(trained):
    work_dir, done = trained
    assert (work_dir / 'epoch_1.pth').is_file()
    assert 'coco/bbox_mAP_50' in done.stdout
    assert '[1][2/2]' in done.stdout  # 8 images, 2 processes x 2


def test_only_the_first_of_two_processes_tracks(trained):
    work_dir, _ = trained
    assert len(list(work_dir.glob('*/vis_data/events.*'))) == 1
    log = read_log(work_dir)
    assert tracked(work_dir)['loss'] == {line['step']: approx(line['loss']) for line in log.train}
    assert tracked(work_dir)['coco/bbox_mAP'] == {1: approx(log.val[0]['coco/bbox_mAP'])}


def test_learning_rate_is_warned_about(trained):
    # the base batch is 8, this one 2 x 2
    warning = 'the batch is 2 x 2 = 4, but the learning rate 0.002 is for 8'
    assert warning in trained[1].stdout + trained[1].stderr
    assert 'by the linear rule use 0.001' in trained[1].stdout + trained[1].stderr


def test_processes_stay_equal(trained):
    # what DDP averaged on both processes is one set of finite weights
    state = torch.load(trained[0] / 'epoch_1.pth', weights_only=False)['state_dict']
    assert all(t.isfinite().all() for t in state.values() if t.is_floating_point())


def test_tta(trained, run_here, tmp_path):
    work_dir, _ = trained
    metrics = tmp_path / 'metrics.json'
    run_here(
        'python', 'tools/test.py', MINI_SB, work_dir / 'epoch_1.pth', '--work-dir',
        tmp_path / 'work', '--tta', '--metrics-out', metrics, '--cfg-options', *TINY,
    )  # fmt: skip
    assert 'coco/bbox_mAP' in json.loads(metrics.read_text())


def test_two_nodes_train_together(mini_coco, tmp_path):
    """README's commands for two nodes, here both on this machine, with one process each."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    nodes = []
    for rank, line in enumerate((readme.command('node 0'), readme.command('node 1'))):
        line = line.replace('=node0', '=127.0.0.1').replace('=29500', f'={port}')
        line = re.sub(r'configs/\S+ 8$', f'{MINI_SB} 1', line)
        flags = [
            '--work-dir',
            str(tmp_path / f'node{rank}'),
            '--no-validate',
            '--cfg-options',
            *TINY,
        ]
        nodes.append(
            subprocess.Popen(
                f'{line} {shlex.join(flags)}',
                shell=True,
                cwd=ROOT,
                env=tool_environment(mini_coco),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [node.communicate(timeout=240)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert '[1][2/2]' in outputs[0]  # 4 steps of 2 images, shared by two nodes
    assert 'the batch is 2 x 2 = 4' in outputs[0]
    assert (tmp_path / 'node0' / 'epoch_1.pth').is_file()


def test_interrupted_then_resumed(run_tool, mini_coco, tmp_path):
    """SIGINT in the middle of the second epoch: the first one's checkpoint is whole."""
    options = [*TINY, 'train_cfg.max_epochs=60']
    command = [str(ROOT / 'tools/dist_train.sh'), MINI_SB, '2', '--work-dir', str(tmp_path),
               '--no-validate', '--cfg-options']  # fmt: skip
    process = subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env=tool_environment(mini_coco),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not (tmp_path / 'last_checkpoint').is_file():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert 'stopped: checkpoints are in the work directory, --resume continues' in stderr
    last = tmp_path / (tmp_path / 'last_checkpoint').read_text()
    epoch = torch.load(last, weights_only=False)['meta']['epoch']
    assert epoch >= 1

    options[-1] = f'train_cfg.max_epochs={epoch + 1}'
    done = run_tool(*command[:-1], '--resume', '--cfg-options', *options)
    assert f'resumed epoch: {epoch}' in done.stdout
    assert (tmp_path / f'epoch_{epoch + 1}.pth').is_file()


# A Slurm of one machine: srun starts the tasks and tells each who it is.
SRUN = """#!/usr/bin/env bash
echo "srun $*" >> "$FAKE_SLURM_LOG"
while [[ "$1" == -* ]]; do
  case "$1" in
    -p) shift 2 ;;
    --ntasks=*) tasks="${1#*=}"; shift ;;
    *) shift ;;
  esac
done
export SLURM_NTASKS=$tasks SLURM_NODELIST=localhost
for i in $(seq 0 $((tasks - 1))); do
  SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
exit ${failed:-0}
"""


@pytest.fixture
def slurm(tmp_path):
    """Environment of a machine with a fake srun and scontrol, without GPUs."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    (folder / 'srun').write_text(SRUN)
    (folder / 'scontrol').write_text('#!/bin/sh\necho 127.0.0.1\n')
    for path in folder.iterdir():
        path.chmod(0o755)
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    return dict(PATH=f'{folder}:{os.environ["PATH"]}', MASTER_PORT=port, GPUS_PER_NODE=0,
                FAKE_SLURM_LOG=tmp_path / 'srun.log')  # fmt: skip


def test_slurm(run_tool, slurm, tmp_path):
    """README's Slurm commands: two CPU tasks train, then test."""
    command = readme.command('slurm train').replace('GPUS=16', 'GPUS=2')
    command = re.sub(r'configs/\S+', MINI_SB, command)
    flags = shlex.join(['--work-dir', str(tmp_path / 'w'), '--no-validate', '--cfg-options', *TINY])
    run_tool('bash', '-c', f'{command} {flags}', **slurm)
    checkpoint = tmp_path / 'w' / 'epoch_1.pth'
    assert checkpoint.is_file()
    (line,) = (tmp_path / 'srun.log').read_text().splitlines()
    assert '-p gpu --job-name=sb_r50 --ntasks=2 --ntasks-per-node=2' in line
    assert '--gres' not in line  # there are no GPUs to ask for

    command = readme.command('slurm test').replace('GPUS=8', 'GPUS=2')
    command = re.sub(r'configs/\S+ \S+', f'{MINI_SB} {checkpoint}', command)
    metrics = tmp_path / 'metrics.json'
    command += f' --work-dir {tmp_path / "t"} --metrics-out {metrics} --cfg-options '
    run_tool('bash', '-c', command + shlex.join(TINY), **slurm)
    assert 'coco/bbox_mAP' in json.loads(metrics.read_text())


def test_slurm_asks_for_gpus(run_tool, slurm):
    slurm = dict(slurm, GPUS=16)
    del slurm['GPUS_PER_NODE']
    slurm['PYTHON'] = 'true'  # the tasks themselves do nothing
    run_tool('tools/slurm_train.sh', 'gpu', 'job', 'no.py', **slurm)
    line = slurm['FAKE_SLURM_LOG'].read_text()
    assert '--gres=gpu:8 --ntasks=16 --ntasks-per-node=8' in line


@pytest.mark.parametrize('name', ['GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK'])
def test_slurm_takes_numbers_only(run_tool, slurm, tmp_path, name):
    """bash runs the command in this value if it computes with it."""
    slurm = {**slurm, name: f'a[$(touch {tmp_path}/PWNED)]'}
    done = run_tool('tools/slurm_train.sh', 'gpu', 'job', 'no.py', check=False, **slurm)
    assert done.returncode == 2 and f'error: {name} is ' in done.stderr
    assert done.stderr.count('\n') == 1 and not (tmp_path / 'PWNED').exists()


HEADLINE_ON_CPU = [
    'model.test_cfg.rcnn.score_thr=-1.0',
    # the only changes: no download, small pictures, one short epoch
    'model.backbone.init_cfg=None',
    'train_dataloader.batch_size=2',
    'train_cfg.max_epochs=1',
    'train_dataloader.dataset.pipeline.2.scale=(96,64)',
    'val_dataloader.dataset.pipeline.1.scale=(96,64)',
    'test_dataloader.dataset.pipeline.1.scale=(96,64)',
]


def test_headline_commands(run_tool, run_here, tmp_path):
    """README's commands for COCO, on the miniature."""
    options = shlex.join(['--work-dir', str(tmp_path), '--cfg-options', *HEADLINE_ON_CPU])
    done = run_tool('bash', '-c', f'{readme.command("train sb")} {options}')
    assert 'coco/bbox_mAP' in done.stdout
    command = readme.command('test sb')
    checkpoint = 'work_dirs/faster_rcnn_sb_r50_fpn_1x_coco/epoch_12.pth'
    assert checkpoint in command
    command = command.replace(checkpoint, str(tmp_path / 'epoch_1.pth'))
    command = command.replace('predictions.pkl', str(tmp_path / 'predictions.pkl'))
    run_tool('bash', '-c', f'{command} {options}')
    predictions = pickle.loads((tmp_path / 'predictions.pkl').read_bytes())
    assert len({p['img_id'] for p in predictions}) == len(predictions) == 4  # of both processes

    command = readme.command('draw predictions').replace(checkpoint, str(tmp_path / 'epoch_1.pth'))
    command = command.replace('--show-dir drawn', f'--show-dir {tmp_path / "drawn"}')
    run_here(*shlex.split(f'{command} {options}'))
    assert len(list((tmp_path / 'drawn').glob('*.jpg'))) == 4


@pytest.mark.parametrize('line', [readme.command('train baseline'), readme.command('train on 8')])
def test_other_training_commands(run_tool, tmp_path, line):
    """Their arguments are understood: they stop only at the data, which is not there."""
    line = re.sub(r' 8 --cfg', ' 1 --cfg', line)
    line = line if '--cfg-options' in line else re.sub(r' 2$', ' 1 --cfg-options', line)
    command = f'{line} model.backbone.init_cfg=None work_dir={tmp_path / "w"}'
    done = run_tool('bash', '-c', command, check=False, MMSB_COCO_ROOT=tmp_path / 'nowhere')
    assert done.returncode == 2
    assert 'nowhere/annotations/instances_train2017.json does not exist' in done.stderr
