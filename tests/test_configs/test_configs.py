"""Every config: loads, builds, and differs from its baseline and from mmdet's only as meant."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from tests.conftest import ROOT

CONFIGS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)


def load(path) -> Config:
    return Config.fromfile(ROOT / path)


def flat(cfg, prefix='') -> dict:
    """{'model.backbone.depth': 50, ...}; lists are compared whole."""
    out = {}
    for key, value in cfg.items():
        if isinstance(value, dict):
            out.update(flat(value, f'{prefix}{key}.'))
        else:
            out[prefix + key] = value
    return out


def differences(a: Config, b: Config) -> dict:
    a, b = flat(a), flat(b)
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


@pytest.fixture(autouse=True)
def default_root(monkeypatch):
    for name in ('COCO', 'ADE20K', 'IMAGENET', 'CIFAR100', 'OOD'):
        monkeypatch.delenv(f'MMSB_{name}_ROOT', raising=False)
    monkeypatch.delenv('MMSB_TEST_SIZE', raising=False)


@pytest.mark.parametrize('path', CONFIGS)
def test_loads_and_builds(path):
    cfg = load(path)
    pytest.importorskip(cfg.default_scope)
    # mmseg's Mask2Former consists of parts of mmdet
    imports = ['mmsb', 'mmdet.models'] if 'segmentors/mask2former' in path else ['mmsb']
    assert cfg.custom_imports == dict(imports=imports, allow_failed_imports=False)
    # mmpretrain's ResNet reads numbers from tensors as it is built; what is added needs weights
    name = Path(path).name
    real = (name.startswith('resnet') and 'cifar' not in path) or 'sb_regnet' in name
    device = 'cpu' if real else 'meta'
    models = importlib.import_module(f'{cfg.default_scope}.registry').MODELS
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device(device):
        model = models.build(cfg.model)
    # the neck's or else the head's input channels, of all features or of the last
    parts = ('neck', 'panoptic_head', 'decode_head', 'head')
    part = next(cfg.model[name] for name in parts if 'in_channels' in cfg.model.get(name, {}))
    channels = part.in_channels if isinstance(part.in_channels, list) else [part.in_channels]
    names = [model.backbone.res_layers[i] for i in model.backbone.out_indices[-len(channels) :]]
    blocks = [getattr(model.backbone, name)[-1] for name in names]
    last = [getattr(block, 'conv3', None) or block.conv2 for block in blocks]
    assert channels == [conv.out_channels for conv in last]
    assert len(channels) == len(model.backbone.out_indices) or 'deeplab' in path
    # every part of the recipe is one that the toolbox knows
    registries = importlib.import_module(f'{cfg.default_scope}.registry')
    loader = cfg.train_dataloader
    kinds = dict(
        DATASETS=[loader.dataset],
        DATA_SAMPLERS=[loader.sampler],
        TRANSFORMS=[*cfg.train_pipeline, *cfg.test_pipeline],
        OPTIMIZERS=[cfg.optim_wrapper.optimizer],
        PARAM_SCHEDULERS=cfg.param_scheduler,
        HOOKS=cfg.default_hooks.values(),
        METRICS=[cfg.val_evaluator],
        VISUALIZERS=[cfg.visualizer],
    )
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for registry, parts in kinds.items():
            for part in [parts] if isinstance(parts, dict) else parts:
                assert getattr(registries, registry).get(part['type']), part['type']


def test_no_two_configs_are_the_same():
    names = {}
    for path in CONFIGS:
        names.setdefault(json.dumps(flat(load(path)), default=str, sort_keys=True), []).append(path)
    assert len(names) > 100
    assert [same for same in names.values() if len(same) > 1] == []


def baseline_of(path: str) -> Path:
    """sb_ left out, and what only it has settings of: -s12-size10, -add, -grow."""
    folder, name = Path(path).parent, Path(path).name
    name = re.sub('-(grow|pretrained)', '', name.removeprefix('sb_').replace('_sb_', '_'))
    if folder.name == 'longrange':
        name = re.sub('(r1[14])-[^_]*', r'\1', name)
    if folder.name in ('cifar100', 'imagenet', 'configs'):
        name = re.sub('-s[^_]*', '', name, count=1)
    if folder.name == 'imagenet':
        folder = folder.parent
    return folder / name


@pytest.mark.parametrize('path', [path for path in CONFIGS if 'sb_' in path])
def test_has_a_baseline_with_the_same_recipe(path):
    ours = load(path)
    if ours.model.backbone.type == 'mmsb.with_spatial_bias':
        ours.model.backbone = ours.model.backbone.backbone
    changed = set(differences(load(baseline_of(path)), ours))
    changed -= {'model.backbone.type', 'model.backbone.spatial_bias'}
    changed = {key for key in changed if not key.startswith('model.backbone.spatial_bias.')}
    # Where it starts is the one other difference: SK and BAT from their own pretraining,
    # the mini configs that say so in their names.
    if 'sb_sk' in path or 'sb_bat' in path or '18-' in path:
        changed = {key for key in changed if 'init_cfg' not in key} - {'checkpoint'}
    assert changed == set()


def stock_config(toolbox: str, path: str) -> Config:
    package = pytest.importorskip(toolbox)
    return Config.fromfile(Path(package.__file__).parent / '.mim/configs' / path)


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        ('faster_rcnn_r50_fpn_1x_coco', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco'),
        ('cascade_rcnn_r50_fpn_1x_coco', 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco'),
    ],
)
def test_baseline_is_mmdets_stock_config(ours, theirs):
    """Field by field; what differs is what the paper says, and our loading and names."""
    stock = stock_config('mmdet', f'{theirs}.py')
    changed = differences(stock, load(f'configs/{ours}.py'))
    # the paper trains on 2 GPUs with 8 images each: the same batch of 16
    assert changed.pop('train_dataloader.batch_size') == (2, 8)
    assert changed.pop('custom_imports.imports') == (None, ['mmsb'])
    assert changed.pop('custom_imports.allow_failed_imports') == (None, False)
    # an unreadable training image is named
    for key in ('train_pipeline', 'train_dataloader.dataset.pipeline'):
        theirs, ours = changed.pop(key)
        assert ours[0].type == 'mmsb.LoadImageFromFile'
        assert [dict(ours[0], type='LoadImageFromFile'), *ours[1:]] == theirs
    # a folder with or without the slash at its end
    for key, (theirs, ours) in list(changed.items()):
        if key.endswith(('data_root', 'ann_file')):
            assert theirs.replace('//', '/').rstrip('/') == ours.rstrip('/')
            changed.pop(key)
    assert changed == {}


def test_first_imagenet_recipe_is_the_toolboxs_a3_at_160():
    """mmpretrain's trains at 224, with SyncBN, on 8 x 256."""
    stock = stock_config('mmpretrain', 'resnet/resnet50_8xb256-rsb-a3-100e_in1k.py')
    ours = load('configs/resnet50_a3-100e_in1k.py')
    assert stock.train_pipeline[1].pop('scale') == 224
    assert ours.train_pipeline[1].pop('scale') == 160
    for key in ('train_pipeline', 'test_pipeline', 'train_cfg'):
        assert ours[key] == stock[key], key
    assert ours.model.train_cfg == stock.model.train_cfg
    assert ours.model.head == stock.model.head
    assert dict(ours.optim_wrapper, type=None) == dict(stock.optim_wrapper, type=None)
    assert differences(stock.param_scheduler[0], ours.param_scheduler[0]) == dict(begin=(0, None))
    # per iteration, where the toolbox steps each epoch
    changed = differences(stock.param_scheduler[1], ours.param_scheduler[1])
    assert changed == dict(convert_to_iter_based=(None, True))


@pytest.mark.parametrize(('size', 'edge'), [(None, 236), (160, 168)])
def test_test_size_of_the_first_imagenet_recipe(monkeypatch, tmp_path, size, edge):
    """One variable; the pixels are those that Pillow gives, and --cfg-options can do the same."""
    pytest.importorskip('mmpretrain')
    from mmpretrain.registry import TRANSFORMS

    if size:
        monkeypatch.setenv('MMSB_TEST_SIZE', str(size))
    cfg = load('configs/imagenet/sb_resnet50-s23_a3-100e_in1k.py')
    size = size or 224
    path = tmp_path / 'image.png'
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    image = Image.fromarray(noise).resize((480, 240), Image.Resampling.BILINEAR)
    image.save(path)
    resized = image.resize((2 * edge, edge), Image.Resampling.BICUBIC)
    left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
    wanted = np.array(resized.crop((left, top, left + size, top + size)))
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        results = dict(img_path=str(path), gt_label=0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            for step in loader.dataset.pipeline:
                results = TRANSFORMS.build(step)(results)
        found = results['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
        assert found.shape == wanted.shape and np.array_equal(found, wanted)
    assert cfg.train_pipeline[1].scale == 160

    monkeypatch.delenv('MMSB_TEST_SIZE', raising=False)
    by_hand = load('configs/imagenet/sb_resnet50-s23_a3-100e_in1k.py')
    text = (ROOT / 'docs/reproduce.md').read_text()
    ends = re.findall(r'`(dataset\.pipeline\.\S+)=(\d+)`', text)
    assert len(ends) == 2
    options = {
        f'{split}_dataloader.{end}': int(value) for split in ('val', 'test') for end, value in ends
    }
    by_hand.merge_from_dict(options)
    if size == 160:
        assert by_hand.val_dataloader == cfg.val_dataloader
        assert by_hand.test_dataloader == cfg.test_dataloader


def test_second_imagenet_recipe_differs_from_the_toolboxs_as_meant():
    stock = stock_config('mmpretrain', 'resnet/resnet50_8xb32_in1k.py')
    ours = load('configs/resnet50_step-90e_in1k.py')
    for key in ('train_pipeline', 'test_pipeline', 'auto_scale_lr.base_batch_size'):
        assert flat(ours).get(key) == flat(stock).get(key), key
    assert dict(ours.model.data_preprocessor) == dict(stock.data_preprocessor)
    assert ours.optim_wrapper.optimizer == stock.optim_wrapper.optimizer
    assert differences(stock.model.backbone, ours.model.backbone) == dict(
        zero_init_residual=(None, False)
    )
    assert (stock.model.neck, stock.model.head) == (ours.model.neck, ours.model.head)


def test_segmentation_recipe_is_poolformers_with_the_toolboxs_fpn():
    """The paper's figures are PVT's and PoolFormer's recipe; mmseg's own FPN has another."""
    twin = stock_config('mmseg', 'poolformer/fpn_poolformer_s12_8xb4-40k_ade20k-512x512.py')
    ours = load('configs/fpn_r50_40k_ade20k-512x512.py')
    for step in ours.train_pipeline[:2]:  # a wrong file is named
        assert step.type in ('mmsb.LoadImageFromFile', 'mmsb.LoadAnnotations')
        step.type = step.type.removeprefix('mmsb.')
    for key in ('train_pipeline', 'test_pipeline', 'train_cfg', 'val_evaluator'):
        assert ours[key] == twin[key], key
    assert ours.optim_wrapper.optimizer == twin.optim_wrapper.optimizer
    assert ours.param_scheduler == twin.param_scheduler[0]
    stock = stock_config('mmseg', 'sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py')
    for key in ('neck', 'decode_head', 'data_preprocessor', 'test_cfg'):
        assert ours.model[key] == stock.model[key], key


def test_global_context_is_placed_as_in_the_toolbox():
    stock = stock_config('mmdet', 'gcnet/mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco.py')
    ours = load('configs/comparisons/faster_rcnn_gc_r50_fpn_1x_coco.py')
    assert ours.model.backbone.plugins == stock.model.backbone.plugins


def test_headline_follows_the_paper():
    cfg = load('configs/faster_rcnn_sb_r50_fpn_1x_coco.py')
    assert cfg.train_dataloader.batch_size * 2 == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001
    )
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.train_pipeline[2].scale == (1333, 800)
    with torch.device('meta'):
        from mmsb.models import SBResNet

        kwargs = {k: v for k, v in cfg.model.backbone.items() if k != 'type'}
        model = SBResNet(**kwargs)
    # SB-ResNet-50 without its 1000-class head
    assert sum(p.numel() for p in model.parameters()) == 25_986_620 - 2049 * 1000


def test_one_variable_points_a_config_at_another_folder(monkeypatch):
    monkeypatch.setenv('MMSB_COCO_ROOT', 'elsewhere')
    cfg = load('configs/faster_rcnn_sb_r50_fpn_1x_coco.py')
    for name in ('train', 'val', 'test'):
        assert cfg[f'{name}_dataloader'].dataset.data_root == 'elsewhere'
    assert cfg.val_evaluator.ann_file == 'elsewhere/annotations/instances_val2017.json'


def test_cfg_options_override():
    cfg = load('configs/faster_rcnn_sb_r50_fpn_1x_coco.py')
    cfg.merge_from_dict({'model.backbone.init_cfg': None, 'train_dataloader.batch_size': 1})
    assert cfg.model.backbone.init_cfg is None
