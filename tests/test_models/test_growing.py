"""Growing plain ResNet weights into SB-ResNet."""

import copy
import io

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_checkpoint, load_state_dict
from torch import nn

from mmsb.models import SBResNet, SBResNet_CIFAR
from mmsb.models.growing import grow_state_dict
from mmsb.utils.errors import UserError
from tests.weights import randomise

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


@pytest.fixture
def terminal(tmp_path):
    """What the terminal shows since it was last asked; the log file is run.log."""
    logger = MMLogger.get_instance('terminal', log_file=str(tmp_path / 'run.log'), log_level='INFO')
    shown = io.StringIO()
    logger.handlers[0].setStream(shown)

    def read():
        text = shown.getvalue()
        shown.truncate(0)
        shown.seek(0)
        return text

    yield read
    MMLogger._instance_dict.pop('terminal')


@pytest.mark.parametrize('kwargs', [
    dict(depth=50),
    dict(depth=18),
    dict(depth=50, spatial_bias=dict(size=4, position='conv1')),
    dict(depth=50, spatial_bias=dict(size=4, stages=(True,) * 4, num_channels=5)),
    dict(depth=50, deep_stem=True, avg_down=True),
    dict(depth=50, groups=4, base_width=32),
], ids=['r50', 'r18', 'conv1', 'stage 4', 'v1d', 'x50'])  # fmt: skip
def test_function_is_preserved(kwargs):
    plain = plain_weights(**{k: v for k, v in kwargs.items() if k != 'spatial_bias'})
    grown = build(**kwargs)
    grown.load_state_dict(plain.state_dict(), strict=False)
    grown.eval()
    for size in SIZES:
        x = torch.randn(2, 3, *size)
        for ours, theirs in zip(grown(x), plain(x), strict=True):
            torch.testing.assert_close(ours, theirs)


def of_library(library, depth, variant=''):
    """A plain ResNet built by a library, with random weights and statistics, in eval mode."""
    torch.manual_seed(0)
    if library == 'torchvision':
        model = pytest.importorskip(library).models.get_model(f'resnet{depth}')
    elif library == 'timm':
        model = pytest.importorskip(library).create_model(f'resnet{depth}{variant}')
    else:
        module = pytest.importorskip(f'{library}.models')
        module = module if library == 'mmpretrain' else module.backbones
        model = getattr(module, f'ResNetV1{variant}' if variant else 'ResNet')(depth=depth)
    for name, tensor in model.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
        elif tensor.ndim == 1:
            tensor.normal_(mean=float('weight' in name), std=0.1)
    model.eval()  # mmdet's returns None
    return model


def features_of(model, x):
    """What a library's own forward makes in each stage."""
    outs = []
    hooks = [
        getattr(model, f'layer{i}').register_forward_hook(lambda m, args, out: outs.append(out))
        for i in (1, 2, 3, 4)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return outs


@pytest.mark.parametrize(('library', 'depth', 'variant'), [
    *((library, 50, '') for library in ('torchvision', 'timm', 'mmdet', 'mmseg', 'mmpretrain')),
    ('torchvision', 18, ''),
    # deep stems and pooled shortcuts, which each of them names its own way
    *((library, 18, 'd') for library in ('timm', 'mmdet', 'mmpretrain')),
])  # fmt: skip
def test_layouts_of_the_libraries(library, depth, variant, tmp_path):
    """A checkpoint file of each, with its head, read as init_cfg reads it."""
    plain = of_library(library, depth, variant)
    state, prefix = plain.state_dict(), None
    if library.startswith('mm'):  # their files hold a whole detector, segmentor or classifier
        state = {f'backbone.{key}': value for key, value in state.items()}
        state['head.fc.weight'], prefix = torch.zeros(3, 3), 'backbone.'
    torch.save(dict(state_dict=state), tmp_path / 'plain.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'), prefix=prefix)
    deep = variant == 'd'
    grown = SBResNet(depth, deep_stem=deep, avg_down=deep, init_cfg=init_cfg).eval()
    grown.init_weights()
    assert any((block.bn2 if depth == 50 else block.bn1).running_mean.abs().sum() > 0
               for block in grown.layer1)  # fmt: skip
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            ours = grown(x)
        for our, their in zip(ours, features_of(plain, x), strict=True):
            assert their.std() > 0.1  # not a network that says nothing
            torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5 * their.abs().max())


@pytest.mark.parametrize('library', ['timm', 'mmpretrain'])
def test_renamed_keys_load_strictly(library):
    """No key of the library's own names is left beside ours."""
    state = of_library(library, 18, 'd').state_dict()
    state = {key: value for key, value in state.items() if not key.startswith('fc.')}
    SBResNet(18, deep_stem=True, avg_down=True).load_state_dict(state, strict=True)


def test_torchvision_address(tmp_path, monkeypatch):
    """``torchvision://``, with the file already in torch's cache."""
    weights = pytest.importorskip('torchvision').models.ResNet50_Weights.IMAGENET1K_V1
    plain = of_library('torchvision', 50)
    cache = tmp_path / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    torch.save(plain.state_dict(), cache / weights.url.split('/')[-1])
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    grown = SBResNet(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'))
    grown.init_weights()
    x = torch.randn(1, 3, 48, 64)
    torch.testing.assert_close(grown.eval()(x)[-1], features_of(plain, x)[-1],
                               rtol=1e-4, atol=1e-4)  # fmt: skip


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


def test_every_key_is_reported(tmp_path, terminal):
    state = plain_weights().state_dict()
    state['fc.weight'] = state['layer1.0.se.weight'] = torch.zeros(2, 2)
    del state['bn1.weight'], state['bn1.num_batches_tracked']
    given = set(state)
    model = build()
    report = grow_state_dict(model, state)
    assert 'layer1.0.conv3.weight' in report.grown and 'layer1.0.bn2.running_var' in report.grown
    assert len(report.grown) == 13 * 5  # conv3 and the four tensors of bn2, in 13 blocks
    assert set(report.new) == {key for key in model.state_dict() if 'spatial_bias' in key}
    assert report.missing == ['bn1.weight']
    assert report.unexpected == ['fc.weight', 'layer1.0.se.weight']
    assert set(report.loaded + report.grown + report.unexpected) == given
    assert set(report.loaded + report.grown + report.new + report.missing) == (
        set(model.state_dict()) - {'bn1.num_batches_tracked'})  # fmt: skip

    # the terminal: counts and first names; the log file: all names
    report.log(model)
    printed = terminal()
    assert 'WARNING' in printed and len(printed) < 800 and printed.count('\n') == 1
    for part in ('65 grown (layer1.0.bn2.weight, ', '104 new (',
                 '1 missing (bn1.weight)', '1 unexpected (layer1.0.se.weight)',
                 '1 unexpected but harmless, from a head or later stage (fc.weight)'):  # fmt: skip
        assert part in printed
    written = (tmp_path / 'run.log').read_text()
    assert all(key in written for key in (*given, *model.state_dict()) if 'bn1.num' not in key)


def test_what_the_terminal_says(terminal):
    def messages(model, state, strict=False):
        load_state_dict(model, state, strict, logger='current')
        return terminal()

    plain = plain_weights().state_dict()
    said = messages(build(), plain, strict=True)  # nothing is missing once grown
    assert (
        said.count('\n') == 1
        and 'the outputs are those of this config with spatial_bias=None' in said
    )
    said = messages(build(), {**plain, 'fc.weight': torch.zeros(2, 2)})
    assert (
        'INFO' in said.splitlines()[0]
        and 'the outputs are those of this config with spatial_bias=None' in said
    )
    assert 'spatial_bias' not in said.split('do not match exactly')[1]  # mmengine's own words

    plugins = [dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position='after_conv3')]
    model = build(plugins=plugins, frozen_stages=1)
    said = messages(model, plain)
    assert 'spatial_bias=None and without its new plugins' in said and 'missing' not in said
    assert 'initial values' not in said
    said = messages(build(plugins=plugins, frozen_stages=1, freeze_spatial_bias=True), plain)
    assert 'frozen at their initial values, the first: layer1.0.spatial_bias' in said
    said = messages(build(frozen_stages=1, freeze_spatial_bias=True), plain)
    assert 'initial values, the first: layer1.0.spatial_bias' in said
    assert 'initial values' not in messages(build(frozen_stages=1), plain)

    three = build(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    assert 'the outputs are those of this config with spatial_bias=None' in messages(three, plain)

    assert messages(build(), build().state_dict()) == ''
    for held in (dict(norm_eval=True), dict(frozen_stages=1)):
        said = messages(build(**held), build().state_dict())
        assert 'set freeze_spatial_bias=True' in said and said.count('\n') == 1
        assert ('in frozen stage 1 too' in said) == ('frozen_stages' in held)
        assert messages(build(**held, freeze_spatial_bias=True), build().state_dict()) == ''
    assert messages(build(frozen_stages=0), build().state_dict()) == ''
    # plain weights, whose spatial bias learns in the frozen stages: one line says what it costs
    said = messages(build(frozen_stages=1), plain)
    assert 'set spatial_bias=dict(stages=(False, True, True, False))' in said
    assert 'times the memory' in said and said.count('\n') == 2
    without = build(frozen_stages=1, spatial_bias=dict(size=4, stages=(False, True, True, False)))
    assert 'keep training' not in messages(without, plain)
    wrapped = nn.ModuleDict(dict(backbone=build()))  # a backbone's own weights as load_from
    assert 'holds nothing for it' in messages(wrapped, plain)


def test_trained_plugins_are_loaded():
    plugin = dict(cfg=dict(type='mmsb.BATBlock'), position='after_block')
    plugins = [dict(plugin, stages=(False, True, True, False))]
    plain = plain_weights(plugins=plugins)
    grown = build(plugins=plugins)
    grown.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(grown.eval()(x)[-1], plain(x)[-1])


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
def test_widened_deformable_convolution(kind):
    # beside conv1, spatial bias widens conv2 and the convolution that makes its offsets
    dcn = dict(dcn=dict(type=kind, deform_groups=1), stage_with_dcn=(False, True, True, True))
    plain = plain_weights(**dcn)
    grown = build(spatial_bias=dict(size=4, position='conv1'), **dcn).eval()
    grown.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(grown(x)[-1], plain(x)[-1])


@pytest.mark.parametrize('norm_cfg', [dict(type='SyncBN'), dict(type='IN'),
                                      dict(type='BN', requires_grad=False)])  # fmt: skip
def test_other_norms(norm_cfg):
    plain = plain_weights(norm_cfg=norm_cfg)
    grown = build(norm_cfg=norm_cfg).eval()
    grown.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(grown(x)[-1], plain(x)[-1])


def test_cifar():
    plain = SBResNet_CIFAR(20, spatial_bias=None).eval()
    randomise(plain).float()
    grown = SBResNet_CIFAR(20).eval()
    grown.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(grown(x)[-1], plain(x)[-1], rtol=1e-4, atol=1e-4)


def test_ema_of_a_grown_network():
    """mmengine's EMA loads the checkpoint into its own copy, strictly."""
    plain = plain_weights()
    grown = build().eval()
    ema = ExponentialMovingAverage(grown)
    load_state_dict(ema.module, plain.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(ema.module.eval()(x)[-1], plain(x)[-1])


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
    (dict(avg_down=True), 'different shortcuts .* set avg_down'),
    (dict(base_channels=16), 'tensors have another shape'),
    (dict(spatial_bias=dict(size=4, num_channels=2)), 'tensors have another shape'),
    (dict(spatial_bias=dict(size=5)), 'tensors have another shape'),
])  # fmt: skip
def test_another_architecture_is_refused(given, message):
    # inside a detector, whose other parts must not be loaded either
    model = nn.ModuleDict(dict(backbone=build(), neck=nn.Linear(2, 2)))
    before = copy.deepcopy(model.state_dict())
    wrong = {f'backbone.{key}': value for key, value in build(**given).state_dict().items()}
    wrong['neck.weight'] = torch.zeros(2, 2)
    shapes = {key: value.shape for key, value in wrong.items()}
    for load in (model.load_state_dict, lambda state: load_state_dict(model, state)):
        with pytest.raises(UserError, match=message) as error:
            load(wrong)
        assert '\n' not in str(error.value)
        after = model.state_dict()  # nothing half-loaded
        assert all(torch.equal(before[key], after[key]) for key in before)
    with pytest.raises(UserError):
        grow_state_dict(model['backbone'], wrong, 'backbone.')
    assert {key: value.shape for key, value in wrong.items()} == shapes


def test_deep_stem_into_a_plain_one_and_back():
    for library in ('timm', 'mmdet', 'mmpretrain'):
        state = of_library(library, 18, 'd').state_dict()
        with pytest.raises(UserError, match='set deep_stem to match'):
            SBResNet(18).load_state_dict(state, strict=False)
    with pytest.raises(UserError, match='set deep_stem to match'):
        build(deep_stem=True).load_state_dict(plain_weights().state_dict())


def test_meta_device():
    with torch.device('meta'):
        model = build(frozen_stages=1, norm_eval=True)
    with pytest.raises(UserError, match='meta device'):
        model.load_state_dict(plain_weights().state_dict(), assign=True)


def test_missing_prefix_is_explained():
    state = {f'backbone.{key}': value for key, value in plain_weights().state_dict().items()}
    with pytest.raises(UserError, match=r"give prefix='backbone\.' in init_cfg"):
        build().load_state_dict(state, strict=False)
