"""Weights that are NaN give one line, wherever they are used."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import save_checkpoint

from mmsb.checkpoints.publishing import publish_checkpoint
from mmsb.engine.config import read_config
from mmsb.engine.resumable import ResumableRunner
from mmsb.inference.loading import load_model
from mmsb.models import SBResNet, fuse_spatial_bias
from tests.conftest import assert_one_line


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr('mmsb.utils.finite.print_log', lambda text, *_: lines.append(text))
    return lines


class Wrapped(torch.nn.Module):
    """A model that a runner and a config can build."""

    def __init__(self):
        super().__init__()
        self.backbone = SBResNet(18, base_channels=8, stem_channels=8)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1.0])
def test_one_warning_each(said, tmp_path, monkeypatch, value):
    from mmengine.registry import MODELS

    monkeypatch.setitem(MODELS._module_dict, 'Wrapped', Wrapped)
    model = Wrapped()
    model.state_dict()['backbone.layer2.0.bn1.running_mean'][3] = value
    path = str(tmp_path / 'x.pth')
    save_checkpoint(dict(state_dict=model.state_dict(), meta={}), path)
    runner = ResumableRunner(Wrapped(), str(tmp_path), experiment_name='finite')
    uses = [
        lambda: fuse_spatial_bias(model.eval()),
        lambda: publish_checkpoint(path, tmp_path / 'published.pth'),
        lambda: load_model(Config(dict(model=dict(type='Wrapped'))), path),
        lambda: runner.load_checkpoint(path),
    ]
    for use in uses:
        use()
        assert len(said) == (value != 1), use
        assert all('backbone.layer2.0.bn1.running_mean' in line for line in said)
        said.clear()
    fuse_spatial_bias(model)  # again
    assert not said


def test_images_are_not_divided_by_zero(root):
    config = root / 'configs/mini/sb_resnet18_mini_in1k.py'
    options = {'model.data_preprocessor.std': [0, 0, 0]}
    assert_one_line(
        lambda: read_config(config, options), 'model.data_preprocessor: std is [0, 0, 0]'
    )
    read_config(config, {'model.data_preprocessor.std': [1, 1, 1]})
