"""Tiny models of the three tasks, with weights of no special value."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmsb.datasets.miniatures.ade20k import make_mini_ade20k
from mmsb.datasets.miniatures.imagenet import make_mini_imagenet
from mmsb.deployment.exporting import export
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

    def make(scope: str, name: str = 'tiny', head: dict | None = None, **backbone):
        if (scope, name) not in made:
            base, model = CONFIGS[scope]
            folder = tmp_path_factory.mktemp(f'{scope}_{name}')
            path = folder / f'{name}.py'
            path.write_text(
                f'_base_ = {str(ROOT / base)!r}\nmodel = {model}\n'
                f'model["backbone"].update({backbone!r})\n'
                f'model.get("decode_head", {{}}).update({head or {}!r})\n'
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
            if scope == 'mmseg' and not head:  # classes that the miniature has
                network.decode_head.conv_seg.bias.data[:20] += 5
            meta = dict(dataset_meta=dict(classes=['first', 'second']))
            torch.save(dict(state_dict=network.state_dict(), meta=meta), folder / f'{name}.pth')
            made[scope, name] = str(path), str(folder / f'{name}.pth')
        return made[scope, name]

    return make


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """Where the configs read a drawn ImageNet of 72 and ADE20K of 3 validation images."""
    folder = tmp_path_factory.mktemp('data')
    make_mini_imagenet(folder / 'imagenet', num_train=1, num_val=2)
    make_mini_ade20k(folder / 'ade20k', num_train=1, num_val=3, size=(64, 96))
    return dict(mmpretrain=str(folder / 'imagenet'), mmseg=str(folder / 'ade20k'))


@pytest.fixture(scope='session')
def exported(tiny, tmp_path_factory):
    """Makes the ONNX file of a tiny model, of any size or for single images of 64 x 96."""
    made = {}

    def make(scope: str, dynamic: bool = True) -> str:
        if (scope, dynamic) not in made:
            out = tmp_path_factory.mktemp('onnx') / f'{scope}.onnx'
            shape = (96, 96) if scope == 'mmpretrain' else (64, 96)
            export(*tiny(scope), out=out, shape=shape, dynamic=dynamic)
            made[scope, dynamic] = str(out)
        return made[scope, dynamic]

    return make
