"""frozen_stages and norm_eval hold the plain network; a grown network's spatial bias learns."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsb.models import SBResNet, SBSKNet
from mmsb.models.backbones.residual_block import ResidualBlock
from mmsb.registry import MODELS
from tests.weights import randomise

HELD = dict(frozen_stages=1, norm_eval=True)


def build(spatial_bias=True, **kwargs):
    torch.manual_seed(0)
    bias = dict(size=4, **kwargs.pop('settings', {})) if spatial_bias else None
    return SBResNet(**dict(dict(base_channels=8, spatial_bias=bias), **kwargs))


def grown(**kwargs):
    """A network with the weights of a random plain one, and that one."""
    model = build(**kwargs)
    plain = randomise(build(False, **{k: v for k, v in kwargs.items() if k != 'settings'}))
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter *= 0.5  # no blow-up in training
    plain.float()
    model.load_state_dict(plain.state_dict())
    return model.train(), plain.train()


def blocks(model):
    return [
        (i, block)
        for i, name in enumerate(model.res_layers)
        for block in getattr(model, name)
        if block.spatial_bias_at
    ]


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_current_instance().setLevel('WARNING')


class TestTheDefault:
    """Spatial bias is frozen with the rest only where it is known to come trained."""

    def of(self, checkpoint, **kwargs):
        init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
        with torch.device('meta'):
            return SBResNet(18, init_cfg=init_cfg, **HELD, **kwargs).freeze_spatial_bias

    @pytest.mark.parametrize('legacy', [False, True])
    def test_by_what_init_cfg_names(self, tmp_path, legacy):
        for name, bias in (('plain', False), ('sb', True)):
            state = build(bias, depth=18).state_dict()
            state = {f'backbone.{key}': value for key, value in state.items()}
            torch.save(dict(state_dict=state), tmp_path / f'{name}.pth',
                       _use_new_zipfile_serialization=not legacy)  # fmt: skip
        assert self.of(tmp_path / 'plain.pth') is False
        assert self.of(tmp_path / 'sb.pth') is True
        assert self.of(tmp_path / 'sb.pth', freeze_spatial_bias=False) is False
        assert self.of(tmp_path / 'plain.pth', freeze_spatial_bias=True) is True
        assert self.of(tmp_path / 'sb.pth', spatial_bias=None) is False

    def test_where_it_cannot_know(self, tmp_path):
        assert self.of('torchvision://resnet18') is False
        assert self.of('https://nowhere.invalid/sb_resnet18.pth') is False  # not downloaded
        assert self.of(tmp_path / 'gone.pth') is False  # loading says so
        (tmp_path / 'damaged.pth').write_bytes(b'PK')
        assert self.of(tmp_path / 'damaged.pth') is False
        assert build(**HELD).freeze_spatial_bias is False

    def test_of_the_headline_config(self, root):
        cfg = Config.fromfile(root / 'configs/faster_rcnn_sb_r50_fpn_1x_coco.py').model.backbone
        with torch.device('meta'):
            model = MODELS.build(cfg)
        assert (model.frozen_stages, model.norm_eval) == (1, True)
        trained = {n for n, p in model.layer1.named_parameters() if p.requires_grad}
        assert trained == {
            f'{i}.{name}'
            for i in range(3)
            for name in ('spatial_bias.reduction.conv.weight', 'spatial_bias.reduction.bn.weight',
                         'spatial_bias.reduction.bn.bias', 'spatial_bias.mixing.weight',
                         'spatial_bias.mixing.bias', 'bn2.weight', 'bn2.bias', 'conv3.weight')
        }  # fmt: skip

    @pytest.mark.parametrize('detector', ['faster_rcnn', 'cascade_rcnn'])
    def test_without_spatial_bias_in_it_the_frozen_stage_stays_frozen(self, root, detector):
        path = root / f'configs/{detector}_sb_r50-s23_fpn_1x_coco.py'
        with torch.device('meta'):
            model = MODELS.build(Config.fromfile(path).model.backbone)
        assert not any(p.requires_grad for p in model.layer1.parameters())
        assert model.layer2[0].spatial_bias.mixing.weight.requires_grad

    def test_loading_changes_nothing(self):
        # DDP and the optimizer are there before the weights
        model = build(**HELD)
        before = [p.requires_grad for p in model.parameters()]
        for state in (build(False).state_dict(), build().state_dict()):
            model.load_state_dict(state)
            assert [p.requires_grad for p in model.train().parameters()] == before


@pytest.mark.parametrize('kwargs', [
    dict(HELD),
    dict(norm_eval=True),
    dict(HELD, depth=18),
    dict(HELD, settings=dict(position='conv1')),
    dict(HELD, norm_cfg=dict(type='SyncBN')),
], ids=['r50', 'norm_eval', 'r18', 'conv1', 'sync'])  # fmt: skip
def test_training_starts_at_the_plain_networks_function(kwargs):
    """In training mode too: the features' statistics are used, not the batch's."""
    model, plain = grown(**kwargs)
    x = torch.randn(2, 3, 64, 48)
    for ours, theirs in zip(model(x), plain(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize('optimizer', ['SGD', 'AdamW'])
@pytest.mark.parametrize('kwargs', [dict(norm_eval=True), {}], ids=['norm_eval', 'no norm_eval'])
def test_what_moves_and_what_does_not(kwargs, optimizer):
    model, _ = grown(frozen_stages=2, **kwargs)
    before = copy.deepcopy(model.state_dict())
    if optimizer == 'SGD':
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=0.01)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
    for step in range(20):
        optimizer.zero_grad()
        torch.manual_seed(step)
        out = model(torch.randn(2, 3, 48, 48))[-1]
        ((out - 1) / (out.detach().std() + 1)).square().mean().backward()
        optimizer.step()
    after = model.state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values())
    still = {key for key in after if torch.equal(before[key], after[key])}

    learns = set()  # frozen stages: what spatial bias adds or widens
    for i, name in enumerate(model.res_layers[:2]):
        for j, block in enumerate(getattr(model, name)):
            start = f'layer{i + 1}.{j}.'
            parts = ('spatial_bias.', 'bn2.', 'conv3.')
            learns |= {key for key in after if key.startswith(tuple(start + p for p in parts))}
            p = block.conv2.out_channels
            assert (block.conv3.weight[:, p:] != 0).any()  # the new columns
            for tensor in ('running_mean', 'running_var'):
                key = f'{start}bn2.{tensor}'
                assert torch.equal(before[key][:p], after[key][:p])  # the features' statistics
                assert not torch.isclose(before[key][p:], after[key][p:]).any()  # the maps'
    frozen = {key for key in after if key.startswith(('conv1', 'bn1', 'layer1', 'layer2'))}
    assert frozen - still == learns

    # the other stages: all weights, and of the plain network's statistics those asked for
    for key in after.keys() - frozen:
        widened = key.startswith('layer3') and '.bn2.' in key
        if widened and 'running' in key:
            p = 32
            assert torch.equal(before[key][:p], after[key][:p]) == model.norm_eval
            assert not torch.equal(before[key][p:], after[key][p:])
        elif ('running' in key or 'tracked' in key) and not widened and 'spatial_bias' not in key:
            assert (key in still) == model.norm_eval, key
        else:
            assert key not in still, key


def test_the_maps_statistics_are_batch_norms():
    """What the widened norm does to the maps is what a BatchNorm2d of their own does."""
    model, _ = grown(**HELD)
    x, pairs = torch.randn(2, 3, 64, 48), []
    for _, block in blocks(model):
        p = block.conv2.out_channels
        own = nn.BatchNorm2d(3, momentum=block.bn2.momentum).train()

        def see(module, args, maps, own=own):
            own(maps.detach())

        block.spatial_bias.register_forward_hook(see)
        pairs.append((own, block.bn2, p))
    for _ in range(3):
        model(x)
    for own, norm, p in pairs:
        torch.testing.assert_close(norm.running_mean[p:], own.running_mean)
        torch.testing.assert_close(norm.running_var[p:], own.running_var)
        assert norm.num_batches_tracked == own.num_batches_tracked == 3


def test_normalised_maps():
    """The output of the widened norm, against both parts computed by hand in float64."""
    torch.manual_seed(0)
    _, block = blocks(randomise(build(**HELD)).train())[0]
    before = copy.deepcopy(block.bn2.state_dict())
    y, maps = torch.randn(2, 8, 5, 7).double(), torch.randn(2, 3, 5, 7).double()
    out = block.relu(block.normalise(2, y, maps))
    scale, shift = (before[name][:, None, None] for name in ('weight', 'bias'))
    mean, var = (before[f'running_{name}'][:8, None, None] for name in ('mean', 'var'))
    features = (y - mean) / (var + 1e-5).sqrt() * scale[:8] + shift[:8]
    var, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0, keepdim=True)
    maps = (maps - mean) / (var + 1e-5).sqrt() * scale[8:] + shift[8:]
    torch.testing.assert_close(out, torch.cat([features, maps], 1).relu())


def test_eval_uses_the_statistics():
    model, _ = grown(**HELD)
    x = torch.randn(2, 3, 64, 48)
    model(x)
    ordinary = build(freeze_spatial_bias=True, **HELD)
    ordinary.load_state_dict(model.state_dict())
    for ours, theirs in zip(model.eval()(x), ordinary.eval()(x), strict=True):
        assert torch.equal(ours, theirs)


def test_norm_without_gradient_stays_so():
    model, _ = grown(norm_cfg=dict(type='BN', requires_grad=False), **HELD)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())


@pytest.mark.parametrize('norm', ['maps', 'all', 'none'])
def test_sknet(norm):
    model = SBSKNet(base_channels=32, groups=4, stem_channels=8,
                    spatial_bias=dict(size=4, norm=norm), **HELD).train()  # fmt: skip
    trained = {n for n, p in model.layer1[0].named_parameters() if p.requires_grad}
    names = {name.split('.')[0] for name in trained}
    assert names == {'spatial_bias', 'conv3'} | ({'bn2'} if norm != 'none' else set())
    sum(out.mean() for out in model(torch.rand(2, 3, 64, 48))).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_added_maps():
    model = build(settings=dict(fusion='add', num_channels=1), **HELD).train()
    trained = {n.split('.')[0] for n, p in model.layer1[0].named_parameters() if p.requires_grad}
    assert trained == {'spatial_bias'}
    assert not model.layer1[0].bn2.training and model.layer1[0].spatial_bias.training


def test_gradient_checkpointing():
    grads = []
    for with_cp in (False, True):
        model, _ = grown(with_cp=with_cp, **HELD)
        model.double()
        sum(out.sum() for out in model(torch.ones(2, 3, 64, 48).double())).backward()
        grads.append([p.grad for p in model.parameters() if p.requires_grad])
    for plain, checkpointed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_ordinary_blocks_do_not_pay():
    for kwargs in ({}, dict(HELD, freeze_spatial_bias=True)):
        model = build(**kwargs).train()
        assert not any(
            m.features_norm_held for m in model.modules() if isinstance(m, ResidualBlock)
        )
