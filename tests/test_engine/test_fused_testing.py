"""Whole models of the toolboxes with folded norms, and ``tools/test.py --fuse-conv-bn``."""

import copy

import pytest
import torch

from mmsb.engine import runner
from mmsb.engine.arguments import parse_test_args
from mmsb.models import fuse_spatial_bias
from tests.conftest import MINI_SB, TINY
from tests.weights import build_randomised

SEGMENTOR = 'configs/mini/fpn_sb_r18_mini_ade20k.py'


def test_detector(root):
    pytest.importorskip('mmdet')
    from mmdet.structures import DetDataSample

    model = build_randomised(root / MINI_SB, gain=3)
    shape = (96, 128)
    info = dict(img_shape=shape, ori_shape=shape, batch_input_shape=shape, scale_factor=(1, 1))
    generator = torch.Generator().manual_seed(12)  # images without equal scores
    image = torch.randn(2, 3, *shape, dtype=torch.float64, generator=generator)
    model.roi_head.test_cfg.score_thr = -1.0
    results = []
    for detector in (model, fuse_spatial_bias(copy.deepcopy(model))):
        samples = [DetDataSample(metainfo=info) for _ in image]
        with torch.no_grad():
            results.append(detector.predict(image, samples, rescale=False))
    for plain, fused in zip(*results, strict=True):
        plain, fused = plain.pred_instances, fused.pred_instances
        assert len(plain) > 50 and plain.scores.std() > 0.01
        # RoIAlign sees the same in thin boxes at an edge; rounding would decide which comes first
        assert plain.scores.diff().abs().min() > 1e-9
        assert torch.equal(plain.labels, fused.labels)
        torch.testing.assert_close(plain.scores, fused.scores)
        torch.testing.assert_close(plain.bboxes, fused.bboxes)


def test_segmentor(root):
    pytest.importorskip('mmseg')
    model = build_randomised(root / SEGMENTOR, gain=3)
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    info = [dict(img_shape=(64, 96))]
    with torch.no_grad():
        plain = model.encode_decode(image, info)
        fused = fuse_spatial_bias(copy.deepcopy(model)).encode_decode(image, info)
    assert plain.argmax(1).unique().numel() > 2
    torch.testing.assert_close(plain, fused)


def test_the_flag_fuses_the_loaded_weights(root, mini_coco, tmp_path, monkeypatch):
    pytest.importorskip('mmdet')
    monkeypatch.setenv('MMSB_COCO_ROOT', str(mini_coco))
    model = build_randomised(root / MINI_SB, gain=3).float()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'sb.pth')
    tested = []
    fuse = runner.fuse_spatial_bias
    monkeypatch.setattr(
        runner, 'fuse_spatial_bias', lambda model: (tested.append(model), fuse(model))[1]
    )
    runner.test(parse_test_args(
        [str(root / MINI_SB), str(tmp_path / 'sb.pth'), '--work-dir', str(tmp_path / 'work'),
         '--fuse-conv-bn', '--cfg-options', *TINY]
    ))  # fmt: skip
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for plain, fused in zip(model.backbone(image), tested[0].backbone(image), strict=True):
            torch.testing.assert_close(plain, fused, rtol=1e-3, atol=1e-3)
    assert tested[0].backbone.conv1.bias is not None
