"""The launcher's group of processes: restarted when one is lost, ended with the launcher."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmsb.engine.launch import main as launch
from mmsb.engine.launch import rendezvous_args
from tests.conftest import tool_environment

# Loses rank 1 twice, then works for ever.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path

import torch.distributed as dist

from mmsb.engine.distributed import distributed

with distributed('pytorch'):
    dist.barrier()
    rank, start = dist.get_rank(), os.environ['TORCHELASTIC_RESTART_COUNT']
    Path(f'started_{start}_{rank}').write_text(' '.join(sys.argv[1:]))
    if start != '2' and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(f'pid_{start}_{rank}.part').write_text(str(os.getpid()))
    os.rename(f'pid_{start}_{rank}.part', f'pid_{start}_{rank}')
    time.sleep(600)
"""


def ended(pid: int) -> bool:
    """Whether a process ended, waited for or not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    except FileNotFoundError:
        return True


def wait_for(condition, process=None, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != 'linux', reason='the signal is Linux only')
def test_restarted_twice_then_ended_with_the_launcher(tmp_path):
    (tmp_path / 'train.py').write_text(SCRIPT)
    (tmp_path / 'config.py').write_text('')
    process = subprocess.Popen(
        [sys.executable, '-m', 'mmsb.engine.launch', 'train.py', 'config.py', '2', '--seed', '1',
         '--max-restarts', '2'],
        cwd=tmp_path,
        env=tool_environment('', PYTHONPATH=str(Path(__file__).parents[2])),
        stderr=(tmp_path / 'errors').open('w'),
    )  # fmt: skip
    try:
        wait_for(lambda: len(list(tmp_path.glob('pid_2_[01]'))) == 2, process)
        starts = sorted(path.name for path in tmp_path.glob('started_*'))
        assert starts == [f'started_{start}_{rank}' for start in (0, 1, 2) for rank in (0, 1)]
        assert (tmp_path / 'started_0_0').read_text() == 'config.py --seed 1 --launcher=pytorch'
        pids = [int(path.read_text()) for path in tmp_path.glob('pid_*')]
        assert sum(not ended(pid) for pid in pids) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: all(map(ended, pids)), seconds=5)


@pytest.mark.parametrize('flags', [['--max-restarts'], ['--max-restarts=two']])
def test_restarts_are_a_number(tmp_path, capsys, flags):
    config = tmp_path / 'config.py'
    config.write_text('')
    with pytest.raises(SystemExit) as stop:
        launch(['train.py', str(config), '2', *flags])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert '--max-restarts' in line and 'give 0 or more' in line


def test_several_nodes_tell_each_other_of_a_restart(monkeypatch):
    for name, value in dict(NNODES='2', NODE_RANK='1', PORT='29511').items():
        monkeypatch.setenv(name, value)
    assert '--rdzv_backend=c10d' in rendezvous_args(1)
    assert '--node_rank=1' in rendezvous_args()
