"""Images through a config's test pipeline: what testing gives the model, and the picture of it."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmsb.inference.images import load_inputs
from tests.conftest import MINI_SB, ROOT, assert_one_line

DETECTION = MINI_SB
SEGMENTATION = 'configs/mini/fpn_sb_r18_mini_ade20k.py'
CLASSIFICATION = 'configs/mini/sb_resnet18_mini_in1k.py'
CIFAR = 'configs/cifar100/sb_resnet38-s1_300e_cifar100.py'


@pytest.fixture
def config_and_model():
    def make(path, options=None):
        cfg = Config.fromfile(ROOT / path)
        cfg.merge_from_dict(options or {})
        pytest.importorskip(f'{cfg.default_scope}.apis')
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            return cfg, MODELS.build(cfg.model)

    return make


@pytest.fixture
def image(tmp_path):
    """A picture of 90 x 160, red at the left and blue at the right."""
    pixels = np.zeros((90, 160, 3), np.uint8)
    pixels[:, :80, 2], pixels[:, 80:, 0], pixels[:30, :, 1] = 200, 250, 40
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    return tmp_path / 'a.png'


@pytest.mark.parametrize(
    ('path', 'size', 'padded'),
    [
        (DETECTION, (144, 256), (160, 256)),
        (SEGMENTATION, (90, 160), (90, 160)),
        (CLASSIFICATION, (96, 96), (96, 96)),
        (CIFAR, (90, 160), (90, 160)),
    ],
)
def test_the_picture_is_what_the_network_sees(image, config_and_model, path, size, padded):
    cfg, model = config_and_model(path)
    inputs = load_inputs(cfg, model, image)
    assert inputs.picture.dtype == np.uint8
    assert inputs.picture.shape == (*size, 3)
    assert tuple(inputs.tensor.shape) == (1, 3, *padded)
    assert len(inputs.samples) == 1
    # every corner has its colour, RGB
    for corner, colour in (((-1, 0), (200, 0, 0)), ((-1, -1), (0, 0, 250)), ((0, 0), (200, 40, 0))):
        np.testing.assert_allclose(inputs.picture[corner], colour, atol=1)
    preprocessor = model.data_preprocessor
    seen = inputs.tensor[0] * preprocessor.std + preprocessor.mean
    seen = seen[:, : size[0], : size[1]].permute(1, 2, 0)
    np.testing.assert_allclose(seen.numpy(), inputs.picture, atol=1e-4)


def test_the_input_is_what_testing_gives(mini_coco, config_and_model):
    cfg, model = config_and_model(DETECTION, {'test_dataloader.dataset.data_root': str(mini_coco)})
    with DefaultScope.overwrite_default_scope('mmdet'):
        batch = DATASETS.build(cfg.test_dataloader.dataset)[0]
    batch = model.data_preprocessor(pseudo_collate([batch]), False)
    sample = batch['data_samples'][0]
    inputs = load_inputs(cfg, model, sample.img_path)
    assert torch.equal(inputs.tensor, batch['inputs'])
    for key in ('img_shape', 'ori_shape', 'scale_factor', 'batch_input_shape'):
        assert inputs.samples[0].metainfo[key] == sample.metainfo[key]


@pytest.mark.parametrize('content', [b'', b'no image', None])
def test_an_unreadable_image(tmp_path, config_and_model, content):
    cfg, model = config_and_model(CLASSIFICATION)
    path = tmp_path / 'bad.png'
    if content is not None:
        path.write_bytes(content)
    assert_one_line(lambda: load_inputs(cfg, model, path), f'image {path} cannot be read')


def test_a_pipeline_without_its_end(image, config_and_model):
    cfg, model = config_and_model(CLASSIFICATION)
    cfg.test_dataloader.dataset.pipeline.pop()
    assert_one_line(lambda: load_inputs(cfg, model, image), 'Pack...Inputs')
