"""Exported files against the models in PyTorch, run independently of the tool's own check."""

import io
import json
import re

import onnx
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmsb.deployment import exporting
from mmsb.deployment.exporting import export
from mmsb.deployment.runtime import OnnxModel
from tests.conftest import ROOT, assert_one_line

SIZES = [(1, 64, 96), (4, 75, 101), (2, 128, 64)]


def reference(config, checkpoint, scope):
    """The model as the toolbox builds it, and what it computes for an image."""
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    model.eval()

    def run(x):
        if scope == 'mmpretrain':
            return [model.head.fc(model.backbone(x)[-1].mean((2, 3)))]
        if scope == 'mmseg':
            meta = dict(ori_shape=x.shape[2:], img_shape=x.shape[2:], pad_shape=x.shape[2:])
            return [model.inference(x, [dict(meta, flip=False)] * len(x))]
        scores, deltas = model.rpn_head(model.extract_feat(x))
        return [*model.extract_feat(x), *scores, *deltas]

    return model, run


def assert_same(run, model, sizes):
    for batch, height, width in sizes:
        images = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            wanted, found = model(images), run(images)
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5 * b.abs().max().item())


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
def test_onnx_of_any_size(tiny, tmp_path, scope):
    pytest.importorskip(scope)
    config, checkpoint = tiny(scope)
    done = export(config, checkpoint, out=tmp_path / 'm.onnx', shape=(64, 96), dynamic=True)
    _, run = reference(config, checkpoint, scope)
    exported = OnnxModel(done.path)
    assert_same(exported, run, SIZES)
    assert exported.shape == ['batch', 3, 'height', 'width'] and exported.outputs == ['logits']
    assert [check.shape for check in done.checks] == [
        (1, 3, 64, 96), (1, 3, 99, 165), (4, 3, 132, 99),
    ]  # fmt: skip
    meta = {
        key: json.loads(value) if value[0] == '[' else value
        for key, value in exported.metadata.items()
    }
    assert meta['mean'] == pytest.approx([123.675, 116.28, 103.53])
    assert meta['std'] == pytest.approx([58.395, 57.12, 57.375])
    assert (meta['channel_order'], meta['classes']) == ('RGB', ['first', 'second'])
    assert meta['input_shape'] == [1, 3, 64, 96]


def test_dynamic_axes_have_names(tiny, tmp_path):
    """Also with images of five channels; the number of classes is fixed."""
    pytest.importorskip('mmseg')
    onnx = pytest.importorskip('onnx')
    config, checkpoint = tiny('mmseg', 'five', in_channels=5)
    options = {'model.data_preprocessor.mean': None, 'model.data_preprocessor.std': None}
    done = export(
        config, checkpoint, out=tmp_path / 'm.onnx', shape=(64, 96), dynamic=True,
        cfg_options=options,
    )  # fmt: skip
    assert json.loads(done.metadata['mean']) == [0] * 5
    graph = onnx.load(done.path).graph
    axes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]
    assert axes == [
        ['batch', 5, 'height', 'width'], ['batch', 150, 'logits_height', 'logits_width'],
    ]  # fmt: skip


def test_onnx_of_one_size(tiny, tmp_path):
    pytest.importorskip('mmpretrain')
    config, checkpoint = tiny('mmpretrain')
    done = export(config, checkpoint, out=tmp_path / 'm.onnx', batch=3)
    exported = OnnxModel(done.path)
    assert exported.shape == [3, 3, 96, 96]  # the config's crop
    _, run = reference(config, checkpoint, 'mmpretrain')
    assert_same(exported, run, [(n, 96, 96) for n in (1, 3, 4)])
    assert_one_line(lambda: exported(torch.zeros(1, 3, 64, 96)), 'one has 64 x 96')


def test_folded_norms(tiny, tmp_path):
    pytest.importorskip('mmpretrain')
    config, checkpoint = tiny('mmpretrain')
    path, left = tmp_path / 'm.onnx', []
    for fuse in (False, True):
        export(config, checkpoint, out=path, shape=(64, 96), fuse_conv_bn=fuse)
        nodes = onnx.load(path).graph.node
        norms = [node.name for node in nodes if node.op_type == 'BatchNormalization']
        left.append([name for name in norms if 'spatial_bias' not in name])
    assert left[0] and not left[1]
    assert_same(OnnxModel(path), reference(config, checkpoint, 'mmpretrain')[1], [(1, 64, 96)])


def test_the_raw_outputs_of_a_detector(tiny, tmp_path):
    pytest.importorskip('mmdet')
    config, checkpoint = tiny('mmdet')
    done = export(config, checkpoint, out=tmp_path / 'm.onnx', shape=(64, 96), dynamic=True)
    assert 'second stage' in done.note
    exported = OnnxModel(done.path)
    names = ('pyramid', 'scores', 'deltas')
    assert exported.outputs == [f'{name}{i}' for name in names for i in range(5)]
    assert_same(exported, reference(config, checkpoint, 'mmdet')[1], [(2, 64, 128), (1, 96, 96)])


@pytest.mark.parametrize('format', ['onnx', 'torchscript', 'exported'])
def test_the_backbone_in_every_format(tiny, tmp_path, format):
    pytest.importorskip('mmseg')
    config, checkpoint = tiny('mmseg')
    path = tmp_path / 'm'
    dynamic = format != 'exported' or hasattr(torch.export.Dim, 'AUTO')
    done = export(
        config, checkpoint, format, path, shape=(64, 96), batch=2, dynamic=dynamic, backbone=True
    )
    if format == 'exported' and dynamic:
        (least,) = re.findall(r'images of (\d+) x \1 pixels or more', done.note)
        least = [(1, int(least) - less, int(least) - less) for less in (0, 1)]
    if not dynamic:
        refused = lambda: export(config, checkpoint, format, path, dynamic=True)  # noqa: E731
        assert_one_line(refused, 'needs torch 2.6')
    extra = {exporting.METADATA: ''}
    if format == 'onnx':
        run = OnnxModel(path)
        metadata = run.metadata
    else:
        with path.open('rb') as file:
            load = torch.jit.load if format == 'torchscript' else torch.export.load
            kwargs = {'_extra_files' if format == 'torchscript' else 'extra_files': extra}
            run = load(io.BytesIO(file.read()), **kwargs)
        run = run if format == 'torchscript' else run.module()
        metadata = json.loads(extra[exporting.METADATA])
    assert json.loads(metadata['outputs']) == [f'features{i}' for i in range(4)]
    model, _ = reference(config, checkpoint, 'mmseg')
    assert_same(run, model.backbone, SIZES if dynamic else [(2, 64, 96)])
    if format == 'torchscript':
        assert run.half()(torch.rand(1, 3, 64, 64).half())[0].dtype is torch.float16
    elif format == 'exported' and dynamic:
        assert_same(run, model.backbone, least[:1])
        with pytest.raises((AssertionError, RuntimeError)):
            run(torch.rand(1, 3, *least[1][1:]))


BLOCKS = dict(
    x50=dict(depth=50, base_channels=2, groups=2),
    maximum=dict(spatial_bias=dict(pooling='max')),
    bat=dict(
        plugins=[dict(cfg=dict(type='mmsb.BATBlock', size=3), position='after_block')],
    ),
    ge=dict(
        plugins=[
            dict(
                cfg=dict(type='mmsb.GatherExcite', extent=8),
                position='after_block',
                stages=(False, True, False, False),
            )
        ],
    ),
)


@pytest.mark.parametrize('name', ['maximum', 'ge', 'x50'])
def test_blocks_that_pool_otherwise(tiny, tmp_path, name):
    """Also at the size where gather-excite takes a shortcut: 64 is 8 in the second stage."""
    pytest.importorskip('mmpretrain')
    config, checkpoint = tiny('mmpretrain', name, **BLOCKS[name])
    out = tmp_path / 'm.onnx'
    export(config, checkpoint, out=out, shape=(64, 96), dynamic=True)
    _, run = reference(config, checkpoint, 'mmpretrain')
    assert_same(OnnxModel(out), run, [*SIZES, (2, 64, 64)])


def test_what_onnx_lacks_is_refused(tiny, tmp_path):
    pytest.importorskip('mmpretrain')
    config, checkpoint = tiny('mmpretrain', 'bat', **BLOCKS['bat'])
    out = tmp_path / 'm.onnx'
    assert_one_line(lambda: export(config, checkpoint, out=out), 'cannot export this model as onnx')
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_not_left(tiny, tmp_path, monkeypatch):
    pytest.importorskip('mmpretrain')
    config, checkpoint = tiny('mmpretrain')
    run = lambda path: lambda x: [y + 1e-2 for y in OnnxModel(path)(x)]  # noqa: E731
    monkeypatch.setitem(exporting.RUNNERS, 'onnx', run)
    assert_one_line(lambda: export(config, checkpoint, out=tmp_path / 'm.onnx'), 'logits by')
    assert not list(tmp_path.iterdir())


def test_bad_input(tiny, tmp_path, monkeypatch):
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmdet')
    config, checkpoint = tiny('mmpretrain')

    def refused(message, config=config, checkpoint=checkpoint, **options):
        out = tmp_path / 'out' / 'm.onnx'
        assert_one_line(lambda: export(config, checkpoint, out=out, **options), message)
        assert not out.parent.exists()

    refused('does not exist', config=config + 'x')
    refused('does not exist', checkpoint=checkpoint + 'x')
    refused('describes no detector', config=str(ROOT / 'configs/_base_/runtimes/detection.py'))
    refused('give height and width', shape=(0, 5))
    refused('give 1 or more images', batch=0)
    refused('give --shape 64 96', *tiny('mmdet'), shape=(64, 95))
    refused('does not belong to the model of the config', tiny('mmseg')[0])
    # a plain ResNet's would load, grown, with spatial bias that was never trained
    plain = tiny('mmpretrain', 'plain', spatial_bias=None)[1]
    refused('does not belong to the model of the config', checkpoint=plain)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    refused("onnx and onnxruntime not installed: pip install 'mmsb[deploy]'")


def test_the_command(tiny, tmp_path, run_here):
    pytest.importorskip('mmpretrain')
    command = 'python', 'tools/deployment/export.py', *tiny('mmpretrain'), '--shape'
    out = str(tmp_path / 'm.onnx')
    done = run_here(*command, 64, 96, '--batch', 2, '--out', out)
    *_, line, path = done.stdout.splitlines()
    assert line.startswith('2 x 3 x 64 x 96') and path == out
    done = run_here(*command, 0, 5, check=False)
    assert done.returncode == 2 and done.stderr.startswith('error: the shape is (0, 5)')
