"""Class activation maps: by hand in the three tasks, sheets, bad input."""

import importlib.util
import shlex
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmsb.analysis.pictures import cam, cam_sheets
from mmsb.analysis.pictures.cam import METHODS, Explanation, explain
from mmsb.analysis.pictures.cam_layers import Layer, Network, find_layers
from mmsb.deployment.detectors import detect
from mmsb.inference.images import Inputs
from mmsb.toolboxes import TOOLBOXES
from tests import readme
from tests.conftest import MINI_SB, ROOT, assert_one_line
from tests.weights import build_randomised

BACKBONE = {'model.backbone.base_channels': 8, 'model.backbone.stem_channels': 8}
NECK = {'model.neck.in_channels': [8, 16, 32, 64], 'model.neck.out_channels': 8}
CONFIGS = dict(
    mmpretrain=('configs/mini/sb_resnet18_mini_in1k.py', {'model.head.in_channels': 64}),
    plain=('configs/mini/resnet18_mini_in1k.py', {'model.head.in_channels': 64}),
    mmseg=(
        'configs/mini/fpn_sb_r18_mini_ade20k.py',
        {**NECK, 'model.decode_head.in_channels': [8] * 4, 'model.decode_head.channels': 8},
    ),
    mmdet=(
        MINI_SB,
        {
            **NECK,
            'model.rpn_head.in_channels': 8,
            'model.rpn_head.feat_channels': 8,
            'model.roi_head.bbox_roi_extractor.out_channels': 8,
            'model.roi_head.bbox_head.in_channels': 8,
            'model.roi_head.bbox_head.fc_out_channels': 32,
            'model.roi_head.bbox_head.num_classes': 5,
            # the whole softmax is over the score; few boxes
            'model.test_cfg.rcnn.max_per_img': 8,
        },
    ),
)
CLASSES = ('goldfish, Carassius', 'background', 'cup', 'kite', 'dog')


def build(kind, classes=CLASSES):
    path, options = CONFIGS[kind]
    cfg = Config.fromfile(ROOT / path)
    pytest.importorskip(f'{cfg.default_scope}.apis')
    model = build_randomised(ROOT / path, 2.0, {**BACKBONE, **options})
    if kind == 'mmseg':  # several classes are predicted
        model.decode_head.conv_seg.weight.data *= 50
    if kind == 'mmdet':  # no score is so near to 1 that its gradient is 0
        model.roi_head.bbox_head.fc_cls.weight.data *= 0.02
    return Network(kind, cfg, model.requires_grad_(False), classes)


def make_inputs(network, height=64, width=96, padding=0):
    """Blots, in float64, and a picture without the padding."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(1, 3, 4, 6, generator=generator, dtype=torch.float64)
    x = 2 * F.interpolate(coarse, (height, width), mode='bilinear')
    sample = BaseDataElement()
    if network.cfg.default_scope == 'mmdet':
        from mmdet.structures import DetDataSample as BaseSample

        sample = BaseSample()
    sample.set_metainfo(
        dict(
            img_shape=(height - padding, width),
            ori_shape=(height, width),
            batch_input_shape=(height, width),
            scale_factor=(1.0, 1.0),
        )
    )
    picture = np.random.default_rng(0).integers(0, 256, (height - padding, width, 3), np.uint8)
    return Inputs(x, [sample], picture)


def by_hand(features, gradient, size=(64, 96), layercam=False):
    """Grad-CAM, or LayerCAM, from 0 to 1 over the input; None where nothing is positive."""
    weights = gradient.clamp(min=0) if layercam else gradient.mean((2, 3), keepdim=True)
    heat = (weights * features).sum(1, keepdim=True).clamp(min=0)
    if heat.max() == 0:
        return None
    heat = F.interpolate(heat, size, mode='bilinear')
    return ((heat - heat.min()) / (heat.max() - heat.min()))[0, 0].detach().numpy()


def assert_same(heat, expected):
    assert heat.max() == pytest.approx(1)
    np.testing.assert_allclose(heat, expected, atol=2e-5)


@pytest.mark.parametrize('kind', ['mmpretrain', 'plain'])
@pytest.mark.parametrize('category', [None, '5', 'Dog'])
def test_classifier(kind, category):
    """After average pooling and a linear layer Grad-CAM is the class' weights on the features."""
    network = build(kind, [*CLASSES, *map(str, range(100, 131))])
    inputs = make_inputs(network)
    (features,) = network.model.backbone(inputs.tensor)
    logits = network.model.head.fc(features.mean((2, 3)))[0]
    index = {None: int(logits.argmax()), '5': 5, 'Dog': 4}[category]
    weights = network.model.head.fc.weight[index][None, :, None, None]
    found = explain(network, inputs, find_layers(network), category=category)
    assert_same(found.maps[0], by_hand(features, weights))
    name = network.classes[index].split(',')[0]
    assert found.text == f'{name} {logits.softmax(0)[index]:.2f}'


@pytest.mark.parametrize('place', [1, 2])
def test_segmentor(place):
    network = build('mmseg')
    inputs = make_inputs(network)
    model, names = network.model, [f'name {i}' for i in range(150)]
    *fine, coarse = model.backbone(inputs.tensor)
    coarse.requires_grad_()
    logits = model.decode_head(model.neck([*fine, coarse]))
    logits = F.interpolate(logits, (64, 96), mode='bilinear', align_corners=False)[0]
    labels = logits.argmax(0)
    order = labels.flatten().bincount().argsort(descending=True).tolist()
    names[order[0]] = 'background'  # which is passed over
    network = replace(network, classes=names)
    index = order[place]
    category = None if place == 1 else str(index)
    mask = labels == index
    assert 0 < mask.sum() < mask.numel()
    (gradient,) = torch.autograd.grad((logits[index] * mask).sum(), coarse)
    found = explain(network, inputs, find_layers(network), category=category)
    assert_same(found.maps[0], by_hand(coarse, gradient))
    assert np.array_equal(found.mask, mask.numpy())
    assert found.text.startswith(network.class_name(index))


def test_detector():
    """By this package's own second stage, in which no code of mmdet's predictions runs."""
    network = build('mmdet')
    inputs = make_inputs(network)
    kept = []
    handle = network.model.backbone.layer4.register_forward_hook(lambda *args: kept.append(args[2]))
    found = detect(network.model, inputs.tensor.requires_grad_())
    handle.remove()
    layers = find_layers(network)
    for count in (1, 2):
        scores = found['scores'][:count]
        value = (scores / (1 - scores)).log().sum()
        (gradient,) = torch.autograd.grad(value, kept[0], retain_graph=True)
        least = scores[-1].item() - 1e-9
        result = explain(network, inputs, layers, min_score=least)
        assert_same(result.maps[0], by_hand(kept[0], gradient, layercam=True))
        np.testing.assert_allclose(result.boxes, found['boxes'][:count].detach(), atol=1e-4)
    label = found['labels'][0]
    only = explain(network, inputs, layers, 'eigencam', str(label.item()), min_score=0.0)
    assert len(only.boxes) == (found['labels'] == label).sum()


def test_a_sure_box_weighs_as_much_as_a_doubtful_one():
    """In logits: the gradient of log(p / (1 - p)) is 1 / (p (1 - p))."""
    scores = torch.tensor([0.99, 0.6, 0.2], dtype=torch.float64, requires_grad=True)
    found = BaseDataElement(scores=scores, labels=torch.tensor([3, 3, 4]), bboxes=torch.eye(4)[:3])
    aim = TOOLBOXES['mmdet'].target(found, Network('net', None, None, CLASSES), None, 0.5)
    aim.value.backward()
    assert aim.text == '2 kite'
    assert scores.grad.tolist() == pytest.approx([1 / 0.0099, 1 / 0.24, 0])


@pytest.mark.parametrize('kind', ['mmpretrain', 'mmseg', 'mmdet'])
def test_spatial_bias_beside_the_convolution(kind):
    """The two parts of what the shared norm reads, from one pass."""
    network = build(kind)
    inputs = make_inputs(network)
    block = network.model.backbone.layer2[1]
    read = []
    handle = block.bn1.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    toolbox = TOOLBOXES[kind]
    image = inputs.tensor.clone().requires_grad_()
    output = toolbox.answer(network.model, image, inputs.samples)[0]
    handle.remove()
    aim = toolbox.target(output, network, None, 0.0)
    (gradient,) = torch.autograd.grad(aim.value, read[0])
    layers = find_layers(network, ['backbone.layer2.1'], spatial_bias=True)
    assert [layer.title for layer in layers] == ['layer2.1.conv1', 'spatial bias']
    found = explain(network, inputs, layers, min_score=0.0)
    for heat, part in zip(found.maps, (slice(16), slice(16, 19)), strict=True):
        layercam = toolbox.cam_method == 'layercam'
        assert_same(heat, by_hand(read[0][:, part], gradient[:, part], layercam=layercam))


def test_blocks_with_spatial_bias():
    layers = find_layers(build('mmpretrain'), spatial_bias=True)
    assert [layer.title for layer in layers[::2]] == [f'layer{i}.1.conv1' for i in (1, 2, 3)]


@pytest.mark.parametrize('method', METHODS)
def test_methods_are_the_package_s(method):
    """Its own hooks, on a layer for which they are right, and the class' logit."""
    network = build('mmpretrain')
    inputs = make_inputs(network)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network.model

        def forward(self, x):
            return self.model(x.detach().requires_grad_(), mode='tensor')

    layer = network.model.backbone.layer4
    with cam.method_class(method)(Logits(), [layer]) as package:
        expected = package(inputs.tensor, None)[0]
    found = explain(network, inputs, [Layer('layer4', layer)], method)
    np.testing.assert_allclose(found.maps[0], expected / expected.max(), atol=1e-5)


def test_layers_keep_their_maps():
    """In any order; also a norm's output, which a ReLU changes in place, with frozen stages."""
    network = build('mmpretrain')
    inputs = make_inputs(network)
    names = ['backbone.layer4', 'backbone.layer1.0.bn1', 'backbone.layer2']
    method = 'gradcamelementwise'  # whose maps are seldom of nothing
    maps = explain(network, inputs, find_layers(network, names), method).maps
    for name, heat in zip(names, maps, strict=True):
        alone = explain(network, inputs, find_layers(network, [name]), method).maps[0]
        np.testing.assert_array_equal(heat, alone)
    norm = find_layers(network, names[1:2])
    kept = explain(network, inputs, norm, 'eigencam').maps[0]
    for block in network.model.backbone.layer1:
        block.relu = torch.nn.ReLU()  # not in place
    np.testing.assert_array_equal(explain(network, inputs, norm, 'eigencam').maps[0], kept)


def test_the_map_is_cut_to_the_picture():
    network = build('mmpretrain')
    whole, cut = (make_inputs(network, padding=padding) for padding in (0, 20))
    layers = find_layers(network)
    whole, cut = (explain(network, inputs, layers).maps[0] for inputs in (whole, cut))
    np.testing.assert_array_equal(cut, whole[:44])


@pytest.mark.parametrize(
    ('kind', 'head'),
    [
        ('mmpretrain', 'head.fc'),
        ('mmseg', 'decode_head.conv_seg'),
        ('mmdet', 'roi_head.bbox_head.fc_cls'),
    ],
)
def test_a_map_of_nothing_is_refused(kind, head):
    network = build(kind)
    network.model.get_submodule(head).weight.data.zero_()  # the bias alone decides
    inputs, layers = make_inputs(network), find_layers(network)
    assert_one_line(lambda: explain(network, inputs, layers, min_score=0.0), 'the same all over')


def test_nothing_to_explain():
    network = build('mmdet')
    inputs = make_inputs(network)
    layers = find_layers(network)
    assert_one_line(
        lambda: explain(network, inputs, layers, min_score=2.0), 'no detection of score'
    )
    found = explain(network, inputs, layers, 'eigencam', min_score=2.0)  # sees features alone
    assert_same(found.maps[0], explain(network, inputs, layers, 'eigencam', min_score=0.0).maps[0])
    assert 'no detection' in found.text
    network = build('mmseg', ())
    network.model.decode_head.conv_seg.bias.data[7] = -100
    inputs, layers = make_inputs(network), find_layers(network)
    assert_one_line(lambda: explain(network, inputs, layers, category='7'), 'as class 7')


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (
            ['backbone.layr4'],
            'did you mean backbone.layer4? It has backbone.layer1.0, backbone.lay',
        ),
        ([''], "no layer ''"),
        (['backbone'], 'backbone gives a tuple, not a map'),
        (['head.fc'], 'head.fc gives 1 x 36, not a map'),
        (['backbone.layer4.1.relu'], 'layer4.1.relu runs more than once'),
        (['head.loss_module'], 'head.loss_module does not run'),
    ],
)
def test_bad_layers(names, message):
    network = build('mmpretrain')
    inputs = make_inputs(network)
    before = explain(network, inputs, find_layers(network))
    assert_one_line(lambda: explain(network, inputs, find_layers(network, names)), message)
    again = explain(network, inputs, find_layers(network))
    assert_same(again.maps[0], before.maps[0])
    # nothing is left on the network
    assert not any(module._forward_hooks for module in network.model.modules())


def test_bad_names(monkeypatch):
    network, plain = build('mmpretrain'), build('plain')
    inputs, layers = make_inputs(network), find_layers(network)
    assert_one_line(lambda: find_layers(plain, spatial_bias=True), 'plain has no spatial bias')
    assert_one_line(
        lambda: find_layers(network, ['backbone.layer4.1'], True),
        "no block 'backbone.layer4.1' with spatial bias, but backbone.layer1.0, ",
    )
    assert_one_line(lambda: explain(network, inputs, layers, 'gradcm'), 'give gradcam, gradcam++')
    assert_one_line(lambda: explain(network, inputs, layers, category='kit'), 'did you mean kite?')
    assert_one_line(lambda: explain(network, inputs, layers, category='5'), 'an index from 0 to 4')
    nameless = replace(network, classes=())
    assert_one_line(lambda: explain(nameless, inputs, layers, category='36'), 'has 36 classes')
    assert explain(nameless, inputs, layers, category='32').text.startswith('class 32 ')
    monkeypatch.setattr(cam, 'MOST_POSITIONS', 5)
    assert_one_line(lambda: explain(network, inputs, layers, 'eigencam'), 'has 6 positions')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert_one_line(lambda: explain(network, inputs, layers), 'pip install "mmsb[visualization]"')


def test_spread():
    """0 of a point, 1 of a flat map, sqrt(3) of two ends of a long line."""
    flat, point, ends = np.ones((50, 30)), np.zeros((50, 30)), np.zeros((1, 1001))
    point[7, 9] = ends[0, 0] = ends[0, -1] = 2
    found = [cam_sheets.spread(heat) for heat in (flat, point, ends)]
    np.testing.assert_allclose(found, [1, 0, 3**0.5], atol=2e-3)


def test_a_sheet_has_its_panels():
    """The picture, and of each network a column, or two, of each layer a row."""
    picture = np.full((20, 30, 3), 99, np.uint8)
    heat = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    networks = [Network(name, None, None) for name in ('one', 'two')]
    layers = [Layer(name, None) for name in 'abcd']
    found = [
        Explanation(picture, [heat] * 4, '1 kite', boxes=np.array([[1, 2, 11, 8]])),
        Explanation(picture, [None, heat, heat, heat], 'wall', mask=heat > 0.5),
    ]
    columns = [(network, layers) for network in networks]
    figure = cam_sheets.draw_sheet('a.png', columns, found, layers_a_row=2)
    assert len(figure.axes) == 2 * 5
    titles = [axes.get_title() for axes in figure.axes]
    far = f'spread {cam_sheets.spread(heat):.2f}'
    assert titles[:5] == [
        *('a.png', f'one: 1 kite\na, {far}', f'b, {far}', 'two: wall\na, no map', f'b, {far}')
    ]
    assert titles[5:] == ['', *[f'{name}, {far}' for name in 'cdcd']]
    shown = [axes.get_images()[0].get_array() if axes.images else None for axes in figure.axes]
    assert shown[5] is None
    np.testing.assert_array_equal(shown[0], picture)
    np.testing.assert_array_equal(shown[3], picture)  # no map
    assert not np.array_equal(shown[1], picture)
    (box,) = figure.axes[1].patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (1, 2, 10, 6)
    assert len(figure.axes[3].collections) == 1  # the segment's outline


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Configs and checkpoints of a classifier with and without spatial bias, and pictures."""
    folder = tmp_path_factory.mktemp('cam')
    for kind in ('mmpretrain', 'plain'):
        path, options = CONFIGS[kind]
        pytest.importorskip('mmpretrain.apis')
        cfg = Config.fromfile(ROOT / path)
        cfg.merge_from_dict({**BACKBONE, **options})
        cfg.dump(folder / f'{kind}.py')
        model = build_randomised(ROOT / path, 2.0, {**BACKBONE, **options}).float()
        meta = dict(dataset_meta=dict(classes=[f'name {i}' for i in range(36)]))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / f'{kind}.pth')
    (folder / 'images').mkdir()
    for name in ('a.png', 'b.jpg'):
        pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
        cv2.imwrite(str(folder / 'images' / name), cv2.GaussianBlur(pixels, (15, 15), 0) * 3)
    (folder / 'bad.png').write_bytes(b'no image')
    return folder


@pytest.fixture
def tool(run_here):
    """README's tool, in this process: its exit code and what it printed."""
    python, path, _, *flags = shlex.split(readme.command('vis cam'))
    assert flags[::4] == ['--network'] * 2

    def run(*args):
        done = run_here(python, path, *args, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def test_tool_side_by_side(files, tmp_path, tool):
    networks = []
    for name in ('plain', 'mmpretrain'):
        networks += ['--network', name, files / f'{name}.py', files / f'{name}.pth']
    code, out, _ = tool(files / 'images', *networks, '--out-dir', tmp_path / 'o')
    assert code == 0
    lines = [line for line in out.splitlines() if '->' in line]
    assert [line.split()[-1] for line in lines] == [str(tmp_path / f'o/{n}.png') for n in 'ab']
    assert 'plain: name ' in lines[0] and 'mmpretrain: name ' in lines[0]
    sheet = cv2.imread(str(tmp_path / 'o/a.png'))
    assert sheet.shape[1] == pytest.approx(3 * cam_sheets.PANEL * cam_sheets.DPI, abs=2)
    assert sorted(p.name for p in (tmp_path / 'o').iterdir()) == ['a.png', 'b.png']


def test_tool_spatial_bias(files, tmp_path, tool):
    one = files / 'images/a.png', files / 'mmpretrain.py', files / 'mmpretrain.pth'
    code, _, _ = tool(*one, '--spatial-bias', '--out-dir', tmp_path)
    assert code == 0
    assert (tmp_path / 'a.png').is_file()


def test_tool_bad_input(files, tmp_path, tool):
    image, plain = files / 'images/a.png', (files / 'plain.py', files / 'plain.pth')
    for args, message in [
        ((files / 'bad.png', *plain), f'image {files / "bad.png"} cannot be read'),
        ((image, files / 'plain.py', files / 'mmpretrain.pth'), 'does not belong to the model of'),
        ((image, files / 'mmpretrain.py', files / 'plain.pth'), 'does not belong to the model of'),
        ((image, files / 'plain.py', files / 'none.pth'), 'does not exist'),
        ((image, *plain, '--layers', 'backbone.layer9'), "no layer 'backbone.layer9'"),
        ((image, *plain, '--spatial-bias'), 'has no spatial bias'),
        ((image, *plain, '--method', 'cam'), "no method 'cam'"),
        ((image, 'plain.pth'), 'give images, a config and a checkpoint'),
    ]:
        code, out, err = tool(*args, '--out-dir', tmp_path / 'o')
        assert code == 2
        assert message in err.splitlines()[-1]
        assert '->' not in out
    assert not list(tmp_path.rglob('*.*'))
