"""A ResNet in the files of many programs: under dicts, prefixes and other names."""

import pickle
import re

import pytest
import torch
from torch.nn.functional import conv2d

from mmsb.checkpoints.converting import convert_checkpoint
from mmsb.models import SBResNet
from mmsb.models.finding import find_resnet
from mmsb.models.pretrained import recorded_settings
from mmsb.utils.errors import UserError
from mmsb.utils.safetensors import as_safetensors
from tests.weights import randomise


def build(**kwargs):
    return SBResNet(base_channels=8, **{'spatial_bias': None, **kwargs})


@pytest.fixture(scope='module')
def plain():
    """The state dict of a narrow ResNet-50 named as in torchvision, with its classifier."""
    state = randomise(build()).float().state_dict()
    return {**state, 'fc.weight': torch.ones(7, 256), 'fc.bias': torch.zeros(7)}


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def detectron2(state):
    """Names of Detectron2, e.g. backbone.bottom_up.res2.0.shortcut.weight."""
    found = {}
    for key, value in state.items():
        key = re.sub(r'^layer(\d)', lambda match: f'res{int(match[1]) + 1}', key)
        key = key.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')
        key = re.sub(r'bn(\d)', r'conv\1.norm', key)
        key = re.sub(r'^conv1', 'stem.conv1', key).replace('fc.', 'linear.')
        if 'num_batches' not in key:  # its FrozenBatchNorm2d has none
            found[f'backbone.bottom_up.{key}' if 'linear' not in key else key] = value
    return found


LAYERS = dict(conv='convolution', bn='normalization')


def transformers(state):
    """Names of ResNetForImageClassification."""
    found = {}
    for key, value in state.items():
        key = re.sub(r'^(conv|bn)1', lambda m: f'embedder.embedder.{LAYERS[m[1]]}', key)
        key = re.sub(
            r'^layer(\d)\.(\d+)', lambda m: f'encoder.stages.{int(m[1]) - 1}.layers.{m[2]}', key
        )
        key = re.sub(r'\.(conv|bn)(\d)', lambda m: f'.layer.{int(m[2]) - 1}.{LAYERS[m[1]]}', key)
        key = key.replace('downsample.0', 'shortcut.convolution')
        key = key.replace('downsample.1', 'shortcut.normalization')
        found[key.replace('fc.', 'classifier.1.') if 'fc.' in key else f'resnet.{key}'] = value
    return found


def sequential(state):
    order = dict(conv1=0, bn1=1, layer1=4, layer2=5, layer3=6, layer4=7, fc=9)
    return {re.sub(r'^\w+', lambda match: str(order[match[0]]), k): v for k, v in state.items()}


def noisy(state):
    """Other weights of the same network."""
    return {key: value + 1 for key, value in state.items()}


FILES = {  # what a file holds of a state dict, and the prefix that it needs, if any
    'bare': (lambda s: s, None),
    'torchvision training': (lambda s: dict(model=s, optimizer={}, epoch=1), None),
    'DDP': (lambda s: dict(state_dict=prefixed(s, 'module.')), None),
    'compiled DDP': (lambda s: dict(model_state_dict=prefixed(s, '_orig_mod.module.')), None),
    'net': (lambda s: dict(net=prefixed(s, 'module.'), acc=1.0), None),
    'timm EMA': (lambda s: dict(state_dict=s, state_dict_ema=noisy(s)), None),
    'AveragedModel': (
        lambda s: dict(prefixed(s, 'module.'), n_averaged=torch.tensor(3)), None),
    'MoCo': (lambda s: dict(state_dict={**prefixed(noisy(s), 'module.encoder_k.'),
                                        **prefixed(s, 'module.encoder_q.'),
                                        'module.queue': torch.zeros(2)}), None),
    'MoCo v3': (lambda s: dict(state_dict={**prefixed(s, 'module.base_encoder.'), **prefixed(
        noisy(s), 'module.momentum_encoder.')}), None),
    'DINO': (lambda s: dict(student=prefixed(noisy(s), 'module.backbone.'),
                            teacher=prefixed(s, 'backbone.')), 'teacher.'),
    'DETR': (lambda s: dict(model={**prefixed(s, 'backbone.0.body.'),
                                   'class_embed.weight': torch.zeros(2)}), None),
    'Lightning': (lambda s: {'state_dict': prefixed(s, 'model.backbone.'),
                             'optimizer_states': [{}], 'pytorch-lightning_version': '2'}, None),
    'mmselfsup': (lambda s: dict(state_dict={**prefixed(s, 'backbone.'), 'head.fc.weight':
                  torch.zeros(2)}, ema_state_dict=prefixed(noisy(s), 'module.backbone.')), None),
    'Detectron2': (lambda s: dict(model=detectron2(s)), None),
    'Detectron2 numpy': (lambda s: {k: v.numpy() for k, v in detectron2(s).items()}, None),
    'Detectron2 zoo': (lambda s: pickle.dumps(dict(model={
        k: v.numpy() for k, v in detectron2(s).items()}, matching_heuristics=True)), None),
    'transformers': (transformers, None),
    'Sequential': (sequential, None),
    'Sequential in a model': (lambda s: prefixed(sequential(s), 'encoder.'), None),
    'safetensors': (lambda s: as_safetensors(transformers(s)), None),
}  # fmt: skip


@pytest.mark.parametrize('name', FILES)
def test_files(tmp_path, plain, name):
    """Each by init_cfg and by the converter, to the same tensors."""
    make, prefix = FILES[name]
    state, path = plain, tmp_path / 'in.pth'
    content = make(state)
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix=prefix)
    backbone = build(init_cfg=init_cfg)
    backbone.init_weights()
    loaded = backbone.state_dict()
    assert len(loaded) == len(state) - 2  # all but the head
    for key, value in loaded.items():
        if 'num_batches' not in key:
            assert torch.equal(value, state[key]), key

    convert_checkpoint(path, tmp_path / 'out.safetensors', 'mmsb', prefix=prefix)
    again = build(init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'out.safetensors')))  # fmt: skip
    again.init_weights()
    assert all(torch.equal(again.state_dict()[key], value) for key, value in loaded.items())


def test_several_are_listed_and_the_hint_works(tmp_path, plain):
    state = plain
    content = dict(student=prefixed(noisy(state), 'module.backbone.'),
                   teacher=prefixed(state, 'backbone.'))  # fmt: skip
    with pytest.raises(UserError, match='holds 2 ResNets: choose one by its prefix') as error:
        find_resnet(content)
    hints = re.findall(r"prefix='(\S*)'", str(error.value))
    assert hints == ['student.module.backbone.', 'teacher.backbone.']
    assert find_resnet(content, hints[1]).network['bn1.weight'] is state['bn1.weight']
    with pytest.raises(UserError, match=r"no ResNet under prefix='backbon\.'; it has prefix='stu"):
        find_resnet(content, 'backbon.')


@pytest.mark.parametrize('channels', [1, 4, 6])
def test_other_input_channels(plain, channels):
    """As timm's adapt_input_conv: a grey picture gives what it gave in three channels."""
    model = build(in_channels=channels).eval()
    model.load_state_dict(plain, strict=False)
    grey = torch.rand(1, 1, 48, 64)
    with torch.no_grad():
        found = model.conv1(grey.expand(-1, channels, -1, -1))
        wanted = conv2d(grey.expand(-1, 3, -1, -1), plain['conv1.weight'], stride=2, padding=3)
    if channels != 4:  # four repeat one of three
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    else:
        weight = torch.cat([plain['conv1.weight'], plain['conv1.weight'][:, :1]], 1) * 0.75
        torch.testing.assert_close(model.conv1.weight, weight)
    with pytest.raises(UserError, match=r'for images of \d channels, this backbone for 2'):
        build(in_channels=2).load_state_dict(model.state_dict())


def without(pattern):
    return lambda state: {k: v for k, v in state.items() if not re.search(pattern, k)}


@pytest.mark.parametrize(('change', 'message'), [
    (without('running'), r'of 265 tensors it lacks 106 tensors \(bn1\.running_mean'),  # GroupNorm
    (without(r'bn|downsample\.1'), r'lacks 212 tensors \(bn1\.weight'),  # folded norms
    (without(r'layer3\.4\.conv2\.'), r'lacks 1 tensors \(layer3\.4\.conv2\.weight\)'),
    (without('layer4'), r'lacks \d+ tensors \(layer4'),
    (lambda s: {**s, 'layer1.0.se.fc1.weight': torch.zeros(2)},
     r'has, beyond it, 1 tensors \(layer1\.0\.se\.fc1\.weight\)'),
    (lambda s: {'conv1.weight': s['conv1.weight']}, 'holds no ResNet'),
    (without('layer1.0.bn1|fc'), None),  # for the flag
])  # fmt: skip
def test_not_all_of_it_is_refused(tmp_path, plain, change, message):
    torch.save(change(plain), tmp_path / 'in.pth')
    cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'in.pth'))
    model = build(init_cfg=cfg, spatial_bias=dict(size=4))
    before = model.conv1.weight.clone()
    with pytest.raises(UserError, match=message) as error:
        model.init_weights()
    assert 'in.pth' in str(error.value) and '\n' not in str(error.value)
    assert torch.equal(model.conv1.weight, before)
    if message is None:
        assert 'allow_partial=True' in str(error.value)
        model = build(init_cfg=dict(cfg, allow_partial=True))
        model.init_weights()
        assert torch.equal(model.conv1.weight, plain['conv1.weight'])


CONFIG = """
import os
os.mkdir('PWNED')
model = dict(type='FasterRCNN', backbone=dict(type='ResNet', depth=50, style='caffe'), neck=dict())
"""


def test_style(tmp_path, plain, monkeypatch):
    """A file of mmengine's says its style; some addresses do. Its config is read, not run."""
    monkeypatch.chdir(tmp_path)
    state = prefixed(plain, 'backbone.')
    torch.save(dict(state_dict=state, meta=dict(config=CONFIG)), 'caffe.pth')
    torch.save(plain, 'resnet50_msra-5891d200.pth')
    for path in ('caffe.pth', 'resnet50_msra-5891d200.pth'):
        cfg = dict(type='Pretrained', checkpoint=path)
        with pytest.raises(
            UserError, match=r"style 'caffe', this backbone has 'pytorch'.*set style="
        ):
            build(init_cfg=cfg).init_weights()
        for options in (dict(style='caffe'), dict(init_cfg=dict(cfg, allow_partial=True))):
            model = build(**{'init_cfg': cfg, **options})
            model.init_weights()
            assert torch.equal(model.conv1.weight, plain['conv1.weight'])
    assert not (tmp_path / 'PWNED').exists()
    for address, style in (
        ('open-mmlab://detectron2/resnet50_caffe', 'caffe'),
        ('open-mmlab://detectron/resnet101_caffe', 'caffe'),
        (
            'https://download.openmmlab.com/pretrain/third_party/resnet101_msra-6cc46731.pth',
            'caffe',
        ),
        ('torchvision://resnet50', 'pytorch'),
        ('https://download.pytorch.org/models/resnet50-0676ba61.pth', 'pytorch'),
        ('https://somewhere.org/resnet50.pth', None),
    ):
        assert recorded_settings({}, address).get('style') == style


def test_dilations_are_said(tmp_path, plain, monkeypatch):
    lines = []
    monkeypatch.setattr('mmsb.models.pretrained.print_log', lambda line, *_: lines.append(line))
    config = "model = dict(backbone=dict(type='ResNetV1c', dilations=(1, 1, 2, 4)))"
    torch.save(dict(state_dict=plain, meta=dict(config=config)), tmp_path / 'a.pth')
    cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    build(init_cfg=cfg, dilations=(1, 1, 2, 4)).init_weights()
    assert 'with dilations' not in str(lines)
    build(init_cfg=cfg).init_weights()
    assert 'a ResNet with dilations (1, 1, 2, 4), this backbone has (1, 1, 1, 1)' in lines[-1]
