import importlib
import pkgutil

import pytest
import torch

import mmsb.ops

FLOAT64 = torch.float64


def random_tensor(*shape, seed=0, dtype=torch.float32, device='cpu'):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=FLOAT64).to(device, dtype)


def sample_cells(maps, y, x):
    """Bilinear values of ``maps`` (B, C, H, W) at ``y`` and ``x`` (B, ...), as mmcv defines them.

    Cells outside are 0. Within a cell the derivative is that towards the next cell; one cell
    outside or farther there is none.
    """
    height, width = maps.shape[2:]
    inside = (y > -1) & (y < height) & (x > -1) & (x < width)
    image = torch.arange(len(maps), device=maps.device).reshape(-1, *[1] * (y.dim() - 1))
    top, left = y.detach().floor(), x.detach().floor()
    total = 0
    for row, by_row in ((top, top + 1 - y), (top + 1, y - top)):
        for column, by_column in ((left, left + 1 - x), (left + 1, x - left)):
            known = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            row_index, column_index = (index.where(known, 0).long() for index in (row, column))
            values = maps[image, :, row_index, column_index].movedim(-1, 1)
            total = total + values * (by_row * by_column * known).unsqueeze(1)
    return total


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
