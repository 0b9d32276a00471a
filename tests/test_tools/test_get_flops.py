"""What configs cost, against torch's own counter and the paper's figures."""

import csv

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch.utils.flop_counter import FlopCounterMode

from mmsb.analysis.config_counts import count_config
from mmsb.engine.config import input_shape
from mmsb.utils.errors import UserError
from tests.conftest import MINI_SB, ROOT

SB = 'configs/faster_rcnn_sb_r50_fpn_1x_coco.py'
PLAIN = 'configs/faster_rcnn_r50_fpn_1x_coco.py'
HEAD = 2048 * 1000  # the classifier's layer, which a detector's backbone has not
SEGMENTOR = """
default_scope = 'mmseg'
custom_imports = dict(imports=['mmsb'], allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 96)),
    backbone=dict(type='mmsb.SBResNet', depth=18, norm_cfg=dict(type='SyncBN')),
    decode_head=dict(
        type='FCNHead', in_channels=512, channels=32, num_convs=1, num_classes=5, in_index=3,
        norm_cfg=dict(type='SyncBN'), concat_input=False,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
"""
CLASSIFIER = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmsb'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmsb.SBResNet', depth=50, out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048),
)
"""


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope='module')
def figures():
    with open(ROOT / 'tests/data/tables.csv', newline='') as file:
        return {(row['table'], row['row']): row for row in csv.DictReader(file)}


def needs(name):
    return pytest.importorskip(name, reason=f'{name} is not installed')


@pytest.mark.parametrize(('path', 'row'), [(SB, 'R50 SB (1, 2, 3)'), (PLAIN, 'R50')])
def test_a_backbone_is_the_papers(path, row, figures):
    needs('mmdet')
    found, expected = count_config(path, (224, 224), backbone=True), figures['T6', row]
    pool = 2048 * (7 * 7 + 1)
    assert found.counts.params == int(expected['params']) - HEAD - 1000
    assert found.counts.macs == int(expected['macs_released']) - HEAD
    assert found.counts.thop == int(expected['thop_released']) - HEAD - pool
    assert found.proposals is None


def measured_speed(block):
    """Of a training step, relative to plain: median and quartiles over the rounds."""
    seconds = {}
    with open(ROOT / 'benchmarks/results/blocks/blocks_training.csv') as file:
        for row in csv.DictReader(file):
            seconds.setdefault(row['network'], []).append(float(row['seconds']))
    plain, ours = (seconds[f'{name}resnet50_step-90e_in1k'] for name in ('', block and f'{block}_'))
    assert len(plain) == len(ours) >= 7
    low, middle, high = np.percentile(np.divide(plain, ours), (25, 50, 75))
    return f'{middle:.2f} ({low:.2f} to {high:.2f})' if block else '1'


@pytest.mark.parametrize(
    'block', ['', 'sb', 'nl', 'reduced_nl', 'gc', 'bat', 'se', 'srm', 'ge', 'sk']
)
def test_the_compared_blocks_table(block):
    """That of docs/comparisons.md."""
    name = f'fpn_{block}_r50_40k_ade20k-512x512.py'.replace('__', '_')
    if block in ('reduced_nl', 'srm', 'ge'):
        name = f'{block}_resnet50_step-90e_in1k.py'
    needs('mmpretrain' if 'in1k' in name else 'mmseg')
    (path,) = (ROOT / 'configs').rglob(name)
    counts = count_config(path, (224, 224), backbone=True).counts
    title = block.replace('reduced', 'Reduced').replace('_', ' ').replace('nl', 'NL') or 'plain'
    title = title if ' ' in title or not block else title.upper()
    macs = (counts.macs + counts.matmul_macs) / 1e9
    row = f'| {title} | {counts.params:,} | {macs:.2f} | {measured_speed(block)} |'
    assert row in (ROOT / 'docs/comparisons.md').read_text().splitlines()


def test_a_detector_against_torchs_own_counter():
    needs('mmdet')
    cfg = Config.fromfile(SB)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model).to('meta').eval()
    image = torch.empty(1, 3, 800, 1344, device='meta')
    boxes = torch.empty(1000, 256, 7, 7, device='meta')
    with torch.no_grad(), FlopCounterMode(display=False) as theirs:
        model.rpn_head(model.extract_feat(image))
        model.roi_head.bbox_head(boxes)
    found = count_config(SB)
    assert (found.shape, found.padded, found.proposals) == ((800, 1333), (800, 1344), 1000)
    assert 2 * found.counts.macs == theirs.get_total_flops()
    assert found.counts.matmul_macs == 0
    assert found.counts.params == sum(p.numel() for p in model.parameters())


def test_the_device_does_not_matter():
    needs('mmdet')
    meta, cpu = (count_config(MINI_SB, (70, 100), device) for device in ('meta', 'cpu'))
    assert meta == cpu
    assert (meta.padded, meta.proposals) == ((96, 128), 200)
    assert count_config(MINI_SB).shape == (256, 256)


def test_options_override():
    needs('mmdet')
    full, single = (
        count_config(MINI_SB, backbone=True, cfg_options={'model.backbone.spatial_bias': bias})
        for bias in (dict(num_channels=3), None)
    )
    assert full.counts.params > single.counts.params


def test_a_segmentor(tmp_path):
    needs('mmseg')
    (tmp_path / 'c.py').write_text(SEGMENTOR)
    found, backbone = (count_config(tmp_path / 'c.py', backbone=b) for b in (False, True))
    assert found.shape == (64, 96)
    # a 3x3 convolution 512 -> 32 and a 1x1 to 5 classes, on 2 x 3
    assert found.counts.macs - backbone.counts.macs == 6 * 32 * (512 * 9 + 5)


def test_a_classifier(tmp_path, figures):
    needs('mmpretrain')
    (tmp_path / 'c.py').write_text(CLASSIFIER)
    found = count_config(tmp_path / 'c.py')
    expected = figures['T6', 'R50 SB (1, 2, 3)']
    assert found.shape == (224, 224)
    assert found.counts.params == int(expected['params'])
    assert found.counts.macs == int(expected['macs_released'])
    assert found.counts.thop == int(expected['thop_released'])


@pytest.mark.parametrize(
    ('scope', 'kind', 'pipeline', 'shape'),
    [
        ('mmdet', 'CocoDataset', [dict(type='Resize', scale=(1333, 800))], (800, 1333)),
        ('mmdet', 'CocoDataset', [dict(type='mmsb.LoadImageFromFile')], (800, 1333)),
        ('mmseg', 'ADE20KDataset', [], (512, 512)),
        (
            'mmpretrain', 'ImageNet',
            [dict(type='ResizeEdge', scale=236), dict(type='CenterCrop', crop_size=160)],
            (160, 160),
        ),
        ('mmpretrain', 'CIFAR100', [dict(type='PackInputs')], (32, 32)),
        ('mmpretrain', 'ImageNet', [], (224, 224)),
    ],
)  # fmt: skip
def test_the_image_of_a_config(scope, kind, pipeline, shape):
    loader = dict(dataset=dict(type='RepeatDataset', dataset=dict(type=kind, pipeline=pipeline)))
    cfg = Config(dict(default_scope=scope, model=dict(), test_dataloader=loader))
    assert input_shape(cfg) == shape


def test_bad_input():
    with pytest.raises(UserError, match=r'did you mean configs/faster_rcnn_sb_r50_fpn_1x_coco.py'):
        count_config('configs/faster_rcnn_sb_r50_fpn_1x_cocoo.py')
    needs('mmdet')
    with pytest.raises(UserError, match='give height and width'):
        count_config(MINI_SB, (0, 64))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match='there is no GPU'):
            count_config(MINI_SB, device='cuda')
    with pytest.raises(UserError, match="no device 'gpu'"):
        count_config(MINI_SB, device='gpu')
    with pytest.raises(UserError, match='describes no detector'):
        count_config('configs/_base_/runtimes/detection.py')
    with pytest.raises(UserError, match='cannot run on 3 x 64 x 64 on meta') as caught:
        count_config(MINI_SB, (64, 64), cfg_options={'model.neck.in_channels': [1, 2, 3, 4]})
    assert '\n' not in str(caught.value)


def test_the_command(run_here):
    needs('mmdet')
    tool = 'python', 'tools/analysis_tools/get_flops.py'
    done = run_here(*tool, SB, '--backbone', '--shape', 224, 224)
    assert done.stdout.splitlines()[-4:] == [
        f'{SB}, backbone',
        'image       3 x 224 x 224',
        'parameters  23,937,620',
        'MACs        4,112,741,968  (4.11 G, convolution and linear)',
    ]
    done = run_here(*tool, MINI_SB, '--convention', 'thop')
    image, _, operations = done.stdout.splitlines()[-3:]
    assert image == 'image       3 x 256 x 256, 200 proposals'
    expected = count_config(MINI_SB).counts.thop
    assert operations.startswith(f'operations  {expected:,}  (')
    done = run_here(*tool, SB, '--shape', 224, -1, check=False)
    assert done.returncode == 2 and done.stderr.startswith('error: the shape is (224, -1)')
