"""``python -m mmsb.check_env`` in whole and broken environments."""

import shlex
import subprocess
import sys
from importlib import metadata

import pytest

from mmsb import ops
from mmsb.utils import environment
from tests import readme
from tests.conftest import ROOT


def found(**distributions):
    return {name: distributions.get(name, {}) for name in environment.PACKAGES}


def test_readmes_command():
    command = shlex.split(readme.command('check_env'))
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert 'mmcv operators' in done.stdout and metadata.version('torch') in done.stdout
    assert ('problem:' in done.stdout) == bool(done.returncode)


def test_stack():
    onedl = dict(mmcv={'onedl-mmcv': '2.3.6'}, mmdet={'onedl-mmdetection': '3.5.1'})
    assert environment.stack_of(found(**onedl)) == 'onedl'
    openmmlab = dict(mmcv={'mmcv-lite': '2.1.0'}, mmengine={'mmengine': '0.10.7'})
    assert environment.stack_of(found(**openmmlab)) == 'openmmlab'
    assert environment.stack_of(found(**{**onedl, 'mmengine': {'mmengine': '0.10.7'}})) == 'mixed'
    assert environment.stack_of(found()) == 'none'


def test_missing_toolbox(monkeypatch):
    original = environment._import_error
    monkeypatch.setattr(environment, '_import_error', lambda name: (
        'ModuleNotFoundError' if name == 'mmseg' else original(name)))  # fmt: skip
    find_spec = environment.importlib.util.find_spec
    monkeypatch.setattr(environment.importlib.util, 'find_spec', lambda name, *args: (
        None if name == 'mmseg' else find_spec(name, *args)))  # fmt: skip
    env = environment.inspect(ops.status)
    rows = dict(env.rows)
    assert rows['segmentation'].startswith('needs mmseg: pip install')
    assert 'segmentation' not in env.tasks


def test_two_distributions(monkeypatch):
    original = environment.installed
    both = {'onedl-mmcv': '2.3.6', 'mmcv-lite': '2.1.0'}
    monkeypatch.setattr(environment, 'installed', lambda names: (
        both if 'mmcv' in names else original(names)))  # fmt: skip
    problems = dict(environment.inspect(ops.status).problems)
    line = problems['two distributions provide mmcv and overwrite each other']
    assert line.startswith('pip uninstall -y onedl-mmcv mmcv-lite && pip install ')


@pytest.mark.parametrize('missing', ['mmengine', 'mmcv', 'torchvision'])
def test_runs_where_mmsb_cannot_be_imported(missing):
    """As ``python -m`` does, with one package gone."""
    code = (
        f'import sys, runpy; sys.modules[{missing!r}] = None; '
        "sys.orig_argv[1:] = ['-m', 'mmsb.check_env']; "
        "runpy.run_module('mmsb.check_env', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    assert 'Traceback' not in done.stderr
    assert f'problem: {missing} ' in done.stdout and 'type: pip install' in done.stdout
