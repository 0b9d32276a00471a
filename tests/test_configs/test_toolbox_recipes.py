"""Detectors and segmentors: the toolboxes' own recipes, and a training step and prediction of each.

Each step is on images of the miniatures, through the config's own pipeline, with small images, few
channels in the backbone and few layers in the transformers.
"""

import json
import random
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmsb.deployment.exporting import export
from mmsb.deployment.runtime import OnnxModel
from mmsb.inference.predicting import predict_images
from mmsb.toolboxes import toolbox_of
from tests import readme
from tests.conftest import ROOT
from tests.test_configs.test_configs import differences, stock_config
from tests.test_configs.test_training_steps import build

STOCK = {
    'detectors/mask_rcnn_r50_fpn_1x_coco': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
    'detectors/retinanet_r50_fpn_1x_coco': 'retinanet/retinanet_r50_fpn_1x_coco',
    'detectors/deformable_detr_r50_50e_coco': 'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
    'detectors/dino_4scale_r50_12e_coco': 'dino/dino-4scale_r50_8xb2-12e_coco',
    'detectors/rtmdet_l_r50_300e_coco': 'rtmdet/rtmdet_l_8xb32-300e_coco',
    'detectors/mask2former_r50_50e_coco': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco',
    'segmentors/upernet_r50_160k_ade20k-512x512': 'upernet/upernet_r50_4xb4-160k_ade20k-512x512',
    'segmentors/deeplabv3plus_r50-d8_160k_ade20k-512x512': (
        'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512'
    ),
    'segmentors/mask2former_r50_160k_ade20k-512x512': (
        'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512'
    ),
}
# What mmengine's runner reads, and test-time augmentation, which tools/test.py --tta sets itself.
READ = (
    *('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg'),
    *('test_cfg', 'val_evaluator', 'test_evaluator', 'optim_wrapper', 'param_scheduler'),
    *('auto_scale_lr', 'default_hooks', 'custom_hooks', 'visualizer', 'log_processor', 'env_cfg'),
    *('default_scope', 'log_level', 'load_from', 'resume', 'randomness', 'data_preprocessor'),
)


def toolbox(path: str) -> str:
    return 'mmdet' if path.startswith('detectors/') else 'mmseg'


def stock(path: str) -> Config:
    return stock_config(toolbox(path), f'{STOCK[path]}.py')


def read(cfg: Config) -> dict:
    """What the runner reads, with the file names and transforms of the toolbox."""
    cfg = {key: value for key, value in cfg.items() if key in READ}
    if 'data_preprocessor' in cfg:  # repeated in the model
        assert cfg.pop('data_preprocessor') == cfg['model']['data_preprocessor']
    return plain(cfg)


def plain(value):
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, str):
        value = value.removeprefix('mmsb.').replace('data/coco//', 'data/coco/')
        return 'data/coco' if value == 'data/coco/' else value
    return value


@pytest.mark.parametrize('path', STOCK)
def test_baseline_is_the_toolboxs_own_config(path, monkeypatch):
    for name in ('COCO', 'ADE20K'):
        monkeypatch.delenv(f'MMSB_{name}_ROOT', raising=False)
    changed = differences(read(stock(path)), read(Config.fromfile(ROOT / f'configs/{path}.py')))
    if 'auto_scale_lr.enable' in changed:  # the default
        assert changed.pop('auto_scale_lr.enable') == (None, False)
    if 'upernet' in path or 'deeplab' in path:
        # mmseg's ResNetV1c by arguments, which SBResNet has too
        assert changed.pop('model.backbone.type') == ('ResNetV1c', 'ResNet')
        assert changed.pop('model.backbone.deep_stem') == (None, True)
        weights, _ = changed.pop('model.pretrained')
        assert changed.pop('model.backbone.init_cfg.checkpoint') == (None, weights)
        assert changed.pop('model.backbone.init_cfg.type') == (None, 'Pretrained')
        assert changed.pop('auto_scale_lr.base_batch_size') == (None, 4 * 4)
    if 'mask2former_r50_50e' in path:  # left over from the panoptic config that mmdet's inherits
        assert changed.pop('model.data_preprocessor.seg_pad_value') == (255, None)
        for split in ('train', 'val', 'test'):
            assert changed.pop(f'{split}_dataloader.dataset.data_prefix.seg')[1] is None
    if 'rtmdet' in path:
        assert changed.pop('auto_scale_lr.base_batch_size') == (16, 8 * 32)
        assert changed.pop('model.neck.in_channels') == ([256, 512, 1024], [512, 1024, 2048])
        # the backbone's weights are for RGB
        channels = 'model.data_preprocessor.'
        assert changed.pop(f'{channels}bgr_to_rgb') == (False, True)
        assert changed.pop(f'{channels}pad_size_divisor') == (None, 1)
        for key in ('mean', 'std'):
            theirs, ours = changed.pop(channels + key)
            assert theirs == ours[::-1]
        changed = {k: v for k, v in changed.items() if not k.startswith('model.backbone.')}
    assert changed == {}


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        ('faster_rcnn_r50-rsb', 'resnet_strikes_back/faster-rcnn_r50-rsb-pre'),
        ('mask_rcnn_r50-rsb', 'resnet_strikes_back/mask-rcnn_r50-rsb-pre'),
        ('faster_rcnn_r50-tv2', 'faster_rcnn/faster-rcnn_r50-tnr-pre'),
    ],
)
def test_modern_starts_are_the_toolboxs(ours, theirs):
    stock = stock_config('mmdet', f'{theirs}_fpn_1x_coco.py')
    ours = Config.fromfile(ROOT / f'configs/starts/{ours}_fpn_1x_coco.py')
    weights = 'model.backbone.init_cfg.checkpoint'
    changed = differences(read(stock), read(ours))
    if weights in changed:  # OneDL has a copy of OpenMMLab's files
        theirs, mine = changed.pop(weights)
        assert theirs.split('/')[3:] == mine.split('/')[3:]
    if 'train_dataloader.batch_size' in changed:  # on 2 GPUs, as the paper
        assert changed.pop('train_dataloader.batch_size') == (2, 8)
    assert changed == {}


@pytest.mark.parametrize('start', ['rsb', 'tv2'])
def test_modern_starts_change_weights_and_optimizer_only(start):
    """One start is the same in all its configs; semantic FPN has AdamW already."""
    names = (
        *('detectors/mask_rcnn_r50{}_fpn_1x_coco', 'cascade_rcnn_r50{}_fpn_1x_coco'),
        *('segmentors/upernet_r50{}_160k_ade20k-512x512', 'fpn_r50{}_40k_ade20k-512x512'),
    )
    for name in names:
        old = Config.fromfile(ROOT / f'configs/{name.format("")}.py')
        file = name.rpartition('/')[2].format('-' + start)
        new = Config.fromfile(ROOT / f'configs/starts/{file}.py')
        faster = Config.fromfile(ROOT / f'configs/starts/faster_rcnn_r50-{start}_fpn_1x_coco.py')
        assert new.model.backbone.init_cfg == faster.model.backbone.init_cfg
        has_adamw = name.startswith('fpn')
        assert (new.optim_wrapper == faster.optim_wrapper) == (not has_adamw)
        changed = differences(read(old), read(new))
        if 'upernet' in name:
            assert changed.pop('model.backbone.deep_stem') == (True, False)
            # the SGD schedule ends at 1e-4, torchvision's AdamW would stay there
            _, schedule = changed.pop('param_scheduler')
            swin = 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
            assert schedule == read(stock_config('mmseg', swin))['param_scheduler']
        kept = ('model.backbone.init_cfg.', '!' if has_adamw else 'optim_wrapper.')
        assert changed and all(key.startswith(kept) for key in changed)


def test_compared_block_from_a_modern_start(tmp_path):
    lines = readme.example('compared block').replace("'./configs/", f"'{ROOT}/configs/")
    (tmp_path / 'mine.py').write_text(lines)
    backbone = built(Config.fromfile(tmp_path / 'mine.py')).backbone
    kinds = [type(module).__name__ for module in backbone.modules()]
    assert kinds.count('ContextBlock') == 4 + 6 + 3 and 'SpatialBias' not in kinds


# The transformers are cut to one or two layers, and everything that is found is kept.
FEW_QUERIES = {
    'model.num_queries': 20,
    'model.encoder.num_layers': 1,
    'model.decoder.num_layers': 2,
}
SMALL = {
    'mask_rcnn': {
        'model.test_cfg.rcnn.score_thr': -1.0,
        'model.roi_head.bbox_head.fc_out_channels': 32,
    },
    'retinanet': {'model.test_cfg.score_thr': 0.0, 'model.bbox_head.stacked_convs': 1},
    'rtmdet': {'model.test_cfg.score_thr': 0.0, 'model.neck.num_csp_blocks': 1},
    'deformable_detr': FEW_QUERIES,
    'dino': FEW_QUERIES,
    'mask2former': {
        'num_queries': 10,
        'pixel_decoder.encoder.num_layers': 1,
        'transformer_decoder.num_layers': 2,
    },
}
SIZES = ('scale', 'scales', 'img_scale', 'crop_size', 'size', 'max_size')


def divide(value, by):
    many = isinstance(value, (list, tuple))
    return type(value)(divide(one, by) for one in value) if many else value // by


def shrink(cfg, by: int) -> None:
    """Divide all sizes of images, in place."""
    for key, value in cfg.items() if isinstance(cfg, dict) else enumerate(cfg):
        if key in SIZES:
            cfg[key] = divide(value, by)
        elif isinstance(value, (dict, list)):
            shrink(value, by)


@pytest.fixture(scope='module')
def mini_ade20k(tmp_path_factory):
    from mmsb.datasets.miniatures.ade20k import make_mini_ade20k

    return make_mini_ade20k(tmp_path_factory.mktemp('data') / 'ade', 8, 2, (64, 96))


def small_config(path: str) -> Config:
    cfg = Config.fromfile(ROOT / path)
    name = next((name for name in SMALL if name in path), None)
    options = SMALL.get(name, {})
    if name == 'mask2former':
        head = 'panoptic_head' if 'detectors' in path else 'decode_head'
        train = 'model.train_cfg' if 'detectors' in path else 'model.decode_head.train_cfg'
        options = {f'model.{head}.{key}': value for key, value in options.items()}
        options[f'{train}.num_points'] = 64
    cfg.merge_from_dict(options)
    cfg.model.backbone.base_channels = cfg.model.backbone.stem_channels = 8
    # the parts that the backbone's features go to
    has_neck = 'neck' in cfg.model
    for part in ('neck',) if has_neck else ('panoptic_head', 'decode_head', 'auxiliary_head'):
        if part in cfg.model:
            for key in ('in_channels', 'c1_in_channels', 'channels'):
                if key in cfg.model[part]:
                    cfg.model[part][key] = divide(cfg.model[part][key], 8)
    for sized in (cfg.model.data_preprocessor, cfg.train_dataloader, cfg.val_dataloader):
        shrink(sized, 5 if name == 'rtmdet' else 8)  # 640 pixels to a multiple of 32
    return cfg


def sb(path: str) -> str:
    return path.replace('_r50', '_sb_r50')


QUERIES = [sb(path) for path in STOCK if re.search('detr|dino|mask2former', path)]


@pytest.mark.parametrize('path', QUERIES)
def test_export_of_queries(path, tmp_path):
    """The file has what the toolbox's own prediction is made from."""
    cfg = small_config(f'configs/{path}.py')
    cfg.model.backbone.init_cfg = None
    cfg.dump(tmp_path / 'model.py')
    model, _ = build(cfg)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    file = tmp_path / 'model.onnx'
    config = str(tmp_path / 'model.py')
    done = export(config, str(tmp_path / 'model.pth'), out=file, shape=(128, 128))
    model.eval()
    images, samples = toolbox_of(cfg).random_inputs(1, (128, 128), 'cpu')
    found = dict(zip(OnnxModel(file).outputs, OnnxModel(file)(images), strict=True))
    with torch.no_grad():
        (result,) = model(images, samples, mode='predict')
    if toolbox(path) == 'mmseg':
        assert torch.equal(found['logits'].argmax(1), result.pred_sem_seg.data)
        return
    assert 'those of the queries' in done.note
    scores = found.pop('query_scores')
    (places,) = found.values()
    assert places.shape[:2] == scores.shape[:2]
    if 'mask2former' in path:  # the scores that are printed also depend on the masks
        _, indices = scores.softmax(-1)[..., :-1].flatten().topk(len(result.pred_instances))
        labels = indices % (scores.shape[-1] - 1)
        assert torch.equal(labels.sort().values, result.pred_instances.labels.sort().values)
        return
    best, _ = scores.sigmoid().flatten().topk(len(result.pred_instances))
    torch.testing.assert_close(result.pred_instances.scores, best, rtol=1e-4, atol=0)


@pytest.mark.parametrize('path', map(sb, STOCK))
def test_step_and_prediction(path, mini_coco, mini_ade20k, monkeypatch):
    pytest.importorskip(f'{toolbox(path)}.models')
    monkeypatch.setenv('MMSB_COCO_ROOT', str(mini_coco))
    monkeypatch.setenv('MMSB_ADE20K_ROOT', str(mini_ade20k))
    for module in (random, np.random, torch):
        getattr(module, 'manual_seed', getattr(module, 'seed', None))(0)
    cfg = small_config(f'configs/{path}.py')
    model, optim_wrapper = build(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        train, val = (DATASETS.build(cfg[f'{k}_dataloader'].dataset) for k in ('train', 'val'))
    # mosaic and mixup begin when they have seen enough images
    batch = pseudo_collate([train[i % len(train)] for i in range(12)][-2:])
    backbone = {
        name: parameter for name, parameter in model.backbone.named_parameters()
        if parameter.requires_grad
    }  # fmt: skip
    before = {name: parameter.detach().clone() for name, parameter in backbone.items()}

    model.train()
    loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    assert loss.isfinite()
    optim_wrapper.backward(loss)
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not [name for name, parameter in backbone.items() if not parameter.grad.any()]
    for group in optim_wrapper.param_groups:
        group['lr'] /= 100  # as in a warm-up
    optim_wrapper.step()
    new = [name for name in backbone if '.spatial_bias.' in name]
    assert len({name.split('.')[0] for name in new}) == 3  # stages 1 to 3, frozen or not
    assert not [name for name in new if torch.equal(backbone[name], before[name])]

    model.eval()
    results = model.test_step(pseudo_collate([val[0], val[1]]))
    for result in results:
        if toolbox(path) == 'mmseg':
            assert result.pred_sem_seg.shape == result.ori_shape
            continue
        found = result.pred_instances
        assert len(found) and found.bboxes.shape[1] == 4 and found.labels.max() < 80
        if 'mask' in path:
            assert found.masks.shape[1:] == result.ori_shape


def test_image_demo_builds_a_model_that_writes_into_its_config(mini_coco, tmp_path):
    """mmdet's DETRs cannot be built twice from one config."""
    pytest.importorskip('mmdet.models')
    cfg = small_config('configs/detectors/deformable_detr_sb_r50_50e_coco.py')
    cfg.dump(tmp_path / 'small.py')
    model, _ = build(cfg)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'weights.pth')
    image = next((mini_coco / 'val2017').iterdir())
    files = [str(tmp_path / name) for name in ('small.py', 'weights.pth', 'drawn', 'found.json')]
    list(predict_images([str(image)], *files[:3], 'cpu', 0.0, files[3]))
    (found,) = json.loads((tmp_path / 'found.json').read_text())
    assert len(found['objects']) == 100


def with_lines(path: str, lines: str, file) -> Config:
    """The toolbox's own config with lines of a user."""
    lines = re.sub('^_base_ = .*\n', '', lines)
    file.write_text(f'_base_ = {stock(path).filename!r}\n{lines}')
    return Config.fromfile(file)


def built(cfg: Config):
    pytest.importorskip(f'{cfg.default_scope}.models')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        return MODELS.build(cfg.model)


# What each needs beside README's ten lines, which replace all of the backbone's settings.
LAST_THREE = {'model.backbone.out_indices': (1, 2, 3)}
ALSO = {
    'deformable': LAST_THREE,
    'dino': LAST_THREE,
    'rtmdet': {**LAST_THREE, 'model.neck.in_channels': [512, 1024, 2048]},
    'upernet': {'model.pretrained': None},
}


@pytest.mark.parametrize('path', [path for path in STOCK if 'deeplab' not in path])
def test_readmes_lines_in_the_toolboxs_own_config(path, tmp_path):
    """The backbone is SB-ResNet-50, and its features have the channels that its neck or head takes.

    Not DeepLabV3+: the ten lines leave out its dilations.
    """
    cfg = with_lines(path, readme.example('detector'), tmp_path / 'mine.py')
    for key, value in ALSO.get(next((name for name in ALSO if name in path), None), {}).items():
        cfg.merge_from_dict({key: value})
    model = built(cfg)
    counted = sum(parameter.numel() for parameter in model.backbone.parameters())
    assert counted == 25_986_620 - 2049 * 1000  # the paper's, without its classifier
    channels = [256 * 2**stage for stage in model.backbone.out_indices]
    parts = [part for part in ('neck', 'panoptic_head', 'decode_head') if part in cfg.model]
    assert channels == list(cfg.model[parts[0]].in_channels)


@pytest.mark.parametrize('path', [path for path in STOCK if 'rtmdet' not in path])
def test_a_resnets_type_alone_in_the_toolboxs_own_config(path, tmp_path):
    """With the documentation's lines, the model is that of our own config."""
    lines = readme.example('stock config')
    if 'upernet' in path or 'deeplab' in path:
        lines = lines.replace("type='mmsb.SBResNet'", "type='mmsb.SBResNet', deep_stem=True")
    cfg = with_lines(path, lines, tmp_path / 'mine.py')
    models = [built(one) for one in (cfg, Config.fromfile(ROOT / f'configs/{sb(path)}.py'))]
    theirs, ours = (
        [(name, tuple(p.shape), p.requires_grad) for name, p in model.named_parameters()]
        for model in models
    )
    assert theirs == ours
    for name in ('out_indices', 'strides', 'frozen_stages', 'norm_eval'):
        assert getattr(models[0].backbone, name) == getattr(models[1].backbone, name)
