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


def level(channels, height, seed):
    shape = (2, channels, height, height * 3 // 2)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


PARTS = {
    # offsets of a level for the one above, which is smaller
    'DyHead': ('mmdet', dict(type='DyHead', in_channels=16, out_channels=16, num_blocks=1), 3),
    'CARAFE': (
        'mmdet',
        dict(type='FPN_CARAFE', in_channels=[16] * 3, out_channels=16, num_outs=3),
        3,
    ),
    'DPool': (
        'mmdet',
        dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='ModulatedDeformRoIPoolPack', output_size=3, output_channels=16),
            out_channels=16,
            featmap_strides=[4, 8, 16],
        ),
        3,
    ),
    'PSA': (
        'mmseg',
        dict(
            type='PSAHead', in_channels=16, in_index=0, channels=8, num_classes=3, mask_size=(8, 12)
        ),
        1,
    ),
}


@pytest.mark.parametrize('name', PARTS)
def test_part(ops, name):
    """Necks and heads of the toolboxes, whose operators torchvision has not."""
    scope, cfg, levels = PARTS[name]
    pytest.importorskip(f'{scope}.models')
    from mmengine.registry import MODELS, DefaultScope

    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg)
    model.init_weights()
    pyramid = [level(16, 16 >> n, n) for n in range(levels)]
    rois = [torch.tensor([[0.0, 8, 8, 40, 36], [1, 0, 0, 150, 150], [1, 0, 0, 300, 300]])]
    out = model(pyramid, *(rois if name == 'DPool' else []))
    outputs = [out] if torch.is_tensor(out) else out
    sum(output.square().sum() for output in outputs).backward()
    assert all(x.grad.isfinite().all() and x.grad.any() for x in pyramid)
