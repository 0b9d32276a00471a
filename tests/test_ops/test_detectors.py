"""mmdet's own detectors train and predict on the served operators."""

from pathlib import Path

import pytest
import torch


@pytest.mark.parametrize(
    'config',
    ['mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', 'retinanet/retinanet_r50_fpn_1x_coco.py'],
)
def test_detector(ops, config):
    mmdet = pytest.importorskip('mmdet')
    pytest.importorskip('mmdet.models')
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    cfg = Config.fromfile(Path(mmdet.__file__).parent / '.mim/configs' / config).model
    cfg.backbone.init_cfg = None
    has_masks = cfg.type == 'MaskRCNN'
    (cfg.test_cfg.rcnn if has_masks else cfg.test_cfg).score_thr = 0.0
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
    batch = demo_mm_inputs(2, [[3, 64, 96], [3, 96, 64]], num_items=[2, 2], with_mask=has_masks)

    loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    loss.backward()
    assert loss.isfinite()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing

    model.eval()
    with torch.no_grad():
        results = model(**model.data_preprocessor(batch, False), mode='predict')
    assert all(len(result.pred_instances) > 0 for result in results)
