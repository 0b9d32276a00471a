"""What mmsb.ops adds to mmcv, on stand-ins for mmcv itself, and on the real one."""

import importlib
import importlib.util
import sys
import types

import pytest

from mmsb.ops import EXT_FOLDER, install, status


@pytest.fixture
def fake_mmcv(monkeypatch, tmp_path):
    """An empty package in place of mmcv; a file ``_ext.py`` in its folder counts as compiled."""
    package = types.ModuleType('mmcv')
    package.__path__ = [str(tmp_path)]
    real_ext = sys.modules.pop('mmcv._ext', None)
    monkeypatch.setitem(sys.modules, 'mmcv', package)
    yield package
    sys.modules.pop('mmcv._ext', None)
    if real_ext is not None:
        sys.modules['mmcv._ext'] = real_ext


def write_ext(package, text):
    with open(f'{package.__path__[0]}/_ext.py', 'w') as file:
        file.write(text)
    importlib.invalidate_caches()


def test_served_where_not_compiled(fake_mmcv):
    assert install() == install() == ('torchvision', str(EXT_FOLDER / '_ext.py'), None)
    assert fake_mmcv.__path__.count(str(EXT_FOLDER)) == 1
    assert 'mmcv._ext' not in sys.modules, 'installing must stay cheap'
    ext = importlib.import_module('mmcv._ext')
    assert ext.__spec__.origin == ext.__file__ == str(EXT_FOLDER / '_ext.py')
    assert status() == install()


def test_compiled_is_kept(fake_mmcv):
    write_ext(fake_mmcv, "origin = 'compiled'")
    assert status().kind == install().kind == 'compiled'
    assert str(EXT_FOLDER) not in fake_mmcv.__path__
    assert importlib.import_module('mmcv._ext').origin == 'compiled'


def test_compiled_wins_when_it_comes_later(fake_mmcv):
    assert install().kind == 'torchvision'
    write_ext(fake_mmcv, "origin = 'compiled'")
    assert importlib.import_module('mmcv._ext').origin == 'compiled'
    assert status().kind == 'compiled'


def test_broken_compiled_is_reported_not_replaced(fake_mmcv):
    write_ext(fake_mmcv, "raise ImportError('undefined symbol: _ZN3c10')")
    state = status()
    assert state.kind == 'compiled'
    assert 'undefined symbol' in state.error and 'undefined symbol' in str(state)
    with pytest.raises(ImportError, match='undefined symbol'):
        importlib.import_module('mmcv._ext')


def test_mmcv_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv', None)
    assert status() == install() == ('missing mmcv', None, None)


def test_failure_inside_mmcv_is_not_absence(monkeypatch, tmp_path):
    (tmp_path / 'mmcv.py').write_text('import a_library_that_mmcv_lacks')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmcv', raising=False)
    with pytest.raises(ModuleNotFoundError, match='a_library_that_mmcv_lacks'):
        install()


def test_real_mmcv_and_mmengine_see_it():
    mmcv_utils = pytest.importorskip('mmcv.utils')
    from mmengine.model import revert_sync_batchnorm
    from torch import nn

    state = status()
    assert state.error is None
    assert importlib.util.find_spec('mmcv._ext').origin == state.origin
    model = revert_sync_batchnorm(nn.Sequential(nn.SyncBatchNorm(2)))
    assert not isinstance(model[0], nn.SyncBatchNorm)
    compiler = mmcv_utils.collect_env()['MMCV Compiler']
    assert ('mmsb.ops' in compiler) == (state.kind == 'torchvision')


def test_unserved_operator_fails_when_called(ops):
    import torch

    boxes = torch.ones(1, 5)
    with pytest.raises(NotImplementedError, match=r'min_area_polygons.*mim install mmcv'):
        ops.min_area_polygons(boxes)
    with pytest.raises(NotImplementedError, match=r"pool_mode='max'.*MMCV_WITH_OPS=1"):
        ops.roi_align(torch.ones(1, 1, 4, 4), boxes, 2, 1.0, 0, 'max', True)


def test_only_operator_names_are_answered():
    ext = importlib.import_module('mmsb.ops.mmcv_ext._ext')
    assert callable(ext.any_operator)
    for name in ('__path__', '__wrapped__', '_private'):
        assert not hasattr(ext, name)
