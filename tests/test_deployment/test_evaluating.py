"""Exported models have their model's metrics, as tools/test.py finds them."""

import json

import pytest
import torch

from mmsb.deployment.evaluating import evaluate
from mmsb.deployment.exporting import export
from mmsb.deployment.runtime import OnnxModel
from mmsb.engine import test as run_test
from mmsb.engine.arguments import parse_test_args
from tests.conftest import MINI_SB, ROOT, assert_one_line
from tests.weights import build_randomised


def options(scope, data):
    prefix = 'test_dataloader.dataset.data_root='
    return [f'{prefix}{data[scope]}', 'test_dataloader.num_workers=0']


def as_dict(pairs):
    values = dict(pair.split('=') for pair in pairs)
    return {key: int(value) if value.isdigit() else value for key, value in values.items()}


@pytest.mark.parametrize(('scope', 'dynamic'), [('mmpretrain', False), ('mmseg', True)])
def test_the_metrics_are_the_models(tiny, exported, data, tmp_path, scope, dynamic):
    pytest.importorskip(scope)
    config, checkpoint = tiny(scope)
    pairs = options(scope, data)
    args = [config, checkpoint, '--work-dir', str(tmp_path), '--cfg-options', *pairs]
    wanted = run_test(parse_test_args(args))
    found = evaluate(config, exported(scope, dynamic), as_dict(pairs))
    assert found == pytest.approx(wanted, abs=1e-3) and max(wanted.values()) > 0
    assert found.keys() == wanted.keys()


def test_a_binary_segmentor(tiny, data, tmp_path):
    """One logit for two classes, and a threshold, which the file holds."""
    pytest.importorskip('mmseg')
    classes = dict(classes=('sky', 'building'))  # labels of others are ignored
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    head = dict(num_classes=2, out_channels=1, threshold=0.4, loss_decode=loss)
    config, checkpoint = tiny('mmseg', 'binary', head=head)
    with open(config, 'a') as file:
        file.write(f'test_dataloader = dict(dataset=dict(metainfo={classes}))\n')
    content = torch.load(checkpoint, weights_only=True)
    content['state_dict']['decode_head.conv_seg.weight'] *= 30  # pixels of both classes
    torch.save(content, checkpoint)
    pairs = options('mmseg', data)
    args = [config, checkpoint, '--work-dir', str(tmp_path), '--cfg-options', *pairs]
    wanted = run_test(parse_test_args(args))
    done = export(config, checkpoint, out=tmp_path / 'm.onnx', shape=(64, 96), dynamic=True)
    assert done.metadata['threshold'] == '0.4'
    assert evaluate(config, done.path, as_dict(pairs)) == pytest.approx(wanted, abs=1e-3)


def test_it_is_the_file_that_predicts(tiny, data, tmp_path):
    """Biases that leave one class: its share of the images, two of 72."""
    pytest.importorskip('mmpretrain')
    config, checkpoint = tiny('mmpretrain')
    content = torch.load(checkpoint, weights_only=True)
    content['state_dict']['head.fc.bias'][7] = 1e4
    torch.save(content, tmp_path / 'biased.pth')
    out = tmp_path / 'm.onnx'
    export(config, str(tmp_path / 'biased.pth'), out=out)
    found = evaluate(config, out, as_dict(options('mmpretrain', data)))
    assert found['accuracy/top1'] == pytest.approx(100 / 36)


def test_a_detector(mini_coco, tmp_path, monkeypatch):
    """A file that finds the annotated boxes, at the size of its input, gets an AP of 1."""
    pytest.importorskip('mmdet')
    config, out, checkpoint = str(ROOT / MINI_SB), tmp_path / 'm.onnx', tmp_path / 'm.pth'
    model = build_randomised(config, 2.5).float()
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    settings = {'model.test_cfg.rcnn.score_thr': 0.01}
    export(config, str(checkpoint), out=out, shape=(256, 256), cfg_options=settings)
    path = mini_coco / 'annotations' / 'instances_val2017.json'
    settings = {
        'test_dataloader.dataset.data_root': str(mini_coco),
        'test_dataloader.num_workers': 0,
        'test_evaluator.ann_file': str(path),
    }
    metrics = evaluate(config, out, settings)
    assert 0 <= metrics['coco/bbox_mAP'] < 0.2
    coco = json.loads(path.read_text())
    ids = sorted(category['id'] for category in coco['categories'])
    images = iter(sorted(coco['images'], key=lambda image: image['id']))

    def found(self, batch):
        image = next(images)
        height, width = image['height'], image['width']
        scale = 256 / max(height, width)  # as the config enlarges images, to whole pixels
        factors = [int(side * scale + 0.5) / side for side in (width, height)] * 2
        own = [a for a in coco['annotations'] if a['image_id'] == image['id']]
        x, y, w, h = torch.tensor([a['bbox'] for a in own]).unbind(1)
        boxes = torch.stack([x, y, x + w, y + h], 1) * torch.tensor(factors)
        return [
            boxes,
            torch.ones(len(own)),
            torch.tensor([ids.index(a['category_id']) for a in own]),
        ]

    monkeypatch.setattr(OnnxModel, '__call__', found)
    assert evaluate(config, out, settings)['coco/bbox_mAP'] == pytest.approx(1, abs=1e-3)


def test_bad_input(tiny, exported, data, tmp_path):
    for name in ('mmpretrain', 'mmseg', 'mmdet'):
        pytest.importorskip(name)
    config, checkpoint = tiny('mmpretrain')
    settings = as_dict(options('mmpretrain', data))

    def refused(message, config=config, model=None, settings=settings):
        model = model or exported('mmpretrain')
        assert_one_line(lambda: evaluate(config, model, settings), message)

    refused('not boxes, scores, labels: export a plain two-stage', config=str(ROOT / MINI_SB))
    refused('nowhere.onnx does not exist', model=str(tmp_path / 'nowhere.onnx'))
    (tmp_path / 'text.onnx').write_text('no model')
    refused('text.onnx is damaged or not an ONNX file', model=str(tmp_path / 'text.onnx'))
    refused('pth is damaged or not an ONNX file', model=checkpoint)
    refused('does not exist (test_dataloader reads it)', settings=dict.fromkeys(settings, 'no'))
    backbone = tmp_path / 'backbone.onnx'
    export(config, checkpoint, out=backbone, backbone=True)
    refused('features0, not logits', model=str(backbone))
    refused('has 150 classes, the config 36', model=exported('mmseg'))
    small = tmp_path / 'small.onnx'
    export(config, checkpoint, out=small, shape=(64, 64))
    refused('takes images of 64 x 64, but one has 96 x 96', model=str(small))
