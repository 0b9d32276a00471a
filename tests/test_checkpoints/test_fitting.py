"""What testing and training accept of a checkpoint's weights, and what they say of the rest."""

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel
from torch import nn

from mmsb.checkpoints.fitting import (
    check_pretrained,
    starting_weights,
    weights_of,
    whole_weights,
)
from mmsb.models import SBResNet
from mmsb.utils.errors import UserError

SMALL = dict(depth=18, base_channels=8, spatial_bias=dict(size=4))


class Model(nn.Module):
    def __init__(self, classes=5, backbone=None):
        super().__init__()
        self.backbone = SBResNet(**SMALL) if backbone is None else backbone
        self.head = nn.Linear(64, classes)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr('mmsb.checkpoints.fitting.print_log', lambda line, *_: lines.append(line))
    MMLogger.get_current_instance().setLevel('ERROR')
    return lines


@pytest.mark.parametrize('wrap', [
    lambda state: state,
    lambda state: dict(model=state, epoch=1),
    lambda state: dict(state_dict={f'_orig_mod.module.{k}': v for k, v in state.items()}),
    lambda state: dict({f'module.{k}': v for k, v in state.items()}, n_averaged=torch.ones(1)),
])  # fmt: skip
def test_containers_and_wrappers(wrap):
    state = Model().state_dict()
    found = weights_of(wrap(state), 'a.pth')
    assert found.keys() == state.keys() and all(found[key] is state[key] for key in state)


def test_versions_are_kept():
    """By their version, mmcv's and mmdet's modules know that they must rename keys."""
    state = Model().state_dict()
    assert weights_of(dict(state_dict=state), 'a.pth')._metadata == state._metadata


def test_all_weights_fit(said):
    model = Model()
    state = dict(model.state_dict(), **{'auxiliary_head.weight': torch.ones(1)})
    whole_weights(model, state, 'a.pth')
    assert said == ['a.pth: 1 tensors of auxiliary_head are not used, e.g. auxiliary_head.weight']
    old = {k: v for k, v in model.state_dict().items() if 'num_batches' not in k}
    whole_weights(BaseTTAModelOf(model), old, 'a.pth')


class BaseTTAModelOf(BaseTTAModel):
    def __init__(self, model):
        nn.Module.__init__(self)
        self.module = model

    def merge_preds(self, *_):
        raise NotImplementedError


def test_deeper_weights_are_refused():
    """All weights are there, but the network goes on in the file."""
    deeper = Model(backbone=SBResNet(**dict(SMALL, spatial_bias=None))).state_dict()
    model = Model(backbone=SBResNet(**dict(SMALL, spatial_bias=None)))
    deeper['backbone.layer3.2.conv1.weight'] = torch.ones(1)
    with pytest.raises(UserError, match=r'1 weights differ .* e\.g\. backbone\.layer3\.2\.conv1'):
        whole_weights(model, deeper, 'a.pth')


class Renames(nn.Linear):
    """As mmdet's and mmcv's modules do with files of earlier versions."""

    def _load_from_state_dict(self, state, prefix, *args):
        state[f'{prefix}weight'] = state.pop(f'{prefix}old_weight')
        super()._load_from_state_dict(state, prefix, *args)


def test_keys_that_a_module_renames_fit(said):
    model = nn.ModuleDict(dict(head=Renames(2, 2)))
    whole_weights(model, {'head.old_weight': torch.ones(2, 2), 'head.bias': torch.ones(2)}, 'a.pth')
    assert said == []


def test_other_classes_are_left_out_in_one_line(said):
    state = starting_weights(Model(2), Model(80).state_dict(), 'a.pth', False)
    assert said == [
        'a.pth: 2 tensors have another shape and are left out, e.g. for other classes: '
        'head.weight 80x64 here 2x64, head.bias 80 here 2'
    ]
    assert 'head.weight' not in state and 'backbone.conv1.weight' in state


def test_plain_weights_start_a_training_but_are_not_tested(said):
    plain = Model(backbone=SBResNet(**dict(SMALL, spatial_bias=None))).state_dict()
    model = Model()
    before = len(plain)
    starting_weights(model, plain, 'a.pth', False)
    assert said == [] and len(plain) == before
    with pytest.raises(UserError, match='does not belong'):
        whole_weights(model, plain, 'a.pth', False)
    whole_weights(model, plain, 'a.pth', True)


def test_a_resnet_alone_fills_the_backbone(said):
    """A file of torchvision's in load_from: mmengine would load nothing of it."""
    resnet = SBResNet(**dict(SMALL, spatial_bias=None))
    content = dict(model={**resnet.state_dict(), 'fc.weight': torch.ones(3, 64)})
    model = Model()
    state = starting_weights(model, content, 'a.pth', False)
    assert said == ['a.pth: 2 tensors of head start at random, e.g. head.weight']
    model.load_state_dict(state, strict=False)
    assert torch.equal(model.backbone.conv1.weight, resnet.conv1.weight)


def test_a_toolboxs_backbone(said, tmp_path):
    """The same rule for the baselines' own backbone."""
    resnet = pytest.importorskip('mmdet.models.backbones').ResNet
    plugins = [dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position='after_conv3')]

    def build(**kwargs):
        return Model(backbone=resnet(50, base_channels=8, **kwargs))

    state = build().state_dict()
    starting_weights(build(plugins=plugins), dict(state), 'a.pth', False)
    del state['backbone.layer2.1.bn1.weight']
    with pytest.raises(UserError, match=r'lacks 1 tensors \(layer2\.1\.bn1\.weight\)'):
        starting_weights(build(), dict(state), 'a.pth', False)
    starting_weights(build(), dict(state), 'a.pth', True)

    # its init_cfg, of which mmengine would load what has the right names
    whole = {k.removeprefix('backbone.'): v for k, v in build().state_dict().items()}
    whole['fc.weight'] = torch.ones(3, 256)
    path = str(tmp_path / 'a.pth')
    cfg = dict(type='Pretrained', checkpoint=path)
    torch.save(whole, path)
    check_pretrained(build(init_cfg=cfg), False)
    torch.save(dict(state_dict={f'module.{key}': value for key, value in whole.items()}), path)
    check_pretrained(build(init_cfg=dict(cfg, prefix='module')), False)
    with pytest.raises(UserError, match=r'lacks 265 tensors.*convert\.py --to torchvision'):
        check_pretrained(build(init_cfg=cfg), False)
    check_pretrained(build(init_cfg=cfg), True)
