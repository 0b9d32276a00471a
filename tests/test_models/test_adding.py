"""Spatial bias added to networks of torchvision and timm."""

import copy
import pickle

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
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
    model = mmsb.add_spatial_bias(build('timm regnetx_002'))
    assert_one_line(lambda: mmsb.add_spatial_bias(model), 'already has spatial bias')


def test_standardised_weights_cannot_be_widened():
    """Columns of zeros would change the mean that a weight-standardised convolution subtracts."""
    model = build('timm nf_regnet_b0')
    assert_one_line(lambda: mmsb.add_spatial_bias(model), 'which cannot be widened')


def test_modes_gradients_copies_and_files():
    model = build('timm regnetx_002').train()
    model.s1.b1.conv2.bn.eval()
    for parameter in model.s1.parameters():
        parameter.requires_grad_(False)
    mmsb.add_spatial_bias(model)
    block = model.s1.b1
    assert block.training and block.spatial_bias.maps_norm.training and not block.conv2.bn.training
    assert not block.conv3.conv.weight.requires_grad  # what was frozen stays so
    assert block.spatial_bias.mixing.weight.requires_grad
    model.eval()
    x = torch.randn(1, 3, 64, 64)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))


def test_export_by_tracing_and_half_precision():
    model = mmsb.add_spatial_bias(build('torchvision mobilenet_v3_small'))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
        torch.testing.assert_close(traced(x), model(x))
        with torch.autocast('cpu', torch.bfloat16):
            assert model(x).isfinite().all()


def test_a_forward_that_cannot_be_traced_is_named():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            y = self.a(x)
            return self.b(y) if y.sum() > 0 else y

    model = nn.Sequential(Block())
    assert_one_line(lambda: mmsb.add_spatial_bias(model), '0, which torch.fx cannot trace')


def test_the_documentations_example(capsys):
    exec(readme.example('other networks'), {})
    said = capsys.readouterr().out
    assert 'added to 16 of 16 blocks' in said and said.endswith('torch.Size([1, 1000])\n')


BACKBONES = {  # of each toolbox, by its own registry
    'mmpretrain': dict(type='RegNet', arch='regnetx_400mf', out_indices=(0, 1, 2, 3)),
    'mmdet': dict(type='Res2Net', depth=50, scales=4, base_width=26),
    'mmseg': dict(type='ResNeXt', depth=50, groups=32, base_width=4),
}


@pytest.mark.parametrize('toolbox', BACKBONES)
def test_a_toolboxs_backbone_in_a_config(toolbox, tmp_path):
    pytest.importorskip(toolbox)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(toolbox):
        plain = MODELS.build(BACKBONES[toolbox])
        plain.init_weights()
        torch.save(plain.state_dict(), tmp_path / 'plain.pth')
        start = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'))
        model = MODELS.build(
            dict(
                type='mmsb.with_spatial_bias',
                backbone=BACKBONES[toolbox],
                init_cfg=start,
                where=('layer1', 'layer2', 'layer3'),
            )
        )
    assert type(model) is type(plain)
    assert {name.partition('.')[0] for name in biases(model)} == {'layer1', 'layer2', 'layer3'}
    model.init_weights()  # as its parent does once more: nothing changes
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


def test_the_documentations_config(capsys):
    exec(readme.example('other networks in a config'), given := {})
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(given['model']['backbone'])
    assert 'added to 10 of 22 blocks' in capsys.readouterr().out
    model.eval()
    assert [f.shape[1] for f in model(torch.rand(1, 3, 64, 64))] == [32, 64, 160, 384]
