"""benchmarks/gpu_all.sh runs through on a stand-in for a GPU: no GPU is needed to find a typo."""

import importlib
import json
import pkgutil
import re
import runpy
import subprocess
import sys

import pytest
import torch

import mmsb.models.kernels
from tests.conftest import tool_environment

SCRIPT = 'benchmarks/gpu_all.sh'


def run(root, *args, **env):
    env = tool_environment('', **env)
    return subprocess.run(
        [root / SCRIPT, *map(str, args)], env=env, capture_output=True, text=True, timeout=900
    )


def kernel_names():
    """Every Triton kernel of the package."""
    names = set()
    for module in pkgutil.iter_modules(mmsb.models.kernels.__path__):
        if not module.name.endswith('_cpu'):
            found = vars(importlib.import_module(f'mmsb.models.kernels.{module.name}'))
            names |= {name for name in found if name.endswith('_kernel')}
    return names


def test_dry_run(root, tmp_path):
    pytest.importorskip('triton', minversion='3.2')
    pytest.importorskip('mmdet')
    done = run(root, tmp_path, 800, MMSB_DRY=1)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    said = (done.stdout + done.stderr).replace('do not compute plugins', '')  # SE and GC
    assert 'than in kernels:' not in said and 'do not compute' not in said
    (line,) = re.findall(r'^kernels: (.*)$', done.stdout, re.M)
    assert set(re.findall(r'(\w+) \d+', line)) == kernel_names()
    sys.path.insert(0, str(root / 'benchmarks'))
    try:
        script = runpy.run_path(str(root / 'benchmarks' / 'gpu_all.py'))
    finally:
        sys.path.pop(0)
    names = [name for name in script['RUNS'] if name not in script['NOT_DRY']]
    files = {path.name for path in tmp_path.iterdir()}
    suffixed = {f'{n}.csv' if n.endswith('operators') else f'{n}.json' for n in names}
    assert suffixed - {'kernels.json'} | {'kernels_bf16.json'} <= files
    first = json.loads((tmp_path / 'training_bf16.json').read_text())['comparisons'][0]
    assert [network['name'] for network in first['networks']] == ['ResNet-50', 'SB', 'stock']


def test_stops_at_the_limit(root, tmp_path):
    pytest.importorskip('triton', minversion='3.2')
    done = run(root, tmp_path, MMSB_DRY=1, MMSB_LIMIT=3)
    assert done.returncode == 0
    assert re.search(
        r'^stopped after 3 s, not finished: training_bf16, .*, kernels$', done.stderr, re.M
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_needs_a_gpu(root, tmp_path):
    done = run(root, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('error: there is no GPU')
    assert 'Traceback' not in done.stderr
