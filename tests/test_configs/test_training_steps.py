"""Every config: one training step with its own optimizer, and an inference, on made-up images."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from tests.conftest import ROOT
from tests.test_configs.test_configs import CONFIGS

# Small, not square, and for detectors in the proportion of 800 x 1333; CIFAR's networks are made
# for 32 x 32.
SHAPES = dict(mmdet=(96, 160), mmseg=(64, 96), mmpretrain=(64, 96))


def classification_batch(cfg, shape):
    from mmpretrain.structures import DataSample

    labels = torch.arange(2) % cfg.model.head.num_classes
    images = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    return dict(inputs=images, data_samples=[DataSample().set_gt_label(i) for i in labels])


def detection_batch(cfg, shape):
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(2, [[3, *shape]] * 2, num_items=[2, 3], num_classes=80)


def segmentation_batch(cfg, shape):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        labels = torch.randint(0, cfg.model.decode_head.num_classes, (1, *shape))
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    images = list(torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8))
    return dict(inputs=images, data_samples=samples)


BATCHES = dict(mmdet=detection_batch, mmseg=segmentation_batch, mmpretrain=classification_batch)


def build(cfg):
    """The config's model and optimizer, as the runner would, without downloaded weights."""
    from mmengine.registry import MODELS
    from mmengine.runner import Runner

    cfg.model.backbone.init_cfg = None
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = SHAPES['mmseg']
    runner = Runner.__new__(Runner)  # for build_optim_wrapper, which needs the model alone
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        runner.model = MODELS.build(cfg.model)
        runner.model.init_weights()
        return runner.model, runner.build_optim_wrapper(cfg.optim_wrapper)


# test_toolbox_recipes.py steps two folders; every part of the others left out, which are slow, is
# in others
ELSEWHERE = (
    *('configs/detectors/', 'configs/segmentors/', 'configs/starts/mask', 'configs/starts/fpn'),
    *('configs/starts/faster_rcnn_r50', 'configs/starts/cascade', 'configs/starts/upernet_r50'),
    *('configs/starts/faster_rcnn_sb_r50-tv2', 'configs/starts/upernet_sb_r50-tv2'),
    'configs/cascade_rcnn_sb_r50-s23',
)


@pytest.mark.parametrize('path', [p for p in CONFIGS if not p.startswith(ELSEWHERE)])
def test_step(path):
    cfg = Config.fromfile(ROOT / path)
    pytest.importorskip(f'{cfg.default_scope}.models')
    torch.manual_seed(0)
    model, optim_wrapper = build(cfg)
    shape = (32, 32) if 'cifar100' in path else SHAPES[cfg.default_scope]
    batch = BATCHES[cfg.default_scope](cfg, shape)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    model.train()
    for group in optim_wrapper.param_groups:
        group['lr'] /= 100  # its place in the warm-up
    # before added spatial bias, the last norm's zeros move, then the columns of zeros that read it
    for _ in range(3 if cfg.model.backbone.type == 'mmsb.with_spatial_bias' else 1):
        optim_wrapper.zero_grad()
        loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
        assert loss.isfinite()
        optim_wrapper.backward(loss)
        # every layer takes part (DDP waits for those that do not), spatial bias for good
        assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        optim_wrapper.step()
    still = [n for n, p in model.named_parameters() if n in before and torch.equal(p, before[n])]
    assert not [n for n in still if '.spatial_bias.' in n]
    assert len(still) < len(before)

    model.eval()
    results = model.test_step(batch)
    assert len(results) == 2
    if cfg.default_scope == 'mmpretrain':
        assert results[0].pred_score.shape == (cfg.model.head.num_classes,)
        assert results[0].pred_score.sum().item() == pytest.approx(1, abs=1e-4)
    elif cfg.default_scope == 'mmseg':
        assert results[0].pred_sem_seg.shape == shape
    else:
        assert results[0].pred_instances.bboxes.shape[1] == 4
