"""``--cfg-options``: keys that nobody would read are refused or named."""

import pytest

from mmsb.engine.config import read_config
from mmsb.engine.overrides import apply_overrides
from tests.conftest import MINI_SB, ROOT, assert_one_line

pytest.importorskip('mmdet')


@pytest.fixture
def cfg():
    return read_config(ROOT / MINI_SB)


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('train_dataloder.batch_size', "did you mean 'train_dataloader'?"),
        ('train_dataloader.batch_sise', "did you mean 'batch_size'?"),
        ('train_cfg.max_epoch', "did you mean 'max_epochs'?"),
        ('model.backbone.deepth', "did you mean 'depth'?"),
        ('model.backbone.contract_dilatation', "did you mean 'contract_dilation'?"),
        ('default_hooks.checkpoint.max_kept_ckpts', "did you mean 'max_keep_ckpts'?"),
        ('model.train_cfg.rcnn.sampler.nm', "did you mean 'num'?"),
        ('param_scheduler.1.Tmax', "did you mean 'T_max'?"),
        ('param_scheduler.7.T_max', 'param_scheduler is a list of 2'),
        ('a.b.c.d.e', "the config has no setting 'a'"),
        ('model.backbone.depth.x', 'is 18, which has no settings'),
    ],
)
def test_a_misspelt_key_is_refused(cfg, key, message):
    before = cfg.to_dict()
    assert_one_line(lambda: apply_overrides(cfg, {key: 1}), message)
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    'key',
    [
        'model.backbone.stem_channels',  # near base_channels, which the config has
        'model.backbone.spatial_bias.size',
        'train_dataloader.pin_memory',
        'train_dataloader.dataset.pipeline.0.skip_corrupt',
        'train_dataloader.dataset.metainfo.classes',
        'default_hooks.checkpoint.save_best',
        'default_hooks.checkpoint.priority',
        'optim_wrapper.accumulative_counts',
        'optim_wrapper.paramwise_cfg.norm_decay_mult',
        'randomness.seed',
        'find_unused_parameters',
        'resume',
        'custom_hooks',
    ],
)
def test_keys_that_classes_and_the_runner_take_are_set_without_a_word(cfg, key):
    assert apply_overrides(cfg, {key: 1}) == []
    value = cfg
    for part in key.split('.'):
        value = value[int(part) if part.isdigit() else part]
    assert value == 1


@pytest.mark.parametrize(
    ('key', 'words'),
    [
        ('data_root', 'data_root is a variable of the config file'),
        ('test_cfg.fp16', None),
        ('model.test_cfg.rcnn.zzz', "'zzz' is new in model.test_cfg.rcnn, which has max_per_img"),
    ],
)
def test_what_may_have_no_effect_is_said(cfg, key, words):
    lines = apply_overrides(cfg, {key: 1})
    assert [words in line for line in lines] == ([True] if words else [])


@pytest.mark.parametrize(
    ('key', 'value'), [('model', 3), ('optim_wrapper', 'x'), ('model.backbone', None)]
)
def test_settings_are_not_replaced_by_a_value(cfg, key, value):
    message = f'--cfg-options {key}: it holds settings, of which {value!r} is none'
    assert_one_line(lambda: apply_overrides(cfg, {key: value}), message)
    assert apply_overrides(cfg, dict(val_evaluator=None)) == []
    assert_one_line(lambda: apply_overrides(cfg, dict(load_from=7)), '7 is no path')


def test_values_that_cannot_be_merged(cfg):
    options = {'model.backbone.depth': dict(a=1)}
    message = '--cfg-options model.backbone.depth: TypeError'
    assert_one_line(lambda: apply_overrides(cfg, options), message)


def test_a_config_that_is_no_python(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text('model = dict(type=')
    assert_one_line(lambda: read_config(path), 'mine.py cannot be read (SyntaxError')
