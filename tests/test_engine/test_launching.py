"""The launchers, as a user types them: processes, nodes, interruption, resuming."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from tests.conftest import MINI_SB, ROOT, TINY

pytest.importorskip('mmdet')


@pytest.fixture(scope='module')
def trained(run_tool, tmp_path_factory):
    """A work directory after one epoch on two processes, started from another folder."""
    cwd = tmp_path_factory.mktemp('elsewhere')
    done = run_tool(
        ROOT / 'tools/dist_train.sh',
        ROOT / MINI_SB,
        2,
        '--seed',
        0,
        '--cfg-options',
        *TINY,
        cwd=cwd,
    )
    return cwd / 'work_dirs' / 'faster_rcnn_sb_r18_fpn_mini_coco', done


def test_two_processes_train_and_evaluate(trained):
    work_dir, done = trained
    assert (work_dir / 'epoch_1.pth').is_file()
    assert 'coco/bbox_mAP_50' in done.stdout
    assert '[1][2/2]' in done.stdout  # 8 images, 2 processes x 2


def test_learning_rate_is_warned_about(trained):
    # the base batch is 8, this one 2 x 2
    warning = 'the batch is 2 x 2 = 4, but the learning rate 0.002 is for 8'
    assert warning in trained[1].stdout + trained[1].stderr
    assert 'it should be 0.001' in trained[1].stdout + trained[1].stderr


def test_processes_stay_equal(trained):
    # what DDP averaged on both processes is one set of finite weights
    state = torch.load(trained[0] / 'epoch_1.pth', weights_only=False)['state_dict']
    assert all(t.isfinite().all() for t in state.values() if t.is_floating_point())


def test_dist_test_writes_what_it_is_asked_for(trained, run_tool, tmp_path):
    work_dir, _ = trained
    out, metrics, show = (tmp_path / name for name in ('p.pkl', 'metrics.json', 'show'))
    run_tool(
        'tools/dist_test.sh', MINI_SB, work_dir / 'epoch_1.pth', 2, '--work-dir', tmp_path / 'work',
        '--out', out, '--metrics-out', metrics, '--show-dir', show,
    )  # fmt: skip
    predictions = pickle.loads(out.read_bytes())
    assert len(predictions) == 4  # all of both processes, none twice
    assert len({p['img_id'] for p in predictions}) == 4
    assert 0 <= json.loads(metrics.read_text())['coco/bbox_mAP'] <= 1
    assert len(list(show.glob('*.jpg'))) == 4


def test_tta(trained, run_tool, tmp_path):
    work_dir, _ = trained
    metrics = tmp_path / 'metrics.json'
    run_tool(
        sys.executable, 'tools/test.py', MINI_SB, work_dir / 'epoch_1.pth', '--work-dir',
        tmp_path / 'work', '--tta', '--metrics-out', metrics,
    )  # fmt: skip
    assert 'coco/bbox_mAP' in json.loads(metrics.read_text())


def test_two_nodes_train_together(run_tool, mini_coco, tmp_path):
    """Two dist_train.sh with NNODES=2 on this machine; both see the other."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    nodes = []
    for rank in range(2):
        env = {**os.environ, 'NNODES': '2', 'NODE_RANK': str(rank), 'MASTER_ADDR': '127.0.0.1',
               'PORT': str(port), 'PYTHON': sys.executable, 'MMSB_COCO_ROOT': str(mini_coco),
               'CUDA_VISIBLE_DEVICES': ''}  # fmt: skip
        command = ['tools/dist_train.sh', MINI_SB, '1', '--work-dir', str(tmp_path / f'node{rank}'),
                   '--no-validate', '--cfg-options', *TINY]  # fmt: skip
        nodes.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
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
    env = {**os.environ, 'PYTHON': sys.executable, 'MMSB_COCO_ROOT': str(mini_coco),
           'CUDA_VISIBLE_DEVICES': ''}  # fmt: skip
    process = subprocess.Popen([*command, *options], cwd=ROOT, env=env, text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    deadline = time.monotonic() + 200
    while not (tmp_path / 'last_checkpoint').is_file():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert 'stopped: checkpoints are in the work directory, --resume continues' in stderr
    last = (tmp_path / 'last_checkpoint').read_text()
    epoch = torch.load(last, weights_only=False)['meta']['epoch']
    assert epoch >= 1

    options[-1] = f'train_cfg.max_epochs={epoch + 1}'
    done = run_tool(*command[:-1], '--resume', '--cfg-options', *options)
    assert f'resumed epoch: {epoch}' in done.stdout
    assert (tmp_path / f'epoch_{epoch + 1}.pth').is_file()
