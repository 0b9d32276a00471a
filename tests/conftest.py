"""What several tests share: the repository's root, a tiny COCO, running the tools."""

import io
import os
import random
import runpy
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

# The suite runs one process a core; torch's threads would only fight for them.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch

# Before Triton is imported: here and not in a hook, as another conftest.py may be loaded earlier
# than hooks run.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

ROOT = Path(__file__).resolve().parents[1]
# Settings that make a training of the mini detector take seconds.
TINY = [
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=1',
    # a detector after one epoch finds nothing, and COCO's metric of nothing is empty
    'model.test_cfg.rcnn.score_thr=-1.0',
]
MINI_SB = 'configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py'


def assert_one_line(make, message: str) -> None:
    """``make()`` is refused with a :class:`UserError` of one line that holds the message."""
    from mmsb.utils.errors import UserError

    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def tracked(work_dir: Path) -> dict[str, dict[int, float]]:
    """Values by name and step in a work directory's TensorBoard files, read by TensorBoard."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    found = {}
    for path in sorted(work_dir.glob('*/vis_data/events.out.tfevents.*')):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == 'scalars':
                    number = float(tensor_util.make_ndarray(value.tensor))
                    found.setdefault(value.tag, {})[event.step] = number
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    # Before the fixtures are made. A test that draws lucky numbers today fails one run in twenty.
    import numpy as np

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@contextmanager
def own_mmengine_globals():
    """mmengine keeps scopes, loggers, visualizers for all of a process: here, for a block."""
    from mmengine.utils import ManagerMixin

    def kinds(of=ManagerMixin):
        return {kind for below in of.__subclasses__() for kind in (below, *kinds(below))}

    before = {kind: dict(kind._instance_dict) for kind in kinds()}
    for kind in before:
        kind._instance_dict.clear()
    try:
        yield
    finally:
        for kind in kinds():
            kind._instance_dict.clear()
            kind._instance_dict.update(before.get(kind, {}))


@pytest.fixture(autouse=True)
def mmengine_globals():
    """A test neither finds nor leaves any."""
    with own_mmengine_globals():
        yield


@pytest.fixture(scope='session')
def root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def mini_coco(tmp_path_factory) -> Path:
    """A miniature COCO of 8 training and 4 validation images."""
    from mmsb.datasets.miniatures.coco import make_mini_coco

    out = tmp_path_factory.mktemp('data') / 'mini_coco'
    return make_mini_coco(out, num_train=8, num_val=4, size=(96, 128))


def tool_environment(coco: Path, **env) -> dict[str, str]:
    """Environment in which the tools run on CPU, with this Python, on a miniature."""
    return {
        **os.environ,
        'PYTHON': sys.executable,
        'MMSB_COCO_ROOT': str(coco),
        'CUDA_VISIBLE_DEVICES': '',
        **{key: str(value) for key, value in env.items()},
    }


@pytest.fixture(scope='session')
def run_tool(mini_coco):
    """Runs a command from the repository's root, or another folder, and returns it."""

    def run(*command, cwd=ROOT, check=True, timeout=300, **env):
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=tool_environment(mini_coco, **env),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f'{command} failed\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}')
        return done

    return run


@pytest.fixture(scope='session')
def run_here(mini_coco):
    """As `run_tool`, for ``[NAME=VALUE] python SCRIPT ...``, in this process.

    It has imported the toolboxes already, which takes 10 s.
    """

    def run(*command, cwd=ROOT, check=True, **env):
        words = [str(part) for part in command]
        while words[0] != 'python':
            name, _, env[name] = words.pop(0).partition('=')
        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            own_mmengine_globals(),  # a fixture of a module or of the session isn't in a test's
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            patch.chdir(cwd)
            patch.setattr(sys, 'argv', words[1:])
            for name, value in tool_environment(mini_coco, **env).items():
                patch.setenv(name, value)
            try:
                runpy.run_path(str(ROOT / words[1]), run_name='__main__')
            except SystemExit as end:
                code = end.code or 0
        if check and code:
            raise AssertionError(f'{words} failed\n{out.getvalue()}\n{err.getvalue()}')
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    return run
