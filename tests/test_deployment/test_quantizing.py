"""Lower precision against the float32 file: differences, types, sizes."""

import os
import shutil

import onnx
import pytest
import torch
from onnx import TensorProto

from mmsb.deployment.quantizing import calibration_images, quantize
from mmsb.deployment.runtime import OnnxModel
from tests.conftest import assert_one_line


def settings(scope, data):
    return {'val_dataloader.dataset.data_root': data[scope]}


@pytest.mark.parametrize(
    ('scope', 'to', 'tolerance', 'share'),
    [('mmpretrain', 'fp16', 5e-3, 0.75), ('mmseg', 'int8', 0.25, 0.6)],
)
def test_precision(tiny, exported, data, tmp_path, scope, to, tolerance, share):
    pytest.importorskip(scope)
    config, _ = tiny(scope)
    model = exported(scope)
    out = quantize(model, to, tmp_path / 'm.onnx', config, 6, settings(scope, data))
    assert os.path.getsize(out) < share * os.path.getsize(model)
    lower, full = OnnxModel(out), OnnxModel(model)
    assert (lower.shape, lower.outputs) == (full.shape, full.outputs)
    assert full.metadata.items() <= lower.metadata.items()
    for images in calibration_images(config, 3, settings(scope, data)):
        (a,), (b,) = lower(images), full(images)
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() < tolerance * b.norm()
    weights = [w.data_type for w in onnx.load(out).graph.initializer if len(w.dims) == 4]
    wanted = dict(fp16=TensorProto.FLOAT16, int8=TensorProto.INT8)[to]
    assert weights.count(wanted) >= 20


def test_the_images_are_the_data_preprocessors(tiny, data):
    pytest.importorskip('mmpretrain')
    config, _ = tiny('mmpretrain')
    images = list(calibration_images(config, 5, settings('mmpretrain', data)))
    assert [tuple(image.shape) for image in images] == [(1, 3, 96, 96)] * 5
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    pixels = torch.cat(images) * std[:, None, None] + mean[:, None, None]
    torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-3)
    assert pixels.round().min() >= 0 and pixels.round().max() <= 255 and pixels.std() > 1


def test_bad_input(tiny, exported, data, tmp_path):
    pytest.importorskip('mmpretrain')
    config, _ = tiny('mmpretrain')
    model, out = exported('mmpretrain'), tmp_path / 'out' / 'm.onnx'

    def refused(message, model=model, to='int8', **options):
        assert_one_line(lambda: quantize(model, to, out, **options), message)
        assert not out.exists()

    refused('give --config CONFIG')
    refused('does not exist', config=config + 'x')
    refused('does not exist', model=model + 'x')
    refused('not an ONNX file', model=config, to='fp16')
    refused('give 1 or more', config=config, num_images=0)
    here = settings('mmpretrain', data)
    refused('val_dataloader reads it', config=config, cfg_options=dict.fromkeys(here, 'no'))
    copy = shutil.copytree(data['mmpretrain'], tmp_path / 'data')
    image = min((copy / 'val').rglob('*.JPEG'))
    image.write_bytes(b'')
    refused(
        f'{image} cannot be read',
        config=config,
        cfg_options=settings('mmpretrain', dict(mmpretrain=copy)),
    )
    once = quantize(model, 'int8', tmp_path / 'int8.onnx', config, 2, here)
    half = quantize(exported('mmpretrain'), 'fp16', tmp_path / 'half.onnx')
    refused('is float16 already', model=half, to='fp16')
    refused('is already quantised', model=once, to='fp16')
