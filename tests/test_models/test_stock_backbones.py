"""Every ResNet in the stock configs of mmdet, mmseg and mmpretrain: SBResNet takes its place.

``tests/data/stock_backbones.jsonl`` has the settings in those configs (releases of both stacks)
that change what a backbone computes, each once, with the number of configs; depths 101 and 152 are
50 there.
"""

import importlib
import json
from copy import deepcopy

import pytest
import torch
from mmengine.logging import MMLogger

from mmsb.models import SBResNet
from mmsb.utils.errors import UserError
from tests.conftest import ROOT, assert_one_line

LINES = (ROOT / 'tests/data/stock_backbones.jsonl').read_text().splitlines()
STOCK = [json.loads(line) for line in LINES]
# what the toolboxes say by the name of the class
VARIANTS = dict(
    ResNet={},
    ResNeXt={},
    ResNetV1c=dict(deep_stem=True),
    ResNetV1d=dict(deep_stem=True, avg_down=True),
)
# other names for groups and base_width, refused by Python
REFUSED = ('expansion', 'width_per_group')


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_current_instance().setLevel('ERROR')


def small(backbone):
    narrow = 'groups' not in backbone and 'norm_cfg' not in backbone
    channels = backbone.get('base_channels', 8 if narrow else 64)
    stages = tuple(range(backbone.get('num_stages', 4)))
    return dict(
        dict(base_channels=channels, stem_channels=channels, out_indices=stages),
        **deepcopy({key: value for key, value in backbone.items() if key != 'type'}),
    )


def fill(network):
    """Give a network on the meta device random weights."""
    generator = torch.Generator().manual_seed(0)
    network.to_empty(device='cpu')
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            low = 0.5 if name.endswith('running_var') else -0.5
            tensor.uniform_(low, low + 1, generator=generator)
    return network


def test_all_are_here():
    count = dict.fromkeys(('mmdet', 'mmseg', 'mmpretrain'), 0)
    for one in STOCK:
        count[one['toolbox']] += one['configs']
    assert count['mmdet'] > 500 and count['mmseg'] > 400 and count['mmpretrain'] > 70


@pytest.mark.parametrize('one', STOCK, ids=lambda one: one['first'])
def test_a_plain_one_is_the_toolbox_s(one):
    backbone = one['backbone']
    module = pytest.importorskip(f'{one["toolbox"]}.models.backbones')
    importlib.import_module('mmcv.ops')
    if any(key in backbone for key in REFUSED):
        with pytest.raises(TypeError, match='unexpected keyword'):
            SBResNet(**small(backbone))
        return
    # mmpretrain's computes its drop rates on the current device, and reads them
    with torch.device('cpu' if one['toolbox'] == 'mmpretrain' else 'meta'):
        theirs = getattr(module, backbone['type'])(**small(backbone))
    with torch.device('meta'):
        ours = SBResNet(spatial_bias=None, **small(backbone), **VARIANTS[backbone['type']])
    theirs = fill(theirs)
    theirs.eval()  # the toolboxes' returns None
    ours.load_state_dict(theirs.state_dict(), assign=True)
    ours.eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(ours(x), theirs(x), strict=True):
            assert torch.isfinite(b).all()
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize('one', STOCK, ids=lambda one: one['first'])
def test_with_spatial_bias_it_builds_or_says_why_not(one):
    backbone = one['backbone']
    importlib.import_module('mmcv.ops')
    if any(key in backbone for key in REFUSED):
        return
    with torch.device('meta'):
        if backbone.get('norm_cfg', {}).get('type') == 'GN':
            assert_one_line(lambda: SBResNet(**small(backbone)), "norm_cfg type 'GN'")
        else:
            SBResNet(**small(backbone))


def test_pretrained_is_short_for_init_cfg():
    """mmseg's models pass ``pretrained`` on to their backbone."""
    with torch.device('meta'):
        model = SBResNet(depth=18, pretrained='weights.pth')
        assert model.init_cfg == dict(type='Pretrained', checkpoint='weights.pth')
        with pytest.raises(UserError, match='both set; give one'):
            SBResNet(depth=18, pretrained='weights.pth', init_cfg=model.init_cfg)


def test_multi_grid_needs_a_value_per_block():
    with torch.device('meta'):
        assert_one_line(lambda: SBResNet(multi_grid=(1, 2)), 'give 3 values, one per block')


def test_norms_of_a_block_have_the_toolboxes_names():
    with torch.device('meta'):
        block, basic = (SBResNet(depth=depth).layer1[0] for depth in (50, 18))
    assert [block.norm1, block.norm2, block.norm3] == [block.bn1, block.bn2, block.bn3]
    assert basic.norm2 is basic.bn2 and not hasattr(basic, 'norm3')


def test_torchvision_extracts_features_in_training_and_evaluation():
    """torch.fx cannot trace a slice at a width that is read from the features."""
    from torchvision.models.feature_extraction import create_feature_extractor

    torch.manual_seed(0)
    model = SBResNet(depth=50, base_channels=8).double()
    other = deepcopy(model)
    extract = create_feature_extractor(other, {'layer2': 'middle', 'layer4': 'last'})
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for training in (True, False):
        model.train(training), extract.train(training)
        found, wanted = extract(x), model(x)
        torch.testing.assert_close(found['middle'], wanted[1])
        torch.testing.assert_close(found['last'], wanted[3])
    held = SBResNet(depth=50, base_channels=8, norm_eval=True)
    assert_one_line(lambda: create_feature_extractor(held, ['layer2']), 'freeze_spatial_bias=True')
