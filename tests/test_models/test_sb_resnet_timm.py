"""SB-ResNet in timm: against timm's own ResNet, and docs/other-frameworks.md as it stands."""

import copy
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from mmsb.models import SBResNet
from mmsb.models.backbones import sb_resnet_timm
from mmsb.models.backbones.residual_block import ResidualBlock
from mmsb.utils.errors import UserError
from tests import readme
from tests.conftest import ROOT

timm = pytest.importorskip('timm')
PLAIN = {
    'sb_resnet18': 'resnet18', 'sb_resnet34': 'resnet34', 'sb_resnet50': 'resnet50',
    'sb_resnet101': 'resnet101', 'sb_resnet152': 'resnet152',
    'sb_resnext50_32x4d': 'resnext50_32x4d', 'sb_wide_resnet50_2': 'wide_resnet50_2',
}  # fmt: skip
SMALL = dict(base_channels=8, spatial_bias=dict(size=4))


def create(name='sb_resnet18', **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, **kwargs)


def small(**kwargs):
    return create(**{**SMALL, **kwargs})


def randomised(model):
    """The model in eval mode; norms at their initial values would hide whole branches."""
    for name, tensor in model.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
        elif tensor.ndim == 1:
            tensor.normal_(mean=float('weight' in name), std=0.1)
    return model.eval()


@pytest.fixture
def x():
    return torch.randn(2, 3, 64, 72, generator=torch.Generator().manual_seed(1))


def test_names():
    assert timm.list_models('sb_*') == [*PLAIN]
    assert not timm.list_models('sb_*', pretrained=True)


def test_mmsb_after_timm():
    code = 'import timm, mmsb; assert timm.is_model("sb_resnet50")'
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, check=True, timeout=120)


def test_an_old_timm_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(sb_resnet_timm, 'print_log', lambda text, *args: said.append(text))
    sb_resnet_timm.register(SimpleNamespace())
    assert len(said) == 1 and 'too old' in said[0] and 'pip install -U timm' in said[0]


@pytest.mark.parametrize(('name', 'plain'), PLAIN.items())
def test_without_spatial_bias_it_is_timms_resnet(name, plain):
    with torch.device('meta'):
        ours, theirs = create(name, spatial_bias=dict(num_channels=0)), create(plain)
        whole = create(name)
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert [{**info, 'module': ''} for info in ours.feature_info] == [
        {**info, 'module': ''} for info in theirs.feature_info
    ]
    for key in ('input_size', 'pool_size', 'mean', 'std', 'first_conv', 'classifier'):
        assert whole.default_cfg[key] == theirs.default_cfg[key]
    if name == 'sb_resnet50':  # Table 6
        assert sum(parameter.numel() for parameter in whole.parameters()) == 25_986_620


@pytest.mark.parametrize('coarse', [False, True])
def test_parameters_are_grouped_as_in_timm(coarse):
    with torch.device('meta'):
        ours, theirs = create(), create('resnet18')
    groups = [
        timm.models.group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
        for model in (ours, theirs)
    ]
    for name, group in groups[0].items():
        block = name.partition('spatial_bias')[0]  # spatial bias belongs to its block
        assert group == groups[1][name if block == name else f'{block}bn1.bias']
    with torch.device('meta'):
        deep = small(deep_stem=True)
    groups = timm.models.group_parameters(deep, deep.group_matcher(coarse=coarse), reverse=True)
    assert groups['stem.0.weight'] == groups['stem.7.bias'] == 0 < groups['layer1.0.bn1.weight']


@pytest.mark.parametrize(
    ('name', 'output_stride'),
    [('sb_resnet18', 32), ('sb_resnet18', 16), ('sb_resnet18', 8), ('sb_resnet50', 8)],
)
def test_grown_it_computes_what_timms_resnet_does(name, output_stride, tmp_path, x):
    plain = randomised(create(PLAIN[name], output_stride=output_stride)).double()
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    path = str(tmp_path / 'plain.pth')
    grown = create(name, output_stride=output_stride, checkpoint_path=path).eval()
    grown, x = grown.double(), x.double()
    with torch.no_grad():
        torch.testing.assert_close(grown(x), plain(x))
        ours, theirs = (model.forward_intermediates(x) for model in (grown, plain))
        torch.testing.assert_close(ours[0], theirs[0])
        for one, other in zip(ours[1], theirs[1], strict=True):
            torch.testing.assert_close(one, other)


def test_grown_features_of_other_channels(tmp_path, x):
    torch.save(randomised(create('resnet18')).state_dict(), tmp_path / 'plain.pth')
    options = dict(
        pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / 'plain.pth')),
        features_only=True, in_chans=1, out_indices=(1, -1),
    )  # fmt: skip
    ours, theirs = (create(name, **options).eval() for name in ('sb_resnet18', 'resnet18'))
    assert ours.feature_info.channels() == theirs.feature_info.channels() == [64, 512]
    with torch.no_grad():
        for one, other in zip(ours(x[:, :1]), theirs(x[:, :1]), strict=True):
            torch.testing.assert_close(one, other)


def test_weights_of_another_depth_are_refused(tmp_path):
    torch.save(create('resnet34').state_dict(), tmp_path / 'plain.pth')
    with pytest.raises(UserError, match='another depth'):
        create(checkpoint_path=str(tmp_path / 'plain.pth'))
    with pytest.raises(RuntimeError, match='No pretrained weights exist for sb_resnet18'):
        create(pretrained=True)


def test_a_saved_model_comes_back(tmp_path, x):
    model = randomised(small(num_classes=3))
    timm.models.save_for_hf(model, tmp_path, model_args=SMALL)
    again = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    assert torch.equal(again(x), model(x))


def test_head(x):
    model = small(num_classes=7, drop_rate=0.5, zero_init_residual=True)
    assert all(not model.get_submodule(f'layer{i}.1.bn2').weight.any() for i in (1, 2, 3, 4))
    randomised(model)
    features = model.forward_features(x)
    assert features.shape == (2, model.num_features, 2, 3)
    pooled = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, features.mean((2, 3)))
    assert model.get_classifier() is model.fc and model.get_classifier(name_only=True) == 'fc'
    logits = pooled @ model.fc.weight.T + model.fc.bias
    torch.testing.assert_close(model(x), logits)
    model.head_drop.train()  # whatever is kept is doubled
    dropped = model.forward_head(features, pre_logits=True)
    assert 0 < (dropped == 0).sum() < dropped.numel()
    torch.testing.assert_close(dropped[dropped != 0], 2 * pooled[dropped != 0])
    model.eval().reset_classifier(5)
    assert model(x).shape == (2, 5) and model.num_classes == 5
    model.reset_classifier(0, 'max')
    torch.testing.assert_close(model(x), features.amax((2, 3)))
    model.reset_classifier(0, '')
    torch.testing.assert_close(model(x), features)
    assert small(num_classes=0, global_pool='catavgmax').eval()(x).shape == (2, 2 * 64)


def test_intermediates_are_the_backbones(x):
    model = randomised(small(num_classes=0))
    backbone = SBResNet(depth=18, **SMALL)
    backbone.load_state_dict(model.state_dict())
    stages = backbone.eval()(x)
    last, features = model.forward_intermediates(x)
    assert torch.equal(last, stages[-1]) and features[0].shape == (2, 8, 32, 36)
    for one, other in zip(features[1:], stages, strict=True):
        assert torch.equal(one, other)
    for indices, expected in ((2, [3, 4]), ([1, -2], [1, 3]), ((0,), [0])):
        found = model.forward_intermediates(x, indices, intermediates_only=True)
        assert [f.shape for f in found] == [features[i].shape for i in expected]
    model.layer4 = None  # calling it would fail
    assert len(model.forward_intermediates(x, [0, 3], stop_early=True)[1]) == 2
    for wrong in (0, 6, [5], [-6], []):
        with pytest.raises(UserError, match='0 to 4'):
            model.forward_intermediates(x, wrong)
    with pytest.raises(UserError, match='NCHW'):
        model.forward_intermediates(x, output_fmt='NLC')


def test_wrong_output_stride():
    with pytest.raises(UserError, match='8, 16, 32'):
        small(output_stride=4)


@pytest.mark.parametrize('feature_cls', [None, 'list', 'getter', 'fx', 'hook'])
@pytest.mark.parametrize('stem', [{}, dict(deep_stem=True, avg_down=True)], ids=['', 'd'])
def test_features_of_each_class(feature_cls, stem, x):
    model = randomised(small(**stem))
    features = small(features_only=True, feature_cls=feature_cls, **stem)
    state = model.state_dict()
    prefix = dict(list='', fx='graph_module.', hook='body.').get(feature_cls, 'model.')
    state = {f'{prefix}{key}': value for key, value in state.items()}
    found = features.load_state_dict(state, strict=False)
    assert found.missing_keys == []
    expected = model.forward_intermediates(x, intermediates_only=True)
    for one, other, info in zip(features.eval()(x), expected, features.feature_info, strict=True):
        torch.testing.assert_close(one, other)
        assert other.shape[1] == info['num_chs']
        assert other.shape[3] == -(-72 // info['reduction'])


def test_features_drop_what_they_do_not_need_and_keep_frozen_stages():
    features = small(features_only=True, out_indices=(1, 2), frozen_stages=1).train()
    names = {name.split('.')[1] for name, _ in features.named_parameters()}
    assert names == {'conv1', 'bn1', 'layer1', 'layer2'}
    assert not features.model.bn1.training and not features.model.layer1[1].bn2.training
    assert features.model.layer2[1].bn2.training


def test_gradient_checkpointing(x):
    for make in (small, lambda: small(features_only=True, out_indices=(4,))):
        model, calls = make(), []
        twin = copy.deepcopy(model)
        model.set_grad_checkpointing()
        network = getattr(model, 'model', model)
        network.layer2[0].conv2.register_forward_hook(lambda *args, calls=calls: calls.append(1))
        for one in (model, twin):
            out = one(x)
            (out[0] if isinstance(out, list) else out).square().mean().backward()
        assert len(calls) == 2
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)
        model.set_grad_checkpointing(False)
        model(x)
        assert len(calls) == 3


@pytest.mark.parametrize('options', [
    dict(drop_path_rate=0.1, num_classes=3), dict(name='sb_resnet50', with_cp=True),
    dict(features_only=True), dict(features_only=True, feature_cls='list'),
], ids=['drop path', 'resnet50', 'features', 'list'])  # fmt: skip
def test_torchscript(options, x):
    """In the mode of the model; a script follows ``train()`` and ``eval()`` then."""
    model = randomised(small(**options))
    expected = model(x)
    script = torch.jit.script(model)
    for one, other in zip(script(x), expected, strict=True):
        assert torch.equal(one, other)
    if options.get('feature_cls') != 'list':
        assert any(isinstance(part, ResidualBlock) for part in model.modules())
    if 'drop_path_rate' not in options:
        outputs = [copy.deepcopy(one).train()(x) for one in (model, script)]
        for one, other in zip(*outputs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)  # norms over few values


def test_drop_path_is_not_scripted_for_training():
    with pytest.raises(UserError, match=r'eval\(\)'):
        torch.jit.script(small(drop_path_rate=0.1).train())


def test_fx(x):
    model = small(drop_rate=0.5)
    model.set_grad_checkpointing()
    graph = torch.fx.symbolic_trace(model)
    assert torch.equal(graph.eval()(x), model.eval()(x))
    graph.train()
    assert graph.head_drop.training


def run(text, *replaced):
    """Runs an example of the docs on a small network; returns its names."""
    names = {}
    for old, new in (("resnet50'", "resnet18'"), ('depth=50', 'depth=18'), *replaced):
        text = text.replace(old, new)
    exec(text, names)
    return names


@pytest.fixture
def plain_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = randomised(create('resnet18'))
    torch.save(model.state_dict(), 'resnet50.pth')
    return model


class TestDocs:
    def test_timm(self):
        names = run(readme.example('timm'))
        channels = names['backbone'].feature_info.channels()
        assert [feature.shape[1] for feature in names['pyramid']] == channels
        assert names['model'].num_classes == 10

    def test_timm_weights(self, plain_file, x):
        names = run(readme.example('timm weights'))
        expected = plain_file.forward_features(x)
        torch.testing.assert_close(names['model'].eval().forward_features(x), expected)
        torch.testing.assert_close(names['backbone'].eval()(x)[-1], expected)

    def test_smp(self, plain_file, x):
        pytest.importorskip('segmentation_models_pytorch')
        assert run(readme.example('smp'))['masks'].shape == (2, 150, 96, 96)
        encoder = run(readme.example('smp weights'))['model'].encoder.eval()
        torch.testing.assert_close(encoder(x)[-1], plain_file.forward_features(x))

    def test_torchvision(self, plain_file, x):
        text = readme.example('torchvision')
        channels = ('[256, 512, 1024, 2048]', '[64, 128, 256, 512]')
        names = run(text, channels, ('480, 640', '64, 72'))
        assert channels[0] in text and {'boxes', 'scores', 'labels'} <= {*names['boxes'][0]}
        body = names['backbone'].eval().body
        torch.testing.assert_close(body(x)['3'], plain_file.forward_features(x))
        losses = names['detector'].train()(
            [x[0]], [dict(boxes=torch.tensor([[5.0, 5, 40, 40]]), labels=torch.tensor([1]))]
        )
        sum(losses.values()).backward()
        assert body.layer1[0].conv2.weight.grad[:, -3:].abs().sum() > 0  # grown, from the maps
