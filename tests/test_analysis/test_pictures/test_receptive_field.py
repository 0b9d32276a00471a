"""Effective receptive fields against kernels, the theoretical field and uniform maps."""

import csv
import logging
import shlex

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from mmsb.analysis.pictures.receptive_field import (
    Field,
    conv_field,
    draw,
    effective_fields,
    normalised,
    receptive_fields,
    smallest_square,
    table,
)
from mmsb.inference.loading import load_backbone
from mmsb.models import SBResNet, SBResNet_CIFAR, SKNet
from tests import readme
from tests.conftest import ROOT, assert_one_line
from tests.weights import randomise

CLS = ('configs/mini/resnet18_mini_in1k.py', 'configs/mini/sb_resnet18_mini_in1k.py')
NARROW = {
    f'model.backbone.{name}': value
    for name, value in dict(base_channels=4, stem_channels=4).items()
}


class OneConv(nn.Module):
    """A backbone of one stage, a convolution."""

    res_layers = ('layer1',)

    def __init__(self, out_channels):
        super().__init__()
        self.layer1 = randomise(nn.Conv2d(3, out_channels, 5, padding=2))

    def forward(self, x):
        return self.layer1(x)


def noise(number, size):
    return torch.randn(
        number, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    ).split(1)


def test_field_of_a_convolution_is_its_kernel():
    network = OneConv(1)
    contribution, centre = effective_fields(network, noise(2, 12))[1]
    assert centre == 6
    wanted = np.zeros((12, 12))
    wanted[4:9, 4:9] = network.layer1.weight[0].detach().abs().sum(0)
    np.testing.assert_array_equal(contribution, wanted)
    assert not network.layer1._forward_hooks


def test_channels_have_random_signs():
    network = OneConv(2)
    one, two = network.layer1.weight.detach().numpy()
    cases = np.array([np.abs(one + two).sum(0), np.abs(one - two).sum(0)])
    alike = [
        [np.allclose(effective_fields(network, noise(1, 8), seed=seed)[1][0][2:7, 2:7], case)
         for case in cases]
        for seed in range(8)
    ]  # fmt: skip
    assert all(sum(row) == 1 for row in alike) and all(map(any, zip(*alike, strict=True)))
    # of several images the mean: so many of the one, the others of the other
    found = effective_fields(network, noise(8, 8))[1][0][2:7, 2:7]
    number = np.linalg.lstsq(cases.reshape(2, -1).T, found.ravel(), rcond=None)[0] * 8
    np.testing.assert_allclose(number, np.round(number), atol=1e-9)
    assert number.sum() == pytest.approx(8) and (number > 0.5).all()


def theory(stem, stages):
    """Side of the field and stride: r + (k - 1) j over the layers' kernel k and stride s."""
    side, jump, found = 1, 1, []
    for number, layers in enumerate([stem, *stages]):
        for kernel, stride in layers:
            side += (kernel - 1) * jump
            jump *= stride
        if number:
            found.append((side, jump))
    return found


STEM, DEEP = [(7, 2), (3, 2)], [(3, 2), (3, 1), (3, 1), (3, 2)]
BASIC = [[(3, s), (3, 1), (3, 1), (3, 1)] for s in (1, 2, 2, 2)]
BOTTLENECKS = [[(3, s)] + [(3, 1)] * (n - 1) for n, s in zip((3, 4, 6, 3), (1, 2, 2, 2))]  # noqa: B905
CAFFE = [[(1, s)] + [(3, 1)] * n for n, s in zip((3, 4, 6, 3), (1, 2, 2, 2))]  # noqa: B905
SK = [[(5, s)] + [(5, 1)] * (n - 1) for n, s in zip((3, 4, 6, 3), (1, 2, 2, 2))]  # noqa: B905
CIFAR = [[(3, s), (3, 1)] for s in (1, 2, 2)]
NETWORKS = {
    '18': (lambda: SBResNet(18, None, base_channels=4), theory(STEM, BASIC)),
    '18 deep stem': (lambda: SBResNet(18, None, base_channels=8, deep_stem=True, avg_down=True),
                     theory(DEEP, BASIC)),
    '50': (lambda: SBResNet(50, None, base_channels=4), theory(STEM, BOTTLENECKS)),
    '50 caffe': (lambda: SBResNet(50, None, base_channels=4, style='caffe'), theory(STEM, CAFFE)),
    'CIFAR 20': (lambda: SBResNet_CIFAR(20, None), theory([(3, 1)], CIFAR)),
    'SK': (lambda: SKNet(50, base_channels=4, stem_channels=8, groups=2), theory(STEM, SK)),
}  # fmt: skip


def test_theory_is_the_published():
    # Araujo et al., Computing Receptive Fields of Convolutional Neural Networks, 2019
    assert theory(STEM, CAFFE)[-1] == (483, 32)
    assert NETWORKS['18'][1] == [(43, 4), (99, 8), (211, 16), (435, 32)]
    assert [side for side, _ in NETWORKS['50'][1]] == [35, 91, 267, 427]


@pytest.mark.parametrize('name', NETWORKS)
def test_plain_network_sees_its_theoretical_field(name):
    make, wanted = NETWORKS[name]
    network = randomise(make()).eval().requires_grad_(False)
    size, stages = 128, (1, 2)
    if name == 'SK':  # its weights of the paths come from the whole map, and are held
        for module in network.modules():
            if hasattr(module, 'select'):
                module.pool = nn.Sequential(module.pool, Cut())
    found = effective_fields(network, noise(4, size), stages)
    for stage in stages:
        side, stride = wanted[stage - 1]
        contribution, centre = found[stage]
        assert centre == size // stride // 2 * stride == 64
        box = slice(max(centre - side // 2, 0), min(centre + side // 2 + 1, size))
        rows, columns = np.nonzero(contribution)
        for seen in (rows, columns):
            assert (seen.min(), seen.max() + 1) == (box.start, box.stop)
        assert conv_field(network, stage, size, centre) == (side, (box.start, box.stop))
        field = Field(name, stage, contribution, centre, side, (box.start, box.stop))
        assert field.outside == 0
        assert field.nonzero == len(rows) / size**2 <= ((box.stop - box.start) / size) ** 2


class Cut(nn.Module):
    """No gradient passes."""

    def forward(self, x):
        return x.detach()


def test_field_at_the_edge():
    network = SBResNet(18, None, base_channels=4)
    # unit 3 of 7 lies over pixel 96; its 435 pixels do not fit into the image
    assert conv_field(network, 4, 224, 96) == (435, (0, 224))
    assert conv_field(network, 3, 224, 112) == (211, (112 - 105, 112 + 106))
    assert conv_field(network, 1, 224, 4) == (43, (0, 4 + 22))


@pytest.mark.parametrize('make', [
    lambda: SBResNet(18, base_channels=4), lambda: SBResNet(50, base_channels=4),
    lambda: SBResNet_CIFAR(20),
])  # fmt: skip
def test_spatial_bias_sees_all_from_the_first_block(make):
    network = randomise(make()).eval().requires_grad_(False)
    network.layer1 = network.layer1[:1]
    found = effective_fields(network, noise(4, 64))
    assert len(found) == len(network.res_layers)
    for contribution, _ in found.values():
        assert (contribution > 0).all()


def test_outside_is_what_spatial_bias_brings():
    network = randomise(SBResNet(18, base_channels=4)).eval().requires_grad_(False)
    contribution, centre = effective_fields(network, noise(1, 128), [1])[1]
    inside = contribution[64 - 21 : 64 + 22, 64 - 21 : 64 + 22].sum()
    field = Field('SB', 1, contribution, centre, *conv_field(network, 1, 128, centre))
    assert field.outside == pytest.approx(1 - inside / contribution.sum()) and field.outside > 0
    # only the third stage's: the second sees what a plain one does
    only = dict(stages=(False, False, True, False))
    network = randomise(SBResNet(18, only, base_channels=4)).eval().requires_grad_(False)
    found = effective_fields(network, noise(4, 128), [2, 3])
    assert (found[2][0] > 0).mean() <= (99 / 128) ** 2 and (found[3][0] > 0).all()


def test_smallest_square():
    uniform = np.ones((101, 101))
    for share in (0.2, 0.5, 0.99):
        side, area = smallest_square(uniform, 50, share)
        assert area == pytest.approx(side**2 / 101**2) and side % 2
        assert (side - 2) ** 2 / 101**2 < share <= area
    for centre in (20, 96):  # what lies outside of the image is no area
        assert smallest_square(uniform, centre, 0.5)[1] == pytest.approx(0.5, abs=0.02)
        assert smallest_square(uniform, centre, 1)[1] == 1
    point = np.zeros((64, 64))
    assert smallest_square(point, 32, 0.5) is None
    point[32, 32] = 2
    assert smallest_square(point, 32, 0.99) == (1, 1 / 64**2)
    point[30, 33] = 2  # two rings away
    assert smallest_square(point, 32, 0.5) == (1, 1 / 64**2)
    assert smallest_square(point, 32, 0.51) == (5, 25 / 64**2)


def test_table_and_picture():
    empty = Field('dead', 1, np.zeros((32, 32)), 16, None, None)
    full = Field('full', 2, np.ones((32, 32)), 16, 5, (14, 19))
    head, rows = table([empty, full])
    assert rows[0] == ['dead', '1', *['–'] * 5, '0 %'] and len(rows[0]) == len(head)
    assert rows[1][-2:] == [f'{100 * (1 - 25 / 1024):.3g} %', '100 %']
    axes = draw([empty, full]).axes
    assert len(axes) == 5  # two rows, two columns and the scale
    assert [len(axis.images) for axis in axes[:4]] == [1, 0, 0, 1]
    assert [len(axis.patches) for axis in axes[:4]] == [0, 0, 0, 2]
    low, high = axes[3].patches[0].get_xy()[0], axes[3].patches[0].get_width()
    assert (low, high) == (13.5, 5)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'image.png'
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(path), picture)
    return path, picture


def test_images_are_normalised_as_the_config_says(image):
    pytest.importorskip('mmpretrain')
    picture = image[1]
    mean = np.array([123.675, 116.28, 103.53])
    cfg, model = load_backbone(str(ROOT / CLS[0]), cfg_options=NARROW)
    wanted = (picture[..., ::-1] - mean) / (58.395, 57.12, 57.375)
    found = normalised(cfg, model, picture)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    cfg, model = load_backbone(str(ROOT / 'configs/cifar100/resnet38_300e_cifar100.py'))
    wanted = (picture[..., ::-1] - np.array([125.3, 123.0, 113.9])) / (63.0, 62.1, 66.7)
    found = normalised(cfg, model, picture)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def weights_of(config, path, change=lambda state: state):
    _, model = load_backbone(config, cfg_options=NARROW, seed=5)
    torch.save(dict(state_dict=change(model.state_dict())), path)
    return model.backbone.state_dict()


def test_weights(tmp_path):
    pytest.importorskip('mmpretrain')
    config, path = str(ROOT / CLS[1]), tmp_path / 'weights.pth'

    def backbone_alone(state):
        state = {k[9:]: v for k, v in state.items() if k.startswith('backbone.')}
        state = {k: v for k, v in state.items() if 'num_batches' not in k}  # torchvision's
        return dict(state, **{'fc.weight': torch.ones(2, 2)})

    before, logger, logged = torch.get_rng_state(), MMLogger.get_current_instance(), []
    level, listener = logger.level, logging.Handler()
    listener.emit = logged.append
    logger.addHandler(listener)
    for change in (dict, backbone_alone):
        wanted = weights_of(config, path, change)
        _, model = load_backbone(config, str(path), NARROW)
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        for key, value in model.backbone.state_dict().items():
            assert torch.equal(value, wanted[key]), key
    assert torch.equal(torch.get_rng_state(), before)
    _, model = load_backbone(config, cfg_options=NARROW, seed=6)
    assert not torch.equal(model.backbone.conv1.weight, wanted['conv1.weight'])
    logger.removeHandler(listener)
    assert logger.level == level  # mmengine would list every weight
    assert not any('torch.Size' in record.getMessage() for record in logged)
    # a plain ResNet's would be grown
    weights_of(str(ROOT / CLS[0]), path)
    assert_one_line(lambda: load_backbone(config, str(path), NARROW), 'does not belong to')
    wanted = weights_of(config, path)
    assert_one_line(lambda: load_backbone(str(ROOT / CLS[0]), str(path), NARROW), 'does not belong')


def test_toolbox_backbone():
    pytest.importorskip('mmdet')
    pretrained = dict(_delete_=True, type='Pretrained', checkpoint='torchvision://x')
    options = {'model.backbone.init_cfg': pretrained}
    _, model = load_backbone(str(ROOT / 'configs/mini/faster_rcnn_r18_fpn_mini_coco.py'),
                             cfg_options=options)  # fmt: skip
    assert type(model.backbone).__module__.startswith('mmdet')
    spread = model.backbone.layer1[0].conv1.weight.std()  # Kaiming's, fan out
    channels = model.backbone.layer1[0].conv1.out_channels
    assert spread == pytest.approx((2 / (9 * channels)) ** 0.5, rel=0.1)
    (contribution, centre), side = effective_fields(model.backbone, torch.randn(1, 1, 3, 64, 64),
                                                    [1])[1], 43  # fmt: skip
    assert centre == 32 and conv_field(model.backbone, 1, 64, 32) == (side, (11, 54))
    assert np.nonzero(contribution)[0].min() >= 11 and np.nonzero(contribution)[0].max() < 54


def test_tool(image, tmp_path, run_here):
    pytest.importorskip('mmpretrain')
    config, checkpoint, out = str(ROOT / CLS[0]), tmp_path / 'run/weights.pth', tmp_path / 'out'
    checkpoint.parent.mkdir()
    weights_of(config, checkpoint)
    options = [f'{key}={value}' for key, value in NARROW.items()]
    python, tool, _, flag, _ = shlex.split(readme.command('receptive field'))
    command = [python, tool, config, checkpoint, flag, ROOT / CLS[1], '--stages', 3, 1,
               '--size', 64, '--images', image[0], '--out', out,
               '--cfg-options', *options]  # fmt: skip
    printed = run_here(*command).stdout
    assert printed.startswith('images, 64 x 64 pixels\nnetwork')
    with (out / 'receptive_field.csv').open() as file:
        rows = list(csv.DictReader(file))
    names = ['resnet18_mini_in1k, run/weights', 'sb_resnet18_mini_in1k, untrained']
    assert [(row['network'], row['stage']) for row in rows] == [
        (name, stage) for name in names for stage in '13'
    ]
    assert [float(row['outside']) > 0 for row in rows] == [False, False, True, False]
    seen = [float(row['nonzero']) for row in rows]  # of max pooling some pixels never come through
    assert seen[0] <= (43 / 64) ** 2 and min(seen[1:]) > 0.9
    picture = cv2.imread(str(out / 'receptive_field.png'))
    assert picture.shape[0] > 400 and picture.shape[1] > 400

    cfg, model = load_backbone(config, str(checkpoint), NARROW)
    middle = cv2.resize(image[1], (96, 64))[:, 16:80]
    field = effective_fields(model.backbone, [normalised(cfg, model, middle)], [1, 3])[1]
    assert float(rows[0]['area_50']) == smallest_square(*field, 0.5)[1]


def test_bad_input(image, tmp_path):
    pytest.importorskip('mmpretrain')
    plain, out = str(ROOT / CLS[0]), tmp_path / 'out'

    def refused(message, networks=((plain,),), **kwargs):
        assert_one_line(lambda: receptive_fields(networks, out=out, **kwargs), message)

    refused('resnet18_mini_in1 does not exist', [(plain[:-4],)])
    refused('describes no detector', [(str(ROOT / 'configs/_base_/runtimes/classification.py'),)])
    refused('nowhere.pth does not exist', [(plain, str(tmp_path / 'nowhere.pth'))])
    refused('stage 5 does not exist: the stages are 1 to 4', stages=[1, 5])
    refused('--size 0', size=0)
    refused('pixels wide, which does not divide it; give 128', size=100)
    (tmp_path / 'text.png').write_text('no picture')
    refused('text.png cannot be read', images=[str(image[0]), str(tmp_path / 'text.png')])
    refused('nowhere.png does not exist', images=[str(tmp_path / 'nowhere.png')])
    assert not out.exists()
