"""What is added to a plain network, spatial bias or a compared block, starts alike and learns."""

import copy
import io
from itertools import chain

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmsb.models import SBResNet, SKNet
from mmsb.models.growing import grow_state_dict
from tests.conftest import ROOT
from tests.weights import randomise

HELD = dict(frozen_stages=1, norm_eval=True)


def plugin(cfg_type, position='after_conv3', stages=None, **cfg):
    return [dict(cfg=dict(type=cfg_type, **cfg), position=position, stages=stages)]


def attention(kind, position):  # as in mmdet's configs/empirical_attention
    return plugin('GeneralizedAttention', position, attention_type=kind,
                  spatial_range=-1, num_heads=8, kv_stride=2)  # fmt: skip


PLUGINS = {
    **{
        path.stem: Config.fromfile(path).plugins
        for path in sorted((ROOT / 'configs/_base_/plugins').glob('*.py'))
    },
    # mmcv's, and blocks in other places
    'gc channel_mul': plugin('ContextBlock', ratio=1 / 4, fusion_types=('channel_mul',)),
    'gc both': plugin('ContextBlock', ratio=1 / 4, fusion_types=('channel_add', 'channel_mul')),
    'NonLocal2d': plugin('NonLocal2d', 'after_conv2'),
    'NonLocal2d norm': plugin('NonLocal2d', 'after_block', norm_cfg=dict(type='BN')),
    'attention 0010': attention('0010', 'after_conv2'),
    'attention 1111': attention('1111', 'after_conv3'),
    # of the long-range study
    'coordinate': plugin('mmsb.CoordinateAttention'),
    'global filter': plugin('mmsb.GlobalFilter', 'after_conv2', size=8),
    'large kernel': plugin('mmsb.LargeKernelBlock', 'after_block', kernel_size=15, reduction=4),
    'efficient attention': plugin('mmsb.EfficientAttention', 'after_block'),
    'context mixing': plugin('mmsb.ContextMixing', kernel_size=3),
    'two gates': plugin('mmsb.SqueezeExcitation') + plugin('mmsb.StyleRecalibration'),
    'gate early': plugin('mmsb.SqueezeExcitation', 'after_conv1', ratio=1),
}
# Gradients that are zero by the block's definition: of what adds a constant before a batch norm, or
# before a softmax, or scales what a batch norm scales back.
NO_GRADIENT = {
    'ge': ('gather.bias',),
    'nl': ('phi.bias', 'g.bias', 'z.bias'),
    'NonLocal2d norm': ('phi.conv.bias', 'g.conv.bias'),
    'gc': ('conv_mask.bias',),
    'gc both': ('conv_mask.bias',),
    'large kernel': ('expand.2.weight',),
    'bat': ('reduce.0.bias', 'compress.0.bias', 'transformed.0.bias', 'expand.0.bias'),
}


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_current_instance().setLevel('ERROR')


def build(plugins=None, bias=False, **kwargs):
    torch.manual_seed(0)
    spatial_bias = dict(size=4) if bias else None
    return SBResNet(
        **dict(dict(base_channels=8, spatial_bias=spatial_bias, plugins=plugins), **kwargs)
    )


def plain_network(**kwargs):
    """A network without additions whose weights and statistics all say something."""
    plain = randomise(build(**kwargs)).float()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter *= 0.5  # no blow-up in training
    return plain


def grown(name, bias=False, **kwargs):
    model = build(PLUGINS[name], bias, **kwargs)
    model.init_weights()  # Kaiming for every convolution, then the blocks' own
    plain = plain_network(**kwargs)
    model.load_state_dict(plain.state_dict(), strict=True)
    return model, plain


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert b.abs().max() > 0.01
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6 * b.abs().max().item())


@pytest.mark.parametrize(('name', 'bias'), [
    *((name, False) for name in PLUGINS if name != 'bat'),
    *((name, True) for name in ('se', 'gc')),
])  # fmt: skip
@torch.no_grad()
def test_features_are_at_first_the_plain_networks(name, bias):
    model, plain = grown(name, bias, **HELD)
    for training, size in ((False, (64, 64)), (False, (33, 97)), (True, (96, 40))):
        model.train(training), plain.train(training)
        x = torch.randn(1 + training, 3, *size)
        assert_same(model(x), plain(x))


def added_keys(model):
    """Names of the tensors of plugins and spatial bias, and of what spatial bias widens."""
    plugins, bias = set(), set()
    for name, block in model.named_modules():
        if not hasattr(block, 'plugin_names'):
            continue
        starts = tuple(f'{name}.{part}.' for part in chain(*block.plugin_names.values()))
        plugins |= (
            {key for key in model.state_dict() if key.startswith(starts)} if starts else set()
        )
        if block.spatial_bias_at:
            starts = tuple(f'{name}.{part}.' for part in ('spatial_bias', *block.widened_layers))
            bias |= {key for key in model.state_dict() if key.startswith(starts)}
    return plugins, bias


@pytest.mark.parametrize('name', [
    'se', 'gc', 'bat', 'nl', 'srm', 'ge', 'gc both', 'NonLocal2d norm', 'attention 0010',
    'coordinate', 'global filter', 'large kernel', 'efficient attention', 'context mixing',
])  # fmt: skip
def test_all_that_is_new_learns_and_the_frozen_rest_does_not(name):
    """From the identity, except BAT; in stages that are frozen and under norm_eval too."""
    plugins = [{k: v for k, v in one.items() if k not in ('stages', 'blocks')}
               for one in PLUGINS[name][: 2 if name == 'two gates' else 1]]  # fmt: skip
    stage = dict(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    model = build(plugins, True, **stage, **HELD).train()
    plain = build(**stage)
    plain.init_weights()
    model.load_state_dict(plain.state_dict(), strict=name != 'bat')
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.02, 0.9)
    for step in range(20):
        optimizer.zero_grad()
        torch.manual_seed(step)
        (model(torch.randn(2, 3, 48, 48))[-1] - 1).square().mean().backward()
        optimizer.step()
    after = model.state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values())
    still = {key for key in after if torch.equal(before[key], after[key])}
    plugins, bias = added_keys(model)
    assert plugins and bias
    excused = {key for key in plugins if key.endswith(NO_GRADIENT.get(name, ('none',)))}
    assert (plugins | bias) & still <= excused, sorted((plugins | bias) & still - excused)
    assert after.keys() - plugins - bias == still - excused


@pytest.mark.parametrize('name', ['se', 'gc both', 'bat', 'nl', 'attention 0010'])
def test_trained_weights_of_a_block_load_as_they_are(name):
    theirs = build(PLUGINS[name], True)
    randomise(theirs).float()
    model = build(PLUGINS[name], True)
    report = grow_state_dict(model, copy.deepcopy(theirs.state_dict()))
    assert not (report.grown or report.new or report.missing or report.unlike)
    model.load_state_dict(theirs.state_dict(), strict=True)
    for ours, given in zip(model.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(ours, given)


def test_spatial_bias_is_grown_beside_a_trained_block():
    """Neither the block's weights nor the norm before it change."""
    theirs = build(PLUGINS['se'])
    randomise(theirs).float().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter *= 0.5
    model = build(PLUGINS['se'], True).eval()
    model.load_state_dict(theirs.state_dict())
    assert torch.equal(model.layer1[0].bn3.weight, theirs.layer1[0].bn3.weight)
    x = torch.randn(2, 3, 64, 48)
    assert_same(model(x), theirs(x))


def test_from_random_weights_every_block_has_its_own_initialisation():
    """The paper's, of each: not the identity start, unless it is the same."""
    models = {name: build(PLUGINS[name]) for name in ('se', 'ge', 'srm', 'bat', 'nl', 'gc')}
    for model in models.values():
        model.init_weights()
        assert (model.layer2[0].bn3.weight == 1).all()
    se = models['se'].layer2[1].se
    assert (se.fc2.weight != 0).all() and (se.fc2.bias != 0).all()  # torch's default
    assert (models['ge'].layer2[1].gather_excite.norm.weight == 1).all()
    assert (models['srm'].layer2[1].srm.norm.weight == 1).all()
    bat = models['bat'].layer2[1].bat
    assert (bat.expand[1].weight == 1).all() and (bat.expand[1].bias == 0).all()
    assert (models['nl'].layer2[1].non_local.norm.weight == 0).all()  # Wang et al. 2018
    last = models['gc'].layer2[1].context_block.channel_add_conv[3]
    assert (last.weight == 0).all()  # Cao et al. 2019


def test_a_gate_is_one_half_and_the_norm_before_it_twice():
    model, plain = grown('se', True)
    for ours, theirs in ((model.layer1[0], plain.layer1[0]), (model.layer4[2], plain.layer4[2])):
        assert torch.equal(ours.bn3.weight, 2 * theirs.bn3.weight)
        assert torch.equal(ours.bn3.bias, 2 * theirs.bn3.bias)
        x = torch.randn(2, ours.bn3.num_features, 5, 6)
        assert torch.equal(ours.se(x), x / 2)


def test_grown_weights_are_not_grown_again():
    model, plain = grown('se', True)
    state = plain.state_dict()
    grow_state_dict(model, state)
    again = grow_state_dict(model, state)
    assert not (again.grown or again.new)
    assert torch.equal(state['layer1.0.bn3.weight'], 2 * plain.layer1[0].bn3.weight)


@pytest.fixture
def terminal():
    logger = MMLogger.get_instance('terminal', log_level='INFO')
    shown = io.StringIO()
    logger.handlers[0].setStream(shown)
    yield shown
    MMLogger._instance_dict.pop('terminal')


@pytest.mark.parametrize(('plugins', 'kwargs', 'first'), [
    (plugin('ConvModule', stages=(True, False, False, False), out_channels=32, kernel_size=1),
     {}, 'layer1.0.conv_block'),
    # its branch ends in a ReLU
    (plugin('mmsb.BATBlock', 'after_block'), {}, 'layer1.0.bat'),
    # the shortcut is not scaled with the last norm
    (plugin('mmsb.SqueezeExcitation', 'after_block'), {}, 'layer1.0.se'),
    (plugin('mmsb.SqueezeExcitation'), dict(norm_cfg=dict(type='IN')), 'layer1.0.se'),
    (plugin('mmsb.GatherExcite', extent=4, norm_cfg=dict(type='IN')), {}, 'gather_excite'),
], ids=['unknown', 'bat', 'after_block', 'no norm weights', 'own norm'])  # fmt: skip
def test_what_cannot_start_as_the_identity_is_said(plugins, kwargs, first, terminal):
    model = build(plugins, True, **kwargs)
    before = copy.deepcopy(model.state_dict())
    plain = build(**kwargs).state_dict()
    report = grow_state_dict(model, dict(plain))
    count = 3 if first.endswith('conv_block') else 16
    assert len(report.unlike) == count and not report.exact
    model.load_state_dict(plain, strict=False)
    said = terminal.getvalue()
    assert f'{count} added plugins change the features from the start, the first: ' in said
    assert first in said and 'WARNING' in said
    part = first.rpartition('.')[2]
    for key, tensor in model.state_dict().items():
        if f'.{part}.' in key:  # its own initial values
            assert torch.equal(tensor, before[key])


def test_sknet_has_no_norm_after_its_selective_kernel():
    gate = plugin('mmsb.SqueezeExcitation', 'after_conv2') + plugin('mmsb.StyleRecalibration')
    model = SKNet(base_channels=32, stem_channels=8, groups=4, plugins=gate)
    plain = SKNet(base_channels=32, stem_channels=8, groups=4).state_dict()
    report = grow_state_dict(model, plain)
    assert len(report.unlike) == 16 and all(key.endswith('.se') for key in report.unlike)


class TestWhatIsFrozen:
    """One switch for all that a plain ResNet does not have."""

    def trained(self, plugins=PLUGINS['se'], bias=True, **kwargs):
        model = build(plugins, bias, **HELD, **kwargs).train()
        plugins, bias = added_keys(model)
        learn = {key for key, p in model.layer1.named_parameters('layer1') if p.requires_grad}
        return {key for key in learn if key in plugins}, {key for key in learn if key in bias}

    def test_the_switch(self):
        with torch.device('meta'):
            for plugins, bias in (self.trained(), self.trained(freeze_spatial_bias=False)):
                assert len(plugins) == 3 * 4 and bias
            assert self.trained(freeze_spatial_bias=True) == (set(), set())

    def test_by_what_init_cfg_names(self, tmp_path):
        """Spatial bias and each plugin are judged by themselves."""
        for name, plugins, bias in (
            ('plain', None, False),
            ('sb', None, True),
            ('se', PLUGINS['se'], False),
            ('sb_se', PLUGINS['se'], True),
        ):
            state = {f'backbone.{k}': v for k, v in build(plugins, bias).state_dict().items()}
            torch.save(dict(state_dict=state), tmp_path / f'{name}.pth')
        found = {}
        with torch.device('meta'):
            for name in ('plain', 'sb', 'se', 'sb_se'):
                init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / f'{name}.pth'))
                found[name] = tuple(map(bool, self.trained(init_cfg=init_cfg)))
        assert found == dict(plain=(True, True), sb=(True, False), se=(False, True),
                             sb_se=(False, False))  # fmt: skip

    def test_the_modes_of_what_learns(self):
        model = build(PLUGINS['bat'], True, frozen_stages=3, norm_eval=True).train()
        bat = model.layer2[1].bat
        assert all(part.training for part in bat.modules())
        assert not model.layer2[1].bn3.training and not model.layer2[1].training
        model.eval()
        assert not any(part.training for part in bat.modules())

    def test_the_line_that_says_so(self, terminal):
        model = build(PLUGINS['se'], **HELD)
        model.load_state_dict(build().state_dict())
        said = terminal.getvalue()
        assert said.count('\n') == 2 and 'WARNING' not in said
        assert 'the outputs are those of this config without its new plugins' in said
        assert 'added layers keep training under frozen_stages and norm_eval: se; in frozen' in said
        assert 'times the memory' not in said  # measured for spatial bias only


@pytest.mark.parametrize('bias', [None, {}], ids=['plain', 'SB'])
def test_mmdets_gcnet_config(bias):
    """The backbone of a stock config with plugins: grown, it computes the plain network's."""
    config = pytest.importorskip('mmdet').__file__
    name = 'gcnet/mask-rcnn_r50-syncbn-gcb-r16-c3-c5_fpn_1x_coco.py'
    path = ROOT.__class__(config).parent / '.mim/configs' / name
    cfg = Config.fromfile(path).model.backbone
    cfg.pop('type'), cfg.pop('init_cfg')
    cfg.update(base_channels=16, spatial_bias=bias, norm_cfg=dict(type='BN'))
    torch.manual_seed(0)
    model = SBResNet(**cfg)
    model.init_weights()
    plain = plain_network(base_channels=16, norm_eval=False)
    model.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 96)
    assert_same(model.eval()(x), plain.eval()(x))
    assert any('context_block' in key for key in model.state_dict())
