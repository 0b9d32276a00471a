import importlib
import pkgutil

import pytest
import torch

import mmsb.ops


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
def device(request):
    if request.param == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    return request.param


@pytest.fixture
def use_ext(monkeypatch):
    """A function that makes all of ``mmcv.ops`` call another module in place of ``mmcv._ext``."""
    pytest.importorskip('mmcv')
    mmsb.ops.install()
    package = importlib.import_module('mmcv.ops')

    def use(ext):
        for info in pkgutil.iter_modules(package.__path__, 'mmcv.ops.'):
            module = importlib.import_module(info.name)
            if hasattr(module, 'ext_module'):
                monkeypatch.setattr(module, 'ext_module', ext)

    return use


@pytest.fixture
def ops(use_ext):
    """``mmcv.ops`` on our operators, also where mmcv is compiled."""
    use_ext(importlib.import_module('mmsb.ops.mmcv_ext._ext'))
    return importlib.import_module('mmcv.ops')
