"""What several tests share: the repository's root, a tiny COCO, running the tools."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    from mmsb.errors import UserError

    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def pytest_configure():
    # The suite runs one process a core; torch's threads would only fight for them.
    os.environ.setdefault('OMP_NUM_THREADS', '1')


@pytest.fixture(autouse=True)
def mmengine_globals():
    """mmengine keeps scopes and visualizers by name, for all of a process: a test leaves none."""
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    def kept():
        return [kind._instance_dict for kind in kinds]

    kinds = [DefaultScope, Visualizer, *Visualizer.__subclasses__()]
    before = [dict(instances) for instances in kept()]
    yield
    kinds += [kind for kind in Visualizer.__subclasses__() if kind not in kinds]
    before += [{}] * (len(kinds) - len(before))
    for instances, old in zip(kept(), before, strict=True):
        instances.clear()
        instances.update(old)


@pytest.fixture(scope='session')
def root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def mini_coco(tmp_path_factory) -> Path:
    """A miniature COCO of 8 training and 4 validation images."""
    from mmsb.datasets.mini_coco import make_mini_coco

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
