"""Flags into configs, for each toolbox."""

import logging

import pytest
import torch
from mmengine.config import Config, ConfigDict

from mmsb.engine import config as engine_config
from mmsb.engine.arguments import parse_test_args, parse_train_args
from mmsb.engine.distributed import prepare_for_cpu
from mmsb.toolboxes import toolbox_of
from mmsb.utils.errors import UserError


@pytest.fixture(autouse=True)
def local_rank(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')


def make(**kwargs):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
    loader = dict(batch_size=2, num_workers=0, dataset=dict(type='D', pipeline=pipeline))
    return Config(dict(dict(
        default_scope='mmdet', model=dict(type='M'), work_dir='w', train_dataloader=loader,
        val_dataloader=loader, test_dataloader=loader, val_cfg={}, test_cfg={}, val_evaluator={},
        visualizer={}, optim_wrapper=dict(type='OptimWrapper'),
        auto_scale_lr=dict(enable=False, base_batch_size=16),
        default_hooks=dict(visualization=dict(type='V'), checkpoint=dict(save_best='auto')),
    ), **kwargs))  # fmt: skip


def train_cfg(*flags, **kwargs):
    cfg = make(**kwargs)
    engine_config.apply_train_args(cfg, parse_train_args(['c.py', *flags]))
    return cfg


def test_cfg(*flags, **kwargs):
    cfg = make(**kwargs)
    engine_config.apply_test_args(cfg, parse_test_args(['c.py', 'x.pth', *flags]))
    return cfg


test_cfg.__test__ = False  # a helper, whatever its name


def test_training_flags(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = train_cfg('--seed', '3', '--auto-scale-lr', '--no-validate', '--amp',
                    '--amp-dtype', 'bfloat16', '--resume', 'x.pth')  # fmt: skip
    assert cfg.randomness == dict(seed=3)
    assert cfg.auto_scale_lr.enable is True
    assert cfg.val_cfg is None and cfg.val_dataloader is None and cfg.val_evaluator is None
    assert 'save_best' not in cfg.default_hooks.checkpoint
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='bfloat16')
    assert cfg.resume is True and cfg.load_from == 'x.pth'


def test_nothing_changes_without_flags():
    before, after = make(), train_cfg()
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert after[name].pop('persistent_workers') is False  # there are no workers
    assert after.to_dict() == before.to_dict()


def test_weights_of_the_whole_model():
    """mmengine loads what fits of ``model.init_cfg`` and only warns; ``load_from`` is checked."""
    init_cfg = dict(type='Pretrained', checkpoint='whole.pth')
    cfg = train_cfg(model=dict(type='M', init_cfg=init_cfg))
    assert cfg.load_from == 'whole.pth' and cfg.model.init_cfg is None
    cfg = train_cfg(model=dict(type='M', init_cfg=init_cfg), load_from='other.pth')
    assert cfg.load_from == 'other.pth'
    model = ConfigDict(type='ImageClassifier', pretrained='whole.pth')
    toolbox_of(dict(default_scope='mmpretrain')).set_model_defaults(model)
    assert train_cfg(model=model).load_from == 'whole.pth' and 'pretrained' not in model
    cfg = train_cfg(model=dict(type='M', init_cfg=dict(type='Normal', layer='Conv2d')))
    assert cfg.model.init_cfg.type == 'Normal' and 'load_from' not in cfg
    with pytest.raises(UserError, match=r'load_from=whole\.pth'):
        train_cfg(model=dict(type='M', init_cfg=dict(init_cfg, prefix='module')))


def test_data_loaders_of_mmpretrain():
    # its own tools/train.py gives these defaults
    cfg = train_cfg(default_scope='mmpretrain')
    assert cfg.train_dataloader.collate_fn == dict(type='default_collate')
    assert cfg.train_dataloader.pin_memory is True
    cfg = train_cfg('--no-pin-memory', default_scope='mmpretrain')
    assert cfg.train_dataloader.pin_memory is False


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_show_dir(scope, tmp_path):
    cfg = test_cfg('--show-dir', str(tmp_path), '--interval', '5', default_scope=scope)
    hook = cfg.default_hooks.visualization
    assert hook.interval == 5 and hook.show is False
    where = dict(
        mmdet=hook.get('test_out_dir'),
        mmseg=cfg.visualizer.get('save_dir'),
        mmpretrain=hook.get('out_dir'),
    )
    assert where[scope] == str(tmp_path)
    assert hook.get('enable' if scope == 'mmpretrain' else 'draw') is True


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_tta(scope):
    cfg = test_cfg('--tta', default_scope=scope)
    assert cfg.model.module == dict(type='M')
    assert 'TTA' in cfg.model.type
    *_, augment = cfg.test_dataloader.dataset.pipeline
    flips, pack = augment.transforms
    assert [flip.prob for flip in flips] == [0.0, 1.0]
    assert pack[0].type == 'PackDetInputs'


def test_tta_of_the_config_comes_first():
    own = dict(tta_model=dict(type='Own'), tta_pipeline=[dict(type='OwnPipeline')])
    cfg = test_cfg('--tta', **own)
    assert cfg.model.type == 'Own'
    assert cfg.test_dataloader.dataset.pipeline == [dict(type='OwnPipeline')]


def test_cpu_processes(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    model = dict(type='M', norm_cfg=dict(type='SyncBN'), parts=[dict(norm=dict(type='SyncBN'))])
    cfg = make(model=model, launcher='pytorch', find_unused_parameters=True)
    with caplog.at_level(logging.WARNING):
        prepare_for_cpu(cfg)
    assert cfg.model.norm_cfg.type == cfg.model.parts[0].norm.type == 'BN'
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
        find_unused_parameters=True,
    )  # fmt: skip


@pytest.mark.parametrize(('launcher', 'cuda'), [('none', False), ('pytorch', True)])
def test_nothing_is_done_where_mmengine_can(monkeypatch, launcher, cuda):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    cfg = make(launcher=launcher, model=dict(norm_cfg=dict(type='SyncBN')))
    before = cfg.to_dict()
    prepare_for_cpu(cfg)
    assert cfg.to_dict() == before
