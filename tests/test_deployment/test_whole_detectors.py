"""Exported boxes against those that mmdet predicts."""

import json
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

from mmsb.deployment.detectors import OUTPUTS, detect, in_order_of, is_plain_two_stage
from mmsb.deployment.exporting import export
from mmsb.deployment.quantizing import quantize
from mmsb.deployment.runtime import OnnxModel, OpenVinoModel
from tests.conftest import MINI_SB, ROOT, assert_one_line
from tests.weights import build_randomised

pytest.importorskip('mmdet')
SHAPE = (96, 128)


def build(**options):
    """The mini detector, whose weights all say something, with settings by their path."""
    model = build_randomised(ROOT / MINI_SB, 2.5, options)
    with torch.no_grad():
        model.roi_head.bbox_head.fc_cls.bias[:8] += 2  # of several classes
    return model.float().eval()


def predict(model, image):
    """Boxes, scores and labels by mmdet."""
    from mmdet.structures import DetDataSample

    info = dict(img_shape=SHAPE, ori_shape=SHAPE, batch_input_shape=SHAPE, scale_factor=(1, 1))
    with torch.no_grad():
        (sample,) = model.predict(image, [DetDataSample(metainfo=info)], rescale=False)
    found = sample.pred_instances
    return [found.bboxes, found.scores, found.labels]


def assert_same(found, wanted):
    # pixels: an untrained network's boxes differ by 0.012 on some processors, by rounding alone
    for a, b, tolerance in zip(in_order_of(wanted, found), wanted, (0.05, 1e-4, 0), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def images(number):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, *SHAPE, generator=generator) for _ in range(number)]


@pytest.mark.parametrize(
    'options',
    [
        {},
        {
            'model.rpn_head.loss_cls.use_sigmoid': False,
            'model.roi_head.bbox_head.reg_class_agnostic': True,
            'model.roi_head.bbox_roi_extractor.roi_layer.sampling_ratio': 0,
            'model.test_cfg.rpn.nms_pre': 50,
            'model.test_cfg.rpn.min_bbox_size': 4,
            'model.test_cfg.rcnn.nms.iou_threshold': 0.3,
        },
    ],
)
def test_in_pytorch(options):
    model = build(**options)
    assert is_plain_two_stage(model)
    numbers = []
    for threshold in (0.2, 2.0):
        model.roi_head.test_cfg.score_thr = threshold
        for image in images(2):
            wanted = predict(model, image)
            numbers.append(len(wanted[0]))
            with torch.no_grad():
                assert_same(list(detect(model, image).values()), wanted)
    assert min(numbers[:2]) > 10 and numbers[2:] == [0, 0]


def test_onnx(tmp_path):
    model = build()
    checkpoint, path = str(tmp_path / 'm.pth'), tmp_path / 'm.onnx'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)

    def write(threshold, **options):
        settings = {'model.test_cfg.rcnn.score_thr': threshold}
        config = str(ROOT / MINI_SB)
        return export(config, checkpoint, out=path, shape=SHAPE, cfg_options=settings, **options)

    assert write(0.2, fuse_conv_bn=True).note is None
    model.roi_head.test_cfg.score_thr = 0.2
    exported, numbers = OnnxModel(path), set()
    other = OpenVinoModel(path) if find_spec('openvino') else exported
    assert json.loads(exported.metadata['outputs']) == exported.outputs == OUTPUTS
    for image in images(3):
        wanted = predict(model, image)
        assert_same(exported(image), wanted)
        assert_same(other(image), wanted)
        assert wanted[1].std() > 0.03 and wanted[2].unique().numel() > 2
        numbers.add(len(wanted[0]))
    assert len(numbers) > 1
    assert_one_line(lambda: exported(torch.cat(images(2))), 'takes one image at a time, not 2')
    small = images(1)[0][..., :80, :100]  # is padded as mmdet pads the images of a batch
    assert_same(exported(small), exported(F.pad(small, (0, 28, 0, 16))))
    large = torch.zeros(1, 3, 128, 128)
    assert_one_line(lambda: exported(large), 'images of up to 96 x 128, but one has 128 x 128')
    assert_one_line(lambda: quantize(path, 'fp16'), 'boxes, which need float32')
    assert_one_line(lambda: write(2.0), 'finds nothing in the random image')
    # traced on an image where it finds something, run on one where it does not
    plain = torch.zeros(1, 3, *SHAPE)
    threshold = predict(model, plain)[1].max().item() + 1e-3
    assert write(threshold).note is None
    assert [len(found) for found in OnnxModel(path)(plain)] == [0, 0, 0]
    model.roi_head.test_cfg.score_thr = threshold
    wanted = [predict(model, 4 * image) for image in images(3)]
    assert max(len(boxes) for boxes, _, _ in wanted)
    for image, of_image in zip(images(3), wanted, strict=True):
        assert_same(OnnxModel(path)(4 * image), of_image)
    model.roi_head.test_cfg.nms = dict(type='soft_nms', iou_threshold=0.5)
    assert not is_plain_two_stage(model)
