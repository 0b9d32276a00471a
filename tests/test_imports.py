"""What ``import mmsb`` does and does not do."""

import subprocess
import sys

from tests.conftest import ROOT


def python(code):
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_toolbox_is_imported():
    code = 'import sys, mmsb; print([n for n in sys.modules if n in %r])'
    assert python(code % (('mmdet', 'mmseg', 'mmpretrain'),)).strip() == '[]'


def test_no_module_of_ours_imports_a_toolbox_at_import():
    """Also the modules that ``import mmsb`` leaves out: engine, datasets, checkpoints, ..."""
    code = """
import pkgutil, importlib, sys, mmsb
for module in pkgutil.walk_packages(mmsb.__path__, 'mmsb.'):
    if module.name not in ('mmsb.ops.mmcv_ext._ext',):
        importlib.import_module(module.name)
print([n for n in sys.modules if n in ('mmdet', 'mmseg', 'mmpretrain')])
"""
    assert python(code).strip().splitlines()[-1] == '[]'


def test_models_know_nothing_of_what_uses_them():
    code = """
import sys, mmsb.models
print([n for n in sys.modules if n.startswith(('mmsb.datasets', 'mmsb.engine', 'mmsb.analysis'))])
"""
    assert python(code).strip() == '[]'


def test_a_missing_part_is_named_with_the_way_out():
    code = """
import sys
sys.modules['mmengine'] = None
try:
    import mmsb
except ImportError as error:
    print(error)
"""
    out = python(code)
    assert 'mmengine' in out and 'python -m mmsb.check_env' in out


def test_scoped_name_needs_no_import():
    code = """
import sys
from mmengine.registry import MODELS
print(type(MODELS.build(dict(type='mmsb.SBResNet', depth=18, base_channels=8))).__name__)
"""
    assert python(code).strip().splitlines()[-1] == 'SBResNet'
