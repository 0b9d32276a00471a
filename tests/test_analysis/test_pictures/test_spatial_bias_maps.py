"""Maps of spatial bias against the layer called by hand, and the sheets that show them."""

import shlex

import cv2
import numpy as np
import pytest
import torch

from mmsb.analysis.pictures.spatial_bias_maps import (
    blocks_with_maps,
    compute_maps,
    draw_images,
    sheet,
)
from mmsb.inference.loading import load_backbone
from mmsb.models import SBResNet, SBResNet_CIFAR, SBSKNet
from tests import readme
from tests.conftest import MINI_SB, ROOT, assert_one_line
from tests.weights import randomise

CONFIGS = dict(
    mmdet=MINI_SB,
    mmseg='configs/mini/fpn_sb_r18_mini_ade20k.py',
    mmpretrain='configs/mini/sb_resnet18_mini_in1k.py',
)


def by_hand(block, x):
    """Of the block's input its maps, and their channels of the norm after the concatenation."""
    for i in range(1, block.spatial_bias_at):
        x = getattr(block, f'bn{i}')(getattr(block, f'conv{i}')(x)).relu()
    number = block.spatial_bias_at
    features = getattr(block, f'conv{number}')(x)
    maps = block.spatial_bias(x, features.shape[2:])
    return maps, getattr(block, f'bn{number}', None), features.shape[1]


def normalise(maps, norm, skipped):
    mean, var, weight, bias = (
        getattr(norm, name)[skipped:, None, None]
        for name in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return (maps - mean) / (var + norm.eps).sqrt() * weight + bias


NETWORKS = {
    'basic': (lambda: SBResNet(18, base_channels=4), 6),
    'bottleneck': (lambda: SBResNet(50, base_channels=4), 13),
    'beside conv1': (lambda: SBResNet_CIFAR(20, dict(position='conv1', num_channels=2)), 4),
    'add': (lambda: SBResNet(18, dict(fusion='add', num_channels=1), base_channels=4), 6),
    'SK': (lambda: SBSKNet(50, base_channels=4, groups=2, stem_channels=8), 13),
    'SK all': (lambda: SBSKNet(50, dict(norm='all'), base_channels=4, groups=2,
                               stem_channels=8), 13),
    'SK none': (lambda: SBSKNet(50, dict(norm='none'), base_channels=4, groups=2,
                                stem_channels=8), 13),
}  # fmt: skip


@pytest.mark.parametrize('name', NETWORKS)
def test_maps_are_those_of_the_layer_called_by_hand(name):
    make, blocks = NETWORKS[name]
    backbone = randomise(make()).eval()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    found = compute_maps(backbone, images)
    assert len(found) == blocks and next(iter(found)) == 'layer1.0'
    assert not any(module._forward_hooks for module in backbone.modules())

    received = {}
    for key in found:
        backbone.get_submodule(key).register_forward_pre_hook(
            lambda _, args, key=key: received.update({key: args[0].clone()})
        )
    with torch.no_grad():
        backbone(images)
        for key, maps in found.items():
            wanted, norm, skipped = by_hand(backbone.get_submodule(key), received[key])
            assert wanted.shape[1] == backbone.get_submodule(key).spatial_bias.num_channels
            if name not in ('add', 'SK none'):
                wanted = normalise(wanted, norm, 0 if name == 'SK' else skipped)
            np.testing.assert_allclose(maps, wanted.numpy(), rtol=1e-9, atol=1e-12)
            assert (maps < 0).any()  # before the ReLU


def test_chosen_blocks():
    backbone = SBResNet(18, dict(stages=(False, True, True, False)), base_channels=4).eval()
    every = ['layer2.0', 'layer2.1', 'layer3.0', 'layer3.1']
    assert list(blocks_with_maps(backbone)) == every
    chosen = compute_maps(backbone, torch.randn(1, 3, 64, 64), ['layer3.0', 'layer2.1'])
    assert list(chosen) == ['layer2.1', 'layer3.0']
    assert_one_line(
        lambda: blocks_with_maps(backbone, ['layer3.0', 'layer1.0']),
        f"no block 'layer1.0' with spatial bias: those are {', '.join(every)}",
    )
    assert_one_line(lambda: blocks_with_maps(SBResNet(18, None)), 'has no spatial bias')


def test_sheet():
    picture = np.zeros((40, 60, 3), np.uint8)
    one, two = np.zeros((1, 3, 8, 8)), np.zeros((1, 2, 4, 4))
    one[0, 1, 2, 3], one[0, 1, 5, 5] = -4, 1
    axes = sheet(picture, (64, 64), dict(one=one, two=two)).axes
    panels = [len(axis.images) for axis in axes]
    assert panels == [1, 0, 0, 2, 2, 2, 2, 2, 0]  # the image; under a map there is the image too
    assert [axis.get_title() for axis in axes[3:5]] == ['one, map 1\n0 to 0', 'one, map 2\n−4 to 1']
    drawn = axes[4].images[1]
    assert drawn.get_clim() == (-4, 4) and drawn.get_extent() == [-0.5, 63.5, 63.5, -0.5]
    assert axes[4].get_xlim() == (-0.5, 59.5) and axes[4].get_ylim() == (39.5, -0.5)  # no padding
    blue, bare, red = (drawn.to_rgba(drawn.get_array())[y, x] for y, x in ((2, 3), (0, 0), (5, 5)))
    assert blue[2] > blue[0] and red[0] > red[2]
    assert drawn.get_alpha()[0, 0] == 0 and bare[0] == pytest.approx(bare[2], abs=0.01)
    assert drawn.get_alpha()[2, 3] > drawn.get_alpha()[5, 5] > 0


@pytest.fixture
def images(tmp_path):
    """A folder of two images of unlike shapes."""
    for name, shape in (('wide', (60, 100)), ('high', (90, 50))):
        path = tmp_path / 'images' / f'{name}.png'
        path.parent.mkdir(exist_ok=True)
        picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        cv2.imwrite(str(path), picture)
    return tmp_path / 'images'


@pytest.fixture
def saved(tmp_path):
    """Makes a config's checkpoint."""

    def save(config):
        _, model = load_backbone(str(ROOT / config))
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
        return str(ROOT / config), str(tmp_path / 'weights.pth')

    return save


@pytest.mark.parametrize('scope', CONFIGS)
def test_tool(images, saved, scope, run_here, tmp_path):
    pytest.importorskip(scope)
    config, checkpoint = saved(CONFIGS[scope])
    python, tool, _, _, _, flag, *_ = shlex.split(readme.command('vis spatial bias'))
    out = tmp_path / 'out'
    command = python, tool, images, config, checkpoint, '--out-dir', out, flag, 'layer1.1'
    lines = run_here(*command).stdout.strip().split('\n')[-2:]
    assert lines == [
        f'{images}/{name}.png: maps of layer1.1 -> {out}/{name}.png' for name in ('high', 'wide')
    ]
    assert sorted(path.name for path in out.iterdir()) == ['high.png', 'wide.png']
    assert min(cv2.imread(str(out / 'wide.png')).shape[:2]) > 150


def test_bad_input(images, saved, tmp_path):
    pytest.importorskip('mmpretrain')
    config, checkpoint = saved(CONFIGS['mmpretrain'])
    out = tmp_path / 'out'

    def refused(message, paths=(images,), config=config, checkpoint=checkpoint, blocks=None):
        found = draw_images(list(map(str, paths)), config, checkpoint, out, blocks)
        assert_one_line(lambda: list(found), message)

    refused('nowhere.png does not exist', [tmp_path / 'nowhere.png'])
    refused('nowhere.pth does not exist', checkpoint=str(tmp_path / 'nowhere.pth'))
    refused("no block 'layer4.0' with spatial bias: those are layer1.0", blocks=['layer4.0'])
    plain = str(ROOT / 'configs/mini/resnet18_mini_in1k.py')
    refused('does not belong to', config=plain)
    config, checkpoint = saved(plain)
    refused('this ResNet has no spatial bias', config=config, checkpoint=checkpoint)
    config, checkpoint = saved(CONFIGS['mmpretrain'])
    (tmp_path / 'text.png').write_text('no picture')
    refused('text.png cannot be read', [tmp_path / 'text.png'])
    assert not out.exists()
