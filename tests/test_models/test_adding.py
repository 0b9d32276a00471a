"""Spatial bias added to networks of torchvision and timm."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

import mmsb
from mmsb.models import SBResNet, SpatialBias
from tests import readme
from tests.conftest import assert_one_line
from tests.weights import randomise

# torchvision's ResNeXt, RegNet, MobileNetV3, EfficientNet and ConvNeXt, timm's Res2Net and others;
# small ones of each family, and in how many blocks spatial bias fits.
NETWORKS = {
    'torchvision resnext50_32x4d': 16,
    'torchvision regnet_y_400mf': 16,
    'torchvision mobilenet_v3_small': 11,
    'torchvision efficientnet_b0': 16,
    'torchvision convnext_tiny': 18,
    'timm res2net50_26w_4s': 16,
    'timm regnetx_002': 13,
    'timm convnext_atto': 12,
    'timm tf_efficientnetv2_b0': 20,  # its first block is one 3x3 convolution
}


def build(name, **kwargs):
    library, name = name.split()
    module = pytest.importorskip(library)
    torch.manual_seed(0)
    create = module.models.get_model if library == 'torchvision' else module.create_model
    model = create(name, **kwargs).eval()
    with torch.no_grad():  # nothing hidden by zeros, ones or tiny layer scales
        for key, tensor in model.state_dict().items():
            if key.endswith('running_var'):
                tensor.uniform_(0.8, 1.2)
            elif tensor.ndim <= 1 and tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape), alpha=0.1)
    return model


def biases(model):
    return {n: part for n, part in model.named_modules() if isinstance(part, SpatialBias)}


@pytest.mark.parametrize('name', NETWORKS)
def test_outputs_do_not_change_until_it_is_trained(name):
    model = build(name)
    x = torch.randn(2, 3, 64, 96)
    before, keys, cls = model(x).detach(), list(model.state_dict()), type(model)
    assert mmsb.add_spatial_bias(model) is model and type(model) is cls
    found = biases(model)
    assert len(found) == NETWORKS[name]
    assert not any(part.training for part in model.modules())
    after = model(x)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6 * before.abs().max().item())
    assert set(keys) < set(model.state_dict())
    assert all('.spatial_bias.' in key for key in model.state_dict().keys() - set(keys))

    # the new columns see the maps: their gradient is not zero
    model.train()
    assert all(part.training for part in model.modules())
    torch.manual_seed(1)
    model(x).square().sum().backward()
    for path in found:
        block = model.get_submodule(path.rpartition('.')[0])
        fed = [m for m in block.modules() if getattr(m, 'weight', None) is not None
               and m.weight.ndim > 1 and (m.weight[:, -3:] == 0).all()]  # fmt: skip
        assert len(fed) == 1 and (fed[0].weight.grad[:, -3:] != 0).any()


def test_it_is_the_papers_network():
    """torchvision's ResNet-50, spatial bias added, against SBResNet with the same weights."""
    model = build('torchvision resnet50', num_classes=10)
    mmsb.add_spatial_bias(model, where=('layer1', 'layer2', 'layer3'))
    randomise(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= 1.4 / parameter[0].numel() ** 0.5
    theirs = SBResNet().double().eval()
    state = model.state_dict()
    assert sum(p.numel() for p in model.parameters()) == 25_986_620 - 990 * 2049  # 10 classes
    for key in [key for key in state if '.maps_norm.' in key]:
        block, _, tensor = key.partition('.spatial_bias.maps_norm.')
        value = state.pop(key)
        if value.ndim:
            state[f'{block}.bn2.{tensor}'] = torch.cat([state[f'{block}.bn2.{tensor}'], value])
    state = {key: value for key, value in state.items() if not key.startswith('fc.')}
    theirs.load_state_dict(state, strict=True)
    x = torch.randn(1, 3, 64, 48, dtype=torch.float64)
    with torch.no_grad():
        ours = model.fc(model.avgpool(theirs(x)[-1]).flatten(1))
        torch.testing.assert_close(model(x), ours)


class TestWhere:
    def test_predicate_and_names(self):
        model = build('torchvision regnet_y_400mf')
        mmsb.add_spatial_bias(model, where=lambda name: 'block2' in name, size=4, num_channels=2)
        assert all('block2' in name for name in biases(model)) and biases(model)
        assert {part.size for part in biases(model).values()} == {4}
        model = build('torchvision resnext50_32x4d')
        mmsb.add_spatial_bias(model, where=['layer1.1', 'layer4'])
        assert list(biases(model)) == [
            f'{block}.spatial_bias' for block in ('layer1.1', 'layer4.0', 'layer4.1', 'layer4.2')
        ]

    @pytest.mark.parametrize(('where', 'message'), [
        (['layer1', 'stage2'], "'stage2', but spatial bias fits no such block of ResNet; it fits"),
        (lambda name: False, 'chooses none of the 16 blocks of ResNet: layer1.0, layer1.1, '),
    ], ids=['name', 'predicate'])  # fmt: skip
    def test_nothing_is_chosen(self, where, message):
        model = build('torchvision resnext50_32x4d')
        before = copy.deepcopy(model.state_dict())
        assert_one_line(lambda: mmsb.add_spatial_bias(model, where), message)
        assert not biases(model) and before.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    'name', ['torchvision vgg11', 'timm vit_tiny_patch16_224', 'timm resnet18']
)
def test_networks_without_a_place(name):
    model = build(name)
    assert_one_line(lambda: mmsb.add_spatial_bias(model), 'has no block in which a k x k')
    assert not biases(model)


def test_other_refusals():
    with torch.device('meta'):
        model = build('timm regnetx_002')
    assert_one_line(lambda: mmsb.add_spatial_bias(model), 'is on the meta device')
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmpretrain'):
        config = dict(type='mmsb.with_spatial_bias', backbone=BACKBONES['mmpretrain'])
        assert_one_line(lambda: MODELS.build(config), 'is on the meta device')
    model = build('timm regnetx_002')
    for given, message in (
        (dict(pooling='median'), "pooling is 'median': give avg or max"),
        (dict(num_channels=0), 'num_channels is 0: give 1 or more'),
        (dict(size=0), 'size is 0: give 1 or more'),
    ):
        assert_one_line(lambda given=given: mmsb.add_spatial_bias(model, **given), message)
    mmsb.add_spatial_bias(model)
    assert_one_line(lambda: mmsb.add_spatial_bias(model), 'already has spatial bias')


def test_standardised_weights_cannot_be_widened():
    """Columns of zeros would change the mean that a weight-standardised convolution subtracts."""
    model = build('timm nf_regnet_b0')
    assert_one_line(lambda: mmsb.add_spatial_bias(model), 'which cannot be widened')


def test_modes_gradients_copies_and_files():
    model = build('timm regnetx_002').train()
    model.s1.b1.conv2.bn.eval()
    calls = []
    model.s1.b1.note = 'kept'
    handle = model.s1.b1.register_forward_hook(lambda *_: calls.append(1))
    mmsb.add_spatial_bias(model)
    block = model.s1.b1
    assert block.training and block.spatial_bias.maps_norm.training and not block.conv2.bn.training
    assert block.note == 'kept'
    model.eval()
    model(torch.randn(1, 3, 64, 64))
    handle.remove()
    model(torch.randn(1, 3, 64, 64))
    assert calls == [1]
    x = torch.randn(1, 3, 64, 64)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))


def test_frozen_blocks():
    """The columns of zeros could not learn, and the rest would have no gradient."""
    model = build('timm regnetx_002')
    for parameter in model.s1.parameters():
        parameter.requires_grad_(False)
    before = list(model.s1.state_dict())
    mmsb.add_spatial_bias(model)
    assert before == list(model.s1.state_dict()) and len(biases(model)) == 12
    model = build('timm regnetx_002').requires_grad_(False)
    assert_one_line(
        lambda: mmsb.add_spatial_bias(model), 'frozen (requires_grad=False), the first: s1.b1;'
    )
    assert not biases(model)


@pytest.mark.parametrize('before', [True, False])
def test_plain_weights_load(before):
    """Before or after the call: the same model; also as a part of another."""
    plain, x = build('torchvision regnet_y_400mf'), torch.randn(2, 3, 64, 64)
    model = copy.deepcopy(plain)
    if not before:
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    mmsb.add_spatial_bias(model)
    if not before:
        whole = copy.deepcopy(nn.ModuleDict(dict(backbone=model)))
        state = {f'backbone.{key}': value for key, value in plain.state_dict().items()}
        shapes = {key: value.shape for key, value in state.items()}
        found = whole.load_state_dict(state, strict=False)
        assert not found.unexpected_keys and shapes == {k: v.shape for k, v in state.items()}
        assert all('.spatial_bias.' in key for key in found.missing_keys)
        model = whole.backbone
    torch.testing.assert_close(model(x), plain(x), rtol=0, atol=1e-5)
    state = model.state_dict()
    for key in state:
        state[key] = torch.rand_like(state[key].double()).to(state[key].dtype)
    model.load_state_dict(state)  # its own weights are taken as they are
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_export_by_tracing_and_half_precision():
    model = mmsb.add_spatial_bias(build('torchvision mobilenet_v3_small'))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
        torch.testing.assert_close(traced(x), model(x))
        with torch.autocast('cpu', torch.bfloat16):
            assert model(x).isfinite().all()


class Block(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.between = between
        self.register_buffer('table', torch.ones(1), persistent=False)

    def forward(self, x):
        return x + self.b(self.between(self, self.a(x)))


def without_gradients(_, y):
    with torch.no_grad():
        return y * 2


def without_autocast(_, y):
    with torch.autocast('cpu', enabled=not torch.is_autocast_enabled('cpu')):
        return y * 2


@pytest.mark.parametrize(('between', 'reason'), [
    (lambda _, y: y if y.sum() > 0 else 2 * y, 'cannot trace: symbolically traced variables'),
    (lambda self, y: F.dropout(y, 0.5, self.training), 'cannot trace: it does not do the same in'),
    (without_gradients, 'cannot trace: it switches gradients or autocast'),
    (without_autocast, 'cannot trace: it switches gradients or autocast'),
    (lambda _, y: y + torch.rand(1), 'cannot trace: it draws random numbers'),
    (lambda _, y: y * random.random(), 'cannot trace: it draws random numbers'),
    (lambda _, y: 2 * y if np.random.rand() < 0 else y, 'cannot trace: it draws random numbers'),
])  # fmt: skip
def test_a_forward_that_a_graph_cannot_follow_is_named(between, reason):
    model = nn.Sequential(Block(between)).train()
    model[0].a.eval()
    assert_one_line(lambda: mmsb.add_spatial_bias(model), f'0, which torch.fx {reason}')
    assert model[0].training and not model[0].a.training and model[0].b.training


@pytest.mark.parametrize('given', [{}, dict(other=torch.zeros(1, 4, 8, 8))])
def test_optional_arguments(given):
    """A graph would keep what `is None` was when it was traced."""

    class Optional(Block):
        def forward(self, x, other=None):
            return super().forward(x if other is None else x + other)

    class Network(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x, **given))

    model = Network(*(kind(lambda _, y: y) for kind in (Optional, Block)))
    reason = 'cannot trace: its forward has the optional argument other'
    assert_one_line(lambda: mmsb.add_spatial_bias(model, where='0'), reason)
    mmsb.add_spatial_bias(model)
    assert len(biases(model)) == 1 and len(model(torch.randn(1, 4, 8, 8))) == 1


def test_constants_and_buffers():
    """A tensor made in the forward; a buffer that files do not hold."""
    torch.manual_seed(0)
    model = nn.Sequential(Block(lambda self, y: y * torch.tensor(0.5) * self.table))
    before, x = list(model.state_dict()), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        wanted = model(x)
        torch.testing.assert_close(mmsb.add_spatial_bias(model)(x), wanted)
    new = set(model.state_dict()) - set(before)
    assert new and all('.spatial_bias.' in key for key in new)


def shared_weight(model):
    model[1].b.weight = model[0].b.weight


@pytest.mark.parametrize(('share', 'reason'), [
    (lambda model: model.append(model[0]), 'the weight of b is used in several places'),
    (shared_weight, 'the weight of b is used in several places'),
    (lambda model: nn.utils.spectral_norm(model[0].b), 'b is a Conv2d with a computed weight'),
    (lambda model: nn.utils.parametrizations.weight_norm(model[0].b), 'cannot be widened'),
], ids=['block', 'weight', 'spectral_norm', 'parametrized'])  # fmt: skip
def test_weights_that_are_not_the_layers_own(share, reason):
    model = nn.Sequential(*(Block(lambda _, y: y) for _ in range(2)))
    share(model)
    model(torch.randn(1, 4, 8, 8))
    assert_one_line(lambda: mmsb.add_spatial_bias(model, where='0'), reason)
    assert not biases(model)


def test_the_documentations_example(capsys):
    exec(readme.example('other networks'), {})
    said = capsys.readouterr().out
    assert 'added to 16 of 16 blocks' in said and said.endswith('torch.Size([1, 1000])\n')


BACKBONES = {  # of each toolbox, by its own registry
    'mmpretrain': dict(type='RegNet', arch='regnetx_400mf', out_indices=(0, 1, 2, 3)),
    'mmdet': dict(type='Res2Net', depth=50, scales=4, base_width=26),
    'mmseg': dict(type='ResNeXt', depth=50, groups=32, base_width=4),
}


@pytest.mark.parametrize(
    ('toolbox', 'by'),
    [*((toolbox, 'init_cfg') for toolbox in BACKBONES), ('mmdet', 'pretrained')],
)
def test_a_toolboxs_backbone_in_a_config(toolbox, by, tmp_path):
    pytest.importorskip(toolbox)
    torch.manual_seed(0)
    path = str(tmp_path / 'plain.pth')
    start = dict(init_cfg=dict(type='Pretrained', checkpoint=path), pretrained=path)[by]
    with DefaultScope.overwrite_default_scope(toolbox):
        plain = MODELS.build(BACKBONES[toolbox])
        plain.init_weights()
        model = MODELS.build(
            dict(
                type='mmsb.with_spatial_bias',
                backbone=BACKBONES[toolbox],
                where=('layer1', 'layer2', 'layer3'),
                **{by: start},
            )
        )  # the file is not needed yet: tests load other weights
        torch.save(plain.state_dict(), path)
        model.init_weights()
    assert type(model) is type(plain)
    assert {name.partition('.')[0] for name in biases(model)} == {'layer1', 'layer2', 'layer3'}
    plain.double().eval(), model.double().eval()
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(model(x), plain(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * theirs.abs().max().item())
    model.train()
    new = {n: p for n, p in model.named_parameters() if '.spatial_bias.mixing.weight' in n}
    before = {name: p.detach().clone() for name, p in new.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):  # the last norm's zeros move first, then the columns of zeros
        optimizer.zero_grad()
        sum(features.square().mean() for features in model(x)).backward()
        optimizer.step()
    assert new and not any(torch.equal(p, before[name]) for name, p in new.items())


def test_random_weights_in_a_config():
    """Without a file, as without spatial bias: also what a block initialises itself."""
    pytest.importorskip('mmdet')
    backbone = dict(type='ResNet', depth=50, zero_init_residual=True)
    with DefaultScope.overwrite_default_scope('mmdet'):
        models = []
        for config in (backbone, dict(type='mmsb.with_spatial_bias', backbone=backbone)):
            torch.manual_seed(0)
            models.append(MODELS.build(config))
            models[-1].init_weights()
    plain, model = models
    state = model.state_dict()
    assert not state['layer1.0.bn3.weight'].any()  # by the block's own init_cfg
    for key, value in plain.state_dict().items():
        assert torch.equal(
            state[key][:, : value.shape[1]] if value.ndim == 4 else state[key], value
        )


@pytest.mark.parametrize('backbone', ['mmdet', 'mmseg'])
def test_frozen_stages_and_norms_in_a_config(backbone):
    """A frozen stage gets none, so that every parameter has a gradient; new norms learn."""
    pytest.importorskip(backbone)
    config = dict(BACKBONES[backbone], frozen_stages=1, norm_eval=True)
    with DefaultScope.overwrite_default_scope(backbone):
        model = MODELS.build(dict(type='mmsb.with_spatial_bias', backbone=config, size=2))
    model.train()
    assert {name.partition('.')[0] for name in biases(model)} == {'layer2', 'layer3', 'layer4'}
    sum(features.square().mean() for features in model(torch.randn(2, 3, 64, 64))).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.num_batches_tracked == 1) == ('.spatial_bias.' in name), name
    # all groups of Res2Net's scales, not the first one
    block = model.layer2[1]
    assert block.spatial_bias.reduction.conv.in_channels == block.conv1.out_channels


def test_stages_that_train_freezes():
    """mmpretrain's MobileNetV3 freezes when train() is called, not when it is built."""
    pytest.importorskip('mmpretrain')
    config = dict(type='MobileNetV3', arch='small', frozen_stages=3)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(type='mmsb.with_spatial_bias', backbone=config, size=2))
    model.train()
    found = {int(name.partition('.')[0].removeprefix('layer')) for name in biases(model)}
    assert min(found) == 4
    model(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_synchronised_norms_in_a_config():
    pytest.importorskip('mmseg')
    config = dict(BACKBONES['mmseg'], norm_cfg=dict(type='SyncBN'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(dict(type='mmsb.with_spatial_bias', backbone=config))
    norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._NormBase)]
    assert biases(model) and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


def test_weights_of_a_whole_plain_model():
    """``load_from`` and a model's own ``init_cfg``: mmengine's way of loading."""
    pytest.importorskip('mmpretrain')
    head = dict(type='LinearClsHead', num_classes=3, in_channels=384)
    backbone = dict(BACKBONES['mmpretrain'], out_indices=(3,))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        plain, model = (
            MODELS.build(
                dict(type='ImageClassifier', backbone=config, head=head,
                     neck=dict(type='GlobalAveragePooling'))
            ).eval()
            for config in (backbone, dict(type='mmsb.with_spatial_bias', backbone=backbone))
        )  # fmt: skip
    plain.init_weights()
    load_state_dict(model, plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(x), rtol=1e-5, atol=1e-5)


def test_the_documentations_config(capsys):
    exec(readme.example('other networks in a config'), given := {})
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(given['model']['backbone'])
    assert 'added to 10 of 22 blocks' in capsys.readouterr().out
    model.eval()
    assert [f.shape[1] for f in model(torch.rand(1, 3, 64, 64))] == [32, 64, 160, 384]
