"""A whole trained model with a plain ResNet becomes its SB twin with the same metrics."""

import json
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import load_checkpoint

from mmsb.engine import test as run_test
from mmsb.engine import train
from mmsb.engine.arguments import parse_test_args, parse_train_args
from mmsb.utils.errors import UserError
from tests.conftest import MINI_SB, TINY
from tests.weights import randomise

MINI = MINI_SB.replace('_sb', '')


@pytest.fixture(scope='module')
def trained(root, mini_coco, tmp_path_factory):
    """The plain mini detector after an epoch."""
    pytest.importorskip('mmdet')
    work_dir = tmp_path_factory.mktemp('plain')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSB_COCO_ROOT', str(mini_coco))
        train(parse_train_args([str(root / MINI), '--work-dir', str(work_dir), '--no-validate',
                                '--seed', '0', '--cfg-options', *TINY]))  # fmt: skip
    return work_dir / 'epoch_1.pth'


@pytest.fixture(autouse=True)
def data(mini_coco, monkeypatch):
    monkeypatch.setenv('MMSB_COCO_ROOT', str(mini_coco))


def evaluate(root, config, checkpoint, out, truth, *flags):
    """Metrics and predictions of ``tools/test.py``."""
    options = [f'test_evaluator.ann_file={truth}', f'test_dataloader.dataset.ann_file={truth}']
    run_test(parse_test_args(
        [str(root / config), str(checkpoint), *flags, '--work-dir', str(out), '--out', f'{out}.pkl',
         '--metrics-out', f'{out}.json', '--cfg-options', *TINY, *options]
    ))  # fmt: skip
    with open(f'{out}.json') as metrics, open(f'{out}.pkl', 'rb') as predictions:
        return json.load(metrics), pickle.load(predictions)


def near_predictions(predictions, truth, path):
    """Ground truth that a detector which learned for seconds meets: near its best boxes."""
    content = json.loads(truth.read_text())
    classes = [category['id'] for category in content['categories']]
    content['annotations'] = []
    for image in predictions:
        instances = image['pred_instances']
        boxes, labels = instances['bboxes'].tolist(), instances['labels'].tolist()
        for i in range(0, 40, 4):
            x1, y1, x2, y2 = boxes[i]
            width, height = (x2 - x1) * (0.5 + i / 80), y2 - y1  # IoU 0.5 to 1
            content['annotations'].append(dict(
                id=len(content['annotations']) + 1, image_id=image['img_id'], iscrowd=0,
                category_id=classes[labels[i]], bbox=[x1, y1, width, height], area=width * height,
            ))  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def test_detector(root, mini_coco, trained, tmp_path):
    truth = mini_coco / 'annotations' / 'instances_val2017.json'
    _, predictions = evaluate(root, MINI, trained, tmp_path / 'first', truth)
    truth = near_predictions(predictions, truth, tmp_path / 'truth.json')
    plain, plain_boxes = evaluate(root, MINI, trained, tmp_path / 'plain', truth)
    grown, grown_boxes = evaluate(
        root, MINI_SB, trained, tmp_path / 'grown', truth, '--allow-partial'
    )
    assert grown == plain
    assert 0.05 < plain['coco/bbox_mAP'] < plain['coco/bbox_mAP_50'] < 1
    for ours, theirs in zip(grown_boxes, plain_boxes, strict=True):
        ours, theirs = (prediction['pred_instances'] for prediction in (ours, theirs))
        assert len(ours['labels']) > 10 and torch.equal(ours['labels'], theirs['labels'])
        for key in ('bboxes', 'scores'):
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=1e-3)
    log = next((tmp_path / 'grown').glob('*/*.log')).read_text()
    assert 'the outputs are those of this config with spatial_bias=None' in log


def sb_training(root, work_dir, *flags, options=()):
    train(parse_train_args([str(root / MINI_SB), '--work-dir', str(work_dir), '--no-validate',
                            *flags, '--cfg-options', *TINY, *options]))  # fmt: skip


def test_goes_on_and_resumes(root, trained, tmp_path):
    """From the plain detector with a frozen stage, and on from the SB checkpoint alike."""
    frozen = [f'model.backbone.{key}' for key in ('frozen_stages=1', 'norm_eval=True')]
    sb_training(root, tmp_path / 'sb', options=[f'load_from={trained}', *frozen])
    pwned = tmp_path / 'PWNED'
    checkpoint = torch.load(tmp_path / 'sb' / 'epoch_1.pth', weights_only=False)
    checkpoint['meta']['config'] = f'import os\nos.mkdir({str(pwned)!r})'  # mmengine would run it
    torch.save(checkpoint, tmp_path / 'sb' / 'epoch_1.pth')
    sb_training(root, tmp_path / 'sb', '--resume', options=['train_cfg.max_epochs=2', *frozen])
    assert not pwned.exists()
    plain, first, second = (
        {key.removeprefix('backbone.layer1.0.'): value for key, value in state.items()}
        for state in (
            torch.load(path, weights_only=False)['state_dict']
            for path in (trained, tmp_path / 'sb' / 'epoch_1.pth', tmp_path / 'sb' / 'epoch_2.pth')
        )
    )
    channels = len(plain['bn1.running_var'])  # a basic block's widened norm
    for state in (first, second):
        for key in ('conv1.weight', 'bn2.weight', 'bn2.running_mean'):
            assert torch.equal(state[key], plain[key])
        assert torch.equal(state['bn1.running_var'][:channels], plain['bn1.running_var'])
        assert not torch.isclose(state['bn1.running_var'][channels:], torch.ones(3)).any()
        assert (state['conv2.weight'][:, channels:] != 0).any()
    for key in ('reduction.bn.running_mean', 'mixing.weight'):
        assert not torch.equal(first[f'spatial_bias.{key}'], second[f'spatial_bias.{key}'])


@pytest.mark.parametrize('how', ['path', 'auto'])
def test_resume_from_plain_weights_is_refused(root, trained, tmp_path, how):
    work_dir = tmp_path / 'work' if how == 'path' else trained.parent
    flags = ['--resume', str(trained)] if how == 'path' else ['--resume']
    before = {path: path.stat().st_mtime_ns for path in trained.parent.glob('*.pth')}
    with pytest.raises(UserError) as error:
        sb_training(root, work_dir, *flags)
    line = str(error.value)
    assert '\n' not in line and 'cannot be resumed' in line and 'without spatial bias' in line
    assert f'--cfg-options load_from={trained}' in line
    assert before == {path: path.stat().st_mtime_ns for path in trained.parent.glob('*.pth')}
    assert not list((tmp_path / 'work').glob('*.pth'))


def segmentor(backbone):
    from mmseg.registry import MODELS

    cfg = ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 96)),
        backbone=dict(depth=18, base_channels=8, **backbone),
        neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4),
        decode_head=dict(
            type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3], channels=8,
            feature_strides=[4, 8, 16, 32], num_classes=5, norm_cfg=dict(type='BN'),
        ),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg)


def test_segmentor(tmp_path):
    pytest.importorskip('mmseg')
    from mmseg.evaluation import IoUMetric
    from mmseg.structures import SegDataSample

    MMLogger.get_current_instance().setLevel('WARNING')
    plain = randomise(segmentor(dict(type='ResNet', stem_channels=8))).float()
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    grown = segmentor(dict(type='mmsb.SBResNet', spatial_bias=dict(size=4)))
    load_checkpoint(grown, str(tmp_path / 'plain.pth'))

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 64, 96, generator=generator)
    truth = torch.randint(5, (4, 64, 96), generator=generator)
    metrics, maps = [], []
    for model in (plain, grown):
        model.eval()
        metric = IoUMetric(iou_metrics=['mIoU'])
        metric.dataset_meta = dict(classes=tuple('abcde'))
        with torch.no_grad():
            samples = [SegDataSample(metainfo=dict(img_shape=(64, 96), ori_shape=(64, 96)))
                       for _ in images]  # fmt: skip
            results = model.predict(images, samples)
        maps.append(torch.cat([result.pred_sem_seg.data for result in results]))
        for result, labels in zip(results, truth, strict=True):
            metric.process({}, [dict(pred_sem_seg=dict(data=result.pred_sem_seg.data),
                                     gt_sem_seg=dict(data=labels))])  # fmt: skip
        metrics.append(metric.evaluate(len(images)))
    assert len(maps[0].unique()) > 2
    assert torch.equal(*maps)
    assert metrics[0] == metrics[1] and np.isfinite(metrics[0]['mIoU']) and metrics[0]['mIoU'] > 0
