"""Tiny models of the three tasks, with weights of no special value."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from tests.conftest import MINI_SB, ROOT

BACKBONE = 'backbone=dict(depth=18, base_channels=8, stem_channels=8)'
FPN = 'neck=dict(in_channels=[8, 16, 32, 64], out_channels=8)'
CONFIGS = dict(
    mmpretrain=(
        'configs/mini/sb_resnet18_mini_in1k.py',
        f'dict({BACKBONE}, head=dict(in_channels=64))',
    ),
    mmseg=(
        'configs/mini/fpn_sb_r18_mini_ade20k.py',
        f'dict({BACKBONE}, {FPN}, decode_head=dict(in_channels=[8] * 4, channels=8))',
    ),
    mmdet=(
        MINI_SB,
        f'dict({BACKBONE}, {FPN}, rpn_head=dict(in_channels=8, feat_channels=8))',
    ),
)


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
    """Makes a config of a toolbox and its checkpoint: their paths."""
    made = {}

    def make(scope: str, name: str = 'tiny', **backbone) -> tuple[str, str]:
        if (scope, name) not in made:
            base, model = CONFIGS[scope]
            folder = tmp_path_factory.mktemp(f'{scope}_{name}')
            path = folder / f'{name}.py'
            path.write_text(
                f'_base_ = {str(ROOT / base)!r}\nmodel = {model}\n'
                f'model["backbone"].update({backbone!r})\n'
            )
            cfg = Config.fromfile(path)
            torch.manual_seed(0)
            with DefaultScope.overwrite_default_scope(scope):
                network = MODELS.build(cfg.model)
            network.init_weights()
            for key, value in network.state_dict().items():
                if key.endswith('running_var'):
                    value.uniform_(0.5, 2)
                elif key.endswith(('running_mean', 'bias', 'bn1.weight', 'bn2.weight')):
                    value.normal_(std=0.5)
            meta = dict(dataset_meta=dict(classes=['first', 'second']))
            torch.save(dict(state_dict=network.state_dict(), meta=meta), folder / f'{name}.pth')
            made[scope, name] = str(path), str(folder / f'{name}.pth')
        return made[scope, name]

    return make
