"""Growing plain ResNet weights into SB-ResNet."""

import copy

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint
from torch import nn

from mmsb.checkpoints import grow_state_dict
from mmsb.errors import UserError
from mmsb.models import SBResNet

SIZES = [(64, 64), (33, 97), (96, 40)]


def build(**kwargs):
    return SBResNet(**{'base_channels': 8, 'spatial_bias': dict(size=4), **kwargs})


def plain_weights(seed=0, **kwargs):
    """Random weights and statistics of the plain network."""
    torch.manual_seed(seed)
    model = build(**kwargs, spatial_bias=None).eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 2) if name.endswith('running_var') else tensor.normal_(std=0.2)
    return model


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_current_instance().setLevel('WARNING')


@pytest.mark.parametrize('kwargs', [
    dict(depth=50),
    dict(depth=18),
    dict(depth=50, spatial_bias=dict(size=4, position='conv1')),
    dict(depth=50, spatial_bias=dict(size=4, stages=(True,) * 4, num_channels=5)),
    dict(depth=50, deep_stem=True, avg_down=True),
], ids=['r50', 'r18', 'conv1', 'stage 4', 'v1d'])  # fmt: skip
def test_function_is_preserved(kwargs):
    plain = plain_weights(**{k: v for k, v in kwargs.items() if k != 'spatial_bias'})
    grown = build(**kwargs)
    grown.load_state_dict(plain.state_dict(), strict=False)
    grown.eval()
    for size in SIZES:
        x = torch.randn(2, 3, *size)
        for ours, theirs in zip(grown(x), plain(x), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('toolbox', ['mmdet', 'mmseg', 'mmpretrain', 'torchvision', 'timm'])
def test_layouts_of_the_toolboxes(toolbox, tmp_path):
    """A checkpoint file of each, with its head, read as init_cfg reads it."""
    if toolbox in ('torchvision', 'timm'):
        library = pytest.importorskip(toolbox)
        create = library.models.resnet50 if toolbox == 'torchvision' else library.create_model
        plain = create() if toolbox == 'torchvision' else create('resnet50')
        state, prefix = plain.state_dict(), None
    else:
        module = pytest.importorskip(f'{toolbox}.models')
        plain = (module.backbones if toolbox != 'mmpretrain' else module).ResNet(50)
        # their files hold a whole detector, segmentor or classifier
        state = {f'backbone.{key}': value for key, value in plain.state_dict().items()}
        state['head.fc.weight'], prefix = torch.zeros(3, 3), 'backbone.'
    path = tmp_path / 'resnet50.pth'
    torch.save(dict(state_dict=state), path)
    grown = SBResNet(init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix=prefix))
    grown.init_weights()
    reference = SBResNet(spatial_bias=None)
    reference.load_state_dict({k.removeprefix(prefix or ''): v for k, v in state.items()},
                              strict=False)  # fmt: skip
    x = torch.randn(1, 3, 48, 64)
    for ours, theirs in zip(grown.eval()(x), reference.eval()(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_new_parts_keep_their_initialisation_and_learn():
    plain = plain_weights()
    grown = build()
    grown.init_weights()
    before = copy.deepcopy(grown.state_dict())
    grown.load_state_dict(plain.state_dict(), strict=False)
    block = grown.layer2[0]
    assert (block.conv3.weight[:, -3:] == 0).all()
    assert torch.equal(block.bn2.weight[-3:], torch.ones(3))
    assert torch.equal(block.bn2.running_var[-3:], torch.ones(3))
    state = grown.state_dict()
    for name in state:
        if 'spatial_bias' in name:
            assert torch.equal(state[name], before[name])

    grown.train()
    optimizer = torch.optim.SGD(grown.parameters(), lr=1e-3)
    for step in range(20):
        optimizer.zero_grad()
        torch.manual_seed(step)
        grown(torch.randn(2, 3, 48, 48))[-1].square().mean().backward()
        if step == 0:  # gradients reach the new columns from the first step
            assert (block.conv3.weight.grad[:, -3:] != 0).any()
        optimizer.step()
    assert (block.conv3.weight[:, -3:] != 0).any()
    assert not torch.equal(block.spatial_bias.mixing.weight, before[
        'layer2.0.spatial_bias.mixing.weight'])  # fmt: skip


def test_inside_a_detector_with_load_from(tmp_path):
    class Detector(nn.Module):
        def __init__(self, backbone):
            super().__init__()
            self.backbone = backbone
            self.head = nn.Linear(3, 3)

    plain = Detector(plain_weights())
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    grown = Detector(build()).eval()
    load_checkpoint(grown, str(tmp_path / 'plain.pth'))
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(grown.backbone(x)[-1], plain.backbone(x)[-1])
    assert torch.equal(grown.head.weight, plain.head.weight)


def test_every_key_is_reported():
    state = plain_weights().state_dict()
    state['fc.weight'] = torch.zeros(2, 2)
    del state['bn1.weight']
    model = build()
    report = grow_state_dict(model, state)
    assert 'layer1.0.conv3.weight' in report.grown and 'layer1.0.bn2.running_var' in report.grown
    assert len(report.grown) == 13 * 5  # conv3 and the four tensors of bn2, in 13 blocks
    assert report.unexpected == ['fc.weight']
    assert 'bn1.weight' in report.new and 'layer1.0.spatial_bias.mixing.weight' in report.new
    assert set(report.loaded + report.grown + report.new) == set(model.state_dict())


def test_sb_weights_are_not_grown():
    model = build()
    report = grow_state_dict(build(), model.state_dict())
    assert report.grown == [] and report.new == [] and report.unexpected == []
    other = build()
    other.load_state_dict(model.state_dict())  # strict
    assert torch.equal(other.layer1[0].conv3.weight, model.layer1[0].conv3.weight)


@pytest.mark.parametrize(('given', 'message'), [
    (dict(depth=101), 'another depth: its layer3 has 23 bottleneck blocks, this backbone has 6'),
    (dict(depth=34), 'another depth: its layer1 has 3 basic blocks, this backbone has 3 bottle'),
    (dict(deep_stem=True), 'different stems'),
    (dict(base_channels=16), 'tensors have another shape'),
    (dict(spatial_bias=dict(size=4, num_channels=2)), 'tensors have another shape'),
    (dict(spatial_bias=dict(size=5)), 'tensors have another shape'),
])  # fmt: skip
def test_another_architecture_is_refused(given, message):
    model = build()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError, match=message):
        model.load_state_dict(build(**given).state_dict(), strict=False)
    after = model.state_dict()  # nothing half-loaded
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_missing_prefix_is_explained():
    state = {f'backbone.{key}': value for key, value in plain_weights().state_dict().items()}
    with pytest.raises(UserError, match=r"give prefix='backbone\.' in init_cfg"):
        build().load_state_dict(state, strict=False)
