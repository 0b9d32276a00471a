"""Evaluation against truth: oracles through the whole of tools/test.py, and cases by hand."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import nn

from mmsb.datasets.miniatures.ade20k import make_mini_ade20k
from mmsb.datasets.miniatures.imagenet import make_mini_imagenet
from mmsb.engine import test as run_test
from mmsb.engine.arguments import parse_test_args
from tests.conftest import MINI_SB, ROOT, tracked

FPN, CLASSIFIER = (
    'configs/mini/fpn_sb_r18_mini_ade20k.py',
    'configs/mini/sb_resnet18_mini_in1k.py',
)


@MODELS.register_module()
class Oracle(BaseModel):
    """Predicts the ground truth; boxes may be moved by noise and ranked by chance.

    Args:
        noise (float): Largest shift of a box's sides, in its sizes. Defaults to 0.
        scope (str): The toolbox.
    """

    def __init__(self, noise=0.0, scope='mmdet', data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.noise, self.scope = noise, scope
        self.weight = nn.Parameter(torch.zeros(1))  # so that it has a device and a checkpoint
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, inputs, data_samples=None, mode='predict'):
        for sample in data_samples:
            getattr(self, self.scope)(sample)
        return data_samples

    def mmpretrain(self, sample):
        sample.set_pred_score(nn.functional.one_hot(sample.gt_label, 36)[0].float())

    def mmseg(self, sample):
        sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data.clone())

    def mmdet(self, sample):
        truth = sample.gt_instances
        boxes = getattr(truth.bboxes, 'tensor', truth.bboxes)
        size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        noise = torch.rand(boxes.shape, generator=self.generator) * 2 - 1
        scores = torch.rand(len(boxes), generator=self.generator)
        # the annotations are loaded behind Resize, in the original image's pixels
        sample.pred_instances = InstanceData(
            bboxes=boxes + self.noise * noise * size, labels=truth.labels, scores=scores
        )


@pytest.fixture(scope='module')
def data(mini_coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    return dict(
        mmdet=('MMSB_COCO_ROOT', mini_coco),
        mmseg=('MMSB_ADE20K_ROOT', make_mini_ade20k(folder / 'ade', 3, 4, (64, 96))),
        mmpretrain=('MMSB_IMAGENET_ROOT', make_mini_imagenet(folder / 'in', 1, 2, (64, 64))),
    )


@pytest.fixture
def evaluate(data, tmp_path, monkeypatch):
    """tools/test.py with an oracle in place of the config's model; the metrics."""

    def run(scope, config, *flags, **oracle):
        pytest.importorskip(f'{scope}.models')
        variable, root = data[scope]
        monkeypatch.setenv(variable, str(root))
        preprocessor = Config.fromfile(ROOT / config).model.data_preprocessor.to_dict()
        model = dict(
            _delete_=True,
            data_preprocessor={'type': 'ClsDataPreprocessor', **preprocessor},
            **(oracle if 'type' in oracle else dict(type='Oracle', scope=scope, **oracle)),
        )
        config_path = tmp_path / f'oracle_{scope}.py'  # mmengine names a run's scope after it
        config_path.write_text(
            f'_base_ = {str(ROOT / config)!r}\nmodel = {model!r}\n'
            'test_dataloader = dict(num_workers=0)\n'
        )
        torch.save(dict(state_dict=dict(weight=torch.zeros(1)), meta={}), tmp_path / 'oracle.pth')
        args = [str(config_path), str(tmp_path / 'oracle.pth')]
        return run_test(parse_test_args([*args, '--work-dir', str(tmp_path / 'work'), *flags]))

    return run


def test_detection_of_the_truth(evaluate, tmp_path):
    metrics = evaluate('mmdet', MINI_SB, '--track', 'tensorboard')
    assert metrics['coco/bbox_mAP'] == metrics['coco/bbox_mAP_75'] == 1.0
    numbers = {key: value for key, value in metrics.items() if value == value}  # not nan
    found = tracked(tmp_path / 'work')
    assert numbers and numbers == {key: pytest.approx(found[key][0]) for key in numbers}


def test_ap_is_pycocotools_on_the_written_predictions(evaluate, mini_coco, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    out = tmp_path / 'predictions.pkl'
    metrics = evaluate('mmdet', MINI_SB, '--out', str(out), noise=0.25)
    coco = COCO(str(mini_coco / 'annotations/instances_val2017.json'))
    ids = sorted(coco.getCatIds())  # the toolbox's labels count COCO's ids
    results = []
    for image in load(out):
        found = image['pred_instances']
        for box, score, label in zip(
            found['bboxes'].tolist(), found['scores'].tolist(), found['labels'].tolist(),
            strict=True,
        ):  # fmt: skip
            x1, y1, x2, y2 = box
            results.append(dict(image_id=image['img_id'], category_id=ids[label], score=score,
                                bbox=[x1, y1, x2 - x1, y2 - y1]))  # fmt: skip
    evaluation = COCOeval(coco, coco.loadRes(results), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0.1 < evaluation.stats[0] < 0.9  # neither all nor nothing
    for key, index in (('mAP', 0), ('mAP_50', 1), ('mAP_75', 2)):
        value = metrics[f'coco/bbox_{key}']
        assert value == pytest.approx(evaluation.stats[index], abs=5.1e-4)  # it has three digits


def test_ap_by_hand(tmp_path):
    """Two objects; a hit, a false alarm, then a hit of IoU 0.6, by falling score."""
    pytest.importorskip('mmdet.evaluation')
    from mmdet.registry import METRICS

    annotations = [
        dict(id=i, image_id=1, category_id=1, bbox=box, area=100, iscrowd=0)
        for i, box in enumerate(([0, 0, 10, 10], [50, 0, 10, 10]), 1)
    ]
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(dict(
        images=[dict(id=1, width=100, height=100, file_name='a.jpg')],
        categories=[dict(id=1, name='thing')], annotations=annotations)))  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = METRICS.build(dict(type='CocoMetric', ann_file=str(path), metric='bbox'))
    metric.dataset_meta = dict(classes=('thing',))
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 50, 30, 60], [50, 0, 56, 10]])
    found = dict(bboxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7]), labels=torch.zeros(3).long())
    metric.process({}, [dict(img_id=1, ori_shape=(100, 100), pred_instances=found)])
    metrics = metric.evaluate(1)
    # precision 1 up to recall 0.5 (51 of 101 points), then 2/3 where the third box is a hit
    at_50, at_75 = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert metrics['coco/bbox_mAP_50'] == pytest.approx(at_50, abs=5.1e-4)
    assert metrics['coco/bbox_mAP_75'] == pytest.approx(at_75, abs=5.1e-4)
    # thresholds 0.50 to 0.95: the third box is a hit at 0.50, 0.55 and 0.60
    mean = (3 * at_50 + 7 * at_75) / 10
    assert metrics['coco/bbox_mAP'] == pytest.approx(mean, abs=5.1e-4)


def assert_tracked(metrics, tmp_path):
    found = tracked(tmp_path / 'work')
    assert found == {name: {0: pytest.approx(value)} for name, value in metrics.items()}


def test_segmentation_of_the_truth(evaluate, tmp_path):
    metrics = evaluate('mmseg', FPN, '--track', 'tensorboard')
    assert_tracked(metrics, tmp_path)
    assert metrics['aAcc'] == metrics['mIoU'] == metrics['mAcc'] == 100.0


def test_flips_of_a_segmentor_that_looks_at_single_pixels_change_nothing(evaluate, tmp_path):
    pytest.importorskip('mmseg.models')
    from mmseg.models.segmentors import BaseSegmentor

    @MODELS.register_module(force=True)
    class BlueIsSky(BaseSegmentor):
        def __init__(self, data_preprocessor):
            super().__init__(data_preprocessor)
            self.weight = nn.Parameter(torch.zeros(1))
            self.align_corners, self.out_channels = False, 150

        def predict(self, inputs, data_samples):
            logits = inputs.new_zeros(len(inputs), 150, *inputs.shape[2:])
            logits[:, 2] = inputs[:, 2] - inputs[:, 0]  # sky, where there is more blue than red
            logits[:, 9] = 0.1  # else grass
            return self.postprocess_result(logits, data_samples)

        loss = _forward = encode_decode = extract_feat = None

    out = tmp_path / 'maps.pkl'
    plain = evaluate('mmseg', FPN, '--out', str(out), type='BlueIsSky')
    flipped = evaluate('mmseg', FPN, '--tta', type='BlueIsSky')
    assert 5 < plain['aAcc'] < 95
    assert flipped == pytest.approx(plain, nan_ok=True)

    # what was written gives the accuracy that was printed
    right = total = 0
    for found in load(out):
        assert 'seg_logits' not in found
        path = Path(found['img_path'])
        path = path.parents[2] / 'annotations/validation' / f'{path.stem}.png'
        truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(int) - 1
        right += (found['pred_sem_seg'].numpy()[0] == truth).sum()
        total += (truth >= 0).sum()
    assert plain['aAcc'] == pytest.approx(100 * right / total, abs=0.006)


@pytest.mark.parametrize('flags', [[], ['--tta']])
def test_drawn_classification_has_the_images_colours(evaluate, data, tmp_path, flags):
    drawn = tmp_path / 'drawn'
    evaluate('mmpretrain', CLASSIFIER, '--show-dir', str(drawn), *flags)
    sources = {path.name: path for path in (data['mmpretrain'][1] / 'val').rglob('*.JPEG')}
    pictures = sorted(drawn.glob('*.png'))
    assert len(pictures) == len(sources) == 72
    for picture in pictures[::9]:
        source = cv2.imread(str(sources[picture.name.rsplit('_', 1)[0]]))  # square, as the crop
        found = cv2.resize(cv2.imread(str(picture)), (64, 64), interpolation=cv2.INTER_AREA)
        found, source = found[32:].astype(int), source[32:].astype(int)  # below the text
        assert abs(found - source).mean() < 6


def test_flips_of_a_classifier_average(evaluate):
    pytest.importorskip('mmpretrain.models')
    assert evaluate('mmpretrain', CLASSIFIER, '--tta')['accuracy/top1'] == 100.0


def test_miou_by_hand():
    pytest.importorskip('mmseg.evaluation')
    from mmseg.registry import METRICS

    with DefaultScope.overwrite_default_scope('mmseg'):
        metric = METRICS.build(dict(type='IoUMetric', iou_metrics=['mIoU']))
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    truth = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 255]])
    found = torch.tensor([[0, 0, 0, 1, 1, 1, 0, 2]])  # where the truth is 255 nothing counts
    metric.process({}, [dict(pred_sem_seg=dict(data=found), gt_sem_seg=dict(data=truth))])
    metrics = metric.evaluate(1)
    # IoU 3/5, 2/3 and 0/1; accuracy 3/4, 2/2 and 0/1; 5 of 7 pixels
    assert metrics['mIoU'] == pytest.approx(100 * (3 / 5 + 2 / 3 + 0) / 3, abs=0.006)
    assert metrics['mAcc'] == pytest.approx(100 * (3 / 4 + 1 + 0) / 3, abs=0.006)
    assert metrics['aAcc'] == pytest.approx(100 * 5 / 7, abs=0.006)


def test_classification_of_the_truth(evaluate, tmp_path):
    out = tmp_path / 'scores.pkl'
    metrics = evaluate('mmpretrain', CLASSIFIER, '--out', str(out), '--track', 'tensorboard')
    assert metrics['accuracy/top1'] == 100.0
    assert_tracked(metrics, tmp_path)
    found = load(out)
    assert len(found) == 72
    assert all(sample['pred_score'].argmax() == sample['gt_label'] for sample in found)
