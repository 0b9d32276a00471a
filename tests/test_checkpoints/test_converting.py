"""Layouts of checkpoints: tensors come back bit by bit, networks compute the same."""

import argparse
import os
import resource

import pytest
import torch
import torchvision
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint
from torch import nn
from torch.nn import functional as F

from mmsb.checkpoints.converting import convert_checkpoint, in_layout, read_weights
from mmsb.models import SBResNet, SBResNet_CIFAR
from mmsb.utils.errors import UserError
from tests.weights import randomise

SIZES = [(64, 64), (33, 97)]


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_current_instance().setLevel('WARNING')


class ReleasedSpatialBias(nn.Module):
    """As the authors' release names and computes it, for the square maps that it is for."""

    def __init__(self, channels):
        super().__init__()
        self.feature_reduction = nn.Sequential(
            nn.Conv2d(channels, 5, 1, bias=False), nn.BatchNorm2d(5), nn.ReLU()
        )
        self.sb_conv = nn.Conv1d(100, 100, 3)

    def forward(self, x, size):
        x = F.adaptive_avg_pool2d(self.feature_reduction(x), 10)
        x = self.sb_conv(x.reshape(len(x), 5, 100).permute(0, 2, 1))
        x = x.permute(0, 2, 1).reshape(len(x), 3, 10, 10)
        return F.interpolate(x, size=size, mode='bilinear')


class ReleasedBottleneck(torchvision.models.resnet.Bottleneck):
    """torchvision's bottleneck; in stages 1 to 3 with spatial bias beside its 3x3 convolution."""

    def __init__(self, inplanes, planes, *args, **kwargs):
        super().__init__(inplanes, planes, *args, **kwargs)
        if planes < 512:
            self.SB = ReleasedSpatialBias(planes)
            self.bn2 = nn.BatchNorm2d(planes + 3)
            self.conv3 = nn.Conv2d(planes + 3, planes * 4, 1, bias=False)

    def forward(self, x):
        u = self.relu(self.bn1(self.conv1(x)))
        y = self.conv2(u)
        if hasattr(self, 'SB'):
            y = torch.cat([y, self.SB(u, y.shape[2:])], 1)
        y = self.bn3(self.conv3(self.relu(self.bn2(y))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def released():
    return torchvision.models.ResNet(ReleasedBottleneck, [3, 4, 6, 3])


class Classifier(nn.Module):
    """A backbone of ours under a classifier's names in mmpretrain."""

    def __init__(self, backbone, num_classes=1000):
        super().__init__()
        self.backbone = backbone
        self.head = nn.ModuleDict({'fc': nn.Linear(backbone.feat_dim, num_classes)})

    def forward(self, x):
        return self.head['fc'](self.backbone(x)[-1].mean((2, 3)))


def logged_config(lines):
    """The backbone that the tool says to use."""
    (line,) = (line for line in lines if line.startswith('backbone='))
    cfg = eval(line.removeprefix('backbone='), {'dict': dict})
    kind = {'mmsb.SBResNet': SBResNet, 'mmsb.SBResNet_CIFAR': SBResNet_CIFAR}[cfg.pop('type')]
    return kind, cfg


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def timm_model(name):
    return pytest.importorskip('timm').create_model(name)


SOURCES = {
    'torchvision resnet50': torchvision.models.resnet50,
    'torchvision resnet18': torchvision.models.resnet18,
    'torchvision resnext50': torchvision.models.resnext50_32x4d,
    'torchvision wide_resnet50': torchvision.models.wide_resnet50_2,
    'timm resnet50': lambda: timm_model('resnet50'),
    'timm resnet50d': lambda: timm_model('resnet50d'),
    'timm resnet18d': lambda: timm_model('resnet18d'),
    'released': released,
}


@pytest.mark.parametrize('source', SOURCES)
def test_to_mmsb_and_back(tmp_path, source):
    """What the tool says to write into the config computes what the source did."""
    network = randomise(SOURCES[source]()).eval()
    torch.save(network.state_dict(), tmp_path / 'in.pth')
    lines = []
    convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'mmsb.pth', 'mmsb', log=lines.append)
    kind, cfg = logged_config(lines)
    backbone = kind(**cfg).double()
    backbone.init_weights()
    ours = Classifier(kind(**{**cfg, 'init_cfg': None})).double().eval()
    load_checkpoint(ours, str(tmp_path / 'mmsb.pth'), strict=True)
    assert equal(backbone.state_dict(), ours.backbone.state_dict())
    for size in SIZES:
        x = torch.randn(2, 3, *size, dtype=torch.float64)
        torch.testing.assert_close(ours(x), network(x))

    state = torch.load(tmp_path / 'mmsb.pth', weights_only=True)['state_dict']
    assert len(state) == len(network.state_dict())
    back = 'release' if source == 'released' else 'torchvision'
    if source.endswith('d') and source != 'released':
        with pytest.raises(UserError, match=r'is a ResNet-C or -D .* layout cannot store'):
            convert_checkpoint(tmp_path / 'mmsb.pth', tmp_path / 'back.pth', back)
        return
    convert_checkpoint(tmp_path / 'mmsb.pth', tmp_path / 'back.pth', back)
    assert equal(torch.load(tmp_path / 'back.pth', weights_only=True), network.state_dict())


@pytest.mark.parametrize('kwargs', [
    dict(depth=50),
    dict(depth=34, base_channels=16, spatial_bias=dict(size=6, stages=(True, False, True, True))),
    dict(depth=50, base_channels=8, in_channels=4, stem_channels=24,
         spatial_bias=dict(position='conv1', num_channels=2, kernel_size=5, size=(3, 4, 5, 6))),
    dict(depth=50, base_channels=8, groups=4, base_width=32, spatial_bias=dict(size=6)),
    dict(kind=SBResNet_CIFAR, depth=38),
])  # fmt: skip
def test_mmsb_to_release_and_back(tmp_path, kwargs):
    kind = kwargs.get('kind', SBResNet)
    model = Classifier(kind(**{k: v for k, v in kwargs.items() if k != 'kind'}), 10)
    randomise(model)
    meta = dict(epoch=1)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'in.pth')
    lines = []
    convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'release.pth', 'release', log=lines.append)
    names = torch.load(tmp_path / 'release.pth', weights_only=True).keys()
    assert {'fc.weight', 'layer1.0.bn2.weight', 'layer1.0.SB.sb_conv.bias',
            'layer1.0.SB.feature_reduction.0.weight',
            'layer1.0.SB.feature_reduction.1.running_var'} < names  # fmt: skip
    assert not any('spatial_bias' in name or 'backbone' in name for name in names)
    found, cfg = logged_config(lines)
    assert found is kind
    assert equal(shapes(found(**cfg)), shapes(model.backbone))
    convert_checkpoint(tmp_path / 'release.pth', tmp_path / 'back.pth', 'mmsb')
    back = torch.load(tmp_path / 'back.pth', weights_only=True)['state_dict']
    assert equal(back, model.state_dict())


def shapes(model):
    return {key: torch.tensor(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize('name', ['ResNet', 'ResNetV1d'])
def test_mmpretrain(tmp_path, name):
    """A classifier of the toolbox, into ours and (the plain one) into torchvision."""
    models = pytest.importorskip('mmpretrain.models')
    plain = models.ImageClassifier(
        backbone=dict(type=name, depth=50, base_channels=8, stem_channels=8, expansion=4),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=7, in_channels=256),
    )
    randomise(plain).eval()
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'in.pth')
    lines = []
    convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'out.pth', 'mmsb', log=lines.append)
    kind, cfg = logged_config(lines)
    ours = Classifier(kind(**{**cfg, 'init_cfg': None}), 7).double().eval()
    load_checkpoint(ours, str(tmp_path / 'out.pth'), strict=True)
    x = torch.randn(1, 3, 48, 64, dtype=torch.float64)
    torch.testing.assert_close(ours(x), plain(x))
    if name == 'ResNet':
        convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'tv.pth', 'torchvision')
        state = torch.load(tmp_path / 'tv.pth', weights_only=True)
        assert torch.equal(state['fc.bias'], plain.head.fc.bias)
        assert torch.equal(state['conv1.weight'], plain.backbone.conv1.weight)
        assert len(state) == len(plain.state_dict())


def test_a_detectors_backbone(tmp_path):
    """Its neck and heads stay in mmsb's layout; torchvision's has none, which is said."""
    resnet = torchvision.models.resnet18()
    state = {f'backbone.{k}': v for k, v in resnet.state_dict().items() if k[:3] != 'fc.'}
    state['neck.lateral.weight'] = state['roi_head.bbox_head.fc_cls.bias'] = torch.ones(2)
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'in.pth')
    convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'mmsb.pth', 'mmsb')
    assert equal(torch.load(tmp_path / 'mmsb.pth', weights_only=True)['state_dict'], state)
    lines = []
    convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'tv.pth', 'torchvision', log=lines.append)
    assert lines[0] == 'left out: 2 tensors of neck and heads'
    found = torch.load(tmp_path / 'tv.pth', weights_only=True)
    assert equal(found, {k: v for k, v in resnet.state_dict().items() if k[:3] != 'fc.'})


def test_wrappings(tmp_path):
    """DDP's prefix, and the files that timm's and torchvision's training programs save."""
    state = torchvision.models.resnet18().state_dict()
    averaged = {key: value + 1 for key, value in state.items()}
    wrapped = {f'module.{key}': value for key, value in state.items()}
    timm = dict(
        epoch=3, arch='sb_resnet18', state_dict=wrapped, optimizer={}, metric=70.5,
        args=argparse.Namespace(lr=0.1, model='sb_resnet18'), state_dict_ema=averaged,
    )  # fmt: skip
    old = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
    for content, ema, expected in (
        (state, False, state),
        (wrapped, False, state),
        (timm, False, state),
        (timm, True, averaged),
        (dict(model=state, epoch=1), False, state),
        (old, False, old),
    ):
        torch.save(content, tmp_path / 'in.pth')
        convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'out.pth', 'mmsb', ema, force=True)
        found = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
        assert equal(in_layout(read_weights(found), 'torchvision'), expected)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ('PWNED',)


def plain():
    return torchvision.models.resnet18().state_dict()


def with_key(key):
    return {**plain(), key: torch.zeros(1)}


def spatial():
    return SBResNet(18, base_channels=8).state_dict()


@pytest.mark.parametrize(('content', 'to', 'message'), [
    (plain, 'torchvision', 'has the torchvision layout already'),
    (plain, 'release', 'has no spatial bias: give --to torchvision'),
    (spatial, 'mmsb', 'has the mmsb layout already'),
    (spatial, 'torchvision', 'has spatial bias, which the torchvision layout cannot store'),
    (lambda: dict(spatial(), **{'layer2.0.context.weight': torch.ones(1)}), 'release',
     'unexpected key layer2.0.context.weight'),
    (lambda: with_key('layer1.0.se.fc1.weight'), 'mmsb', 'unexpected key layer1.0.se.fc1'),
    (lambda: SBResNet(50, plugins=[dict(cfg=dict(type='ContextBlock', ratio=1 / 4),
                                        position='after_conv3')], spatial_bias=None,
                      base_channels=8).state_dict(), 'mmsb', r'key layer1\.0\.context_block'),
    (lambda: {**torchvision.models.resnext50_32x4d().state_dict(),  # groups as RegNet's
              'layer2.0.conv2.weight': torch.ones(256, 4, 3, 3)}, 'mmsb',
     r'layer2\.0\.conv2\.weight is \(256, 4, 3, 3\)'),
    (torchvision.models.mobilenet_v2, 'mmsb', 'holds no ResNet'),
    (lambda: {k: v for k, v in plain().items() if 'layer4.1' not in k}, 'mmsb',
     r'its stages have \(2, 2, 2, 1\) basic blocks'),
    (lambda: {k: v for k, v in plain().items() if k != 'layer3.0.bn1.bias'}, 'mmsb',
     r'lacks layer3\.0\.bn1\.bias'),
    (lambda: {k: v for k, v in spatial().items() if 'layer1.0.bn1' not in k}, 'release', 'lacks'),
    (lambda: {'conv1.weight': torch.ones(3), 'layer1.0.conv1.weight': torch.ones(3)}, 'mmsb',
     'not a ResNet that mmsb builds'),
    (lambda: dict(state_dict={}), 'mmsb', 'holds no weights'),
    (lambda: [1, 2], 'mmsb', 'holds a list'),
    (lambda: dict(epoch=3), 'mmsb', 'holds no weights'),
    (lambda: dict(state_dict=plain(), extra=Malicious()), 'mmsb', 'refused: .* pickled code'),
    ('cut', 'mmsb', 'damaged or cut short'),
    ('middle', 'mmsb', 'damaged'),
    ('text', 'mmsb', 'is a text file'),
    ('gone', 'mmsb', 'does not exist'),
    ('ema', 'mmsb', r'\(state_dict_ema\); its state_dict is averaged already'),
    ('taken', 'mmsb', r'out\.pth exists: give another name, or --force'),
])  # fmt: skip
def test_what_cannot_be_converted(tmp_path, monkeypatch, content, to, message):
    """One line, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    made = content() if callable(content) else plain()
    torch.save(made.state_dict() if isinstance(made, nn.Module) else made, 'in.pth')
    size = os.path.getsize('in.pth')
    if content == 'cut':
        os.truncate('in.pth', size // 2)
    elif content == 'middle':  # whole as an archive, but for the pickle in it
        with open('in.pth', 'r+b') as file:
            file.seek(64)
            file.write(b'\0' * 2000)
    elif content == 'text':
        (tmp_path / 'in.pth').write_text('hello')
    elif content == 'gone':
        os.remove('in.pth')
    elif content == 'ema':
        torch.save(dict(state_dict=plain(), ema_state_dict={}), 'in.pth')
    elif content == 'taken':
        (tmp_path / 'out.pth').write_text('mine')
    before = sorted(os.listdir())
    with pytest.raises(UserError, match=message) as error:
        convert_checkpoint('in.pth', 'out.pth', to, ema=content == 'ema')
    assert '\n' not in str(error.value)
    assert sorted(os.listdir()) == before
    assert content != 'taken' or (tmp_path / 'out.pth').read_text() == 'mine'


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    """Under a limit on the size of files, as when the disk is full, the old file stays."""
    monkeypatch.chdir(tmp_path)
    torch.save(plain(), 'in.pth')
    (tmp_path / 'out.pth').write_text('old')
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(UserError, match=r'cannot write out\.pth: File too large'):
            convert_checkpoint('in.pth', 'out.pth', 'mmsb', force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(os.listdir()) == ['in.pth', 'out.pth']
    assert (tmp_path / 'out.pth').read_text() == 'old'


def test_tool(run_here, tmp_path):
    model = Classifier(SBResNet(18, base_channels=8), 5)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    tool = 'python', 'tools/model_converters/convert.py', 'a.pth'
    done = run_here(*tool, 'b.pth', '--to', 'release', cwd=tmp_path)
    assert done.stdout.splitlines() == [
        f'mmsb -> release: {len(model.state_dict())} tensors in b.pth',
        "backbone=dict(type='mmsb.SBResNet', depth=18, base_channels=8)",
    ]
    done = run_here(*tool, 'c.pth', '--to', 'torchvision', cwd=tmp_path, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: a.pth has spatial bias')
    assert sorted(os.listdir(tmp_path)) == ['a.pth', 'b.pth']
