"""demo/image_demo.py: the three tasks, folders and lists, bad input."""

import itertools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmsb.inference.predicting import predict_images
from mmsb.utils.errors import UserError
from mmsb.utils.files import find_images, output_paths
from tests.conftest import MINI_SB, ROOT

CONFIGS = dict(
    mmdet=MINI_SB,
    mmseg='configs/mini/fpn_sb_r18_mini_ade20k.py',
    mmpretrain='configs/mini/sb_resnet18_mini_in1k.py',
)
CLASSES = [f'class {i}' for i in range(150)]


@pytest.fixture
def images(tmp_path):
    """A folder of two pictures, and one of the same name elsewhere."""
    for name in ('folder/a.png', 'folder/b.JPG', 'c/a.png'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(path), picture)
    (tmp_path / 'folder/notes.txt').write_text('no image')
    return tmp_path


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Random weights of a config, that prefer the class of which the bias is large."""

    def make(scope):
        cfg = Config.fromfile(ROOT / CONFIGS[scope])
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(scope):
            model = MODELS.build(cfg.model)
        model.init_weights()
        head = dict(mmdet='roi_head.bbox_head.fc_cls', mmseg='decode_head.conv_seg',
                    mmpretrain='head.fc')[scope]  # fmt: skip
        model.get_submodule(head).bias.data[7] = 50
        path = tmp_path_factory.mktemp(scope) / 'weights.pth'
        torch.save(
            dict(
                state_dict=model.state_dict(),
                meta=dict(
                    dataset_meta=dict(
                        classes=CLASSES[:80] if scope == 'mmdet' else CLASSES,
                        palette=[[0, 100, 0]] * 80 if scope == 'mmdet' else [[0, 100, 0]] * 150,
                    )
                ),
            ),
            path,
        )
        return str(path)

    return make


def check_prediction(scope, prediction):
    """What ``--out`` writes for an image of 96 x 128."""
    if scope == 'mmdet':
        for found in prediction['objects']:
            assert (found['label'], found['class']) == (7, 'class 7') and found['score'] >= 0.3
            x1, y1, x2, y2 = found['box']
            assert 0 <= x1 <= x2 <= 128 and 0 <= y1 <= y2 <= 96
        assert prediction['objects']
    elif scope == 'mmseg':
        assert prediction['shares'] == {'class 7': 1}
        assert (prediction['size'], prediction['runs']) == ([96, 128], [[7, 96 * 128]])
    else:
        assert (prediction['label'], prediction['class']) == (7, 'class 7')
        assert prediction['score'] == pytest.approx(1)


def test_runs_hold_the_map():
    from mmsb.toolboxes.mmseg import _runs

    labels = np.random.default_rng(0).integers(0, 3, (7, 5))
    labels[2:4] = 1
    runs = _runs(labels)
    values, lengths = zip(*runs, strict=True)
    assert np.array_equal(np.repeat(values, lengths).reshape(7, 5), labels)
    assert all(a != b for a, b in itertools.pairwise(values))


def test_a_binary_segmentor(images):
    """One logit above the threshold everywhere: all pixels are of class 1."""
    pytest.importorskip('mmseg.apis')
    path = images / 'binary.py'
    path.write_text(
        f'_base_ = {str(ROOT / CONFIGS["mmseg"])!r}\n'
        'model = dict(decode_head=dict(num_classes=2, out_channels=1, threshold=0.4,\n'
        '    loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=True)))\n'
    )
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    model.decode_head.conv_seg.weight.data.zero_()
    model.decode_head.conv_seg.bias.data.fill_(0)  # a probability of 0.5
    meta = dict(dataset_meta=dict(classes=['ground', 'road'], palette=[[0, 0, 0], [0, 100, 0]]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), images / 'binary.pth')
    found = predict_images(
        [str(images / 'c')], str(path), str(images / 'binary.pth'), str(images / 'out'), 'cpu'
    )
    assert [line for _, _, line in found] == ['100% road']


@pytest.mark.parametrize(
    ('scope', 'expected'),
    [('mmdet', r' class 7$'), ('mmseg', r'^100% class 7$'), ('mmpretrain', r'^class 7 \(1.00\)$')],
)
def test_task(images, checkpoint, scope, expected):
    pytest.importorskip(f'{scope}.apis')
    out = images / 'out'
    found = list(
        predict_images(
            [str(images / 'folder'), str(images / 'c/a.png')],
            str(ROOT / CONFIGS[scope]),
            checkpoint(scope),
            str(out),
            device='cpu',
            out=str(images / 'out.json'),
        )
    )
    assert [path.name for path, _, _ in found] == ['a.png', 'b.JPG', 'a.png']
    assert sorted(path.name for path in out.iterdir()) == ['a.png', 'a_2.png', 'b.png']
    predictions = json.loads((images / 'out.json').read_text())
    assert [one['image'] for one in predictions] == [str(path) for path, _, _ in found]
    check_prediction(scope, predictions[0])
    for (path, drawn, line), name in zip(found, ('a', 'b', 'a_2'), strict=True):
        assert drawn == out / f'{name}.png'
        assert np.any(cv2.imread(str(drawn)) != cv2.imread(str(path)))  # something is drawn
        assert re.search(expected, line), line


def test_no_two_images_share_an_output():
    names = ['a.jpg', 'b/a.jpg', 'a_2.png', 'c/a.jpg', 'a_2_2.jpg', 'a.jpg']
    outs = output_paths([Path(name) for name in names], 'out')
    drawn = ['a', 'a_2', 'a_2_2', 'a_3', 'a_2_2_2']
    assert outs == dict(
        zip(map(Path, names[:5]), (Path('out', f'{n}.png') for n in drawn), strict=True)
    )


def test_command_line(images, checkpoint, run_here):
    pytest.importorskip('mmpretrain.apis')
    done = run_here(
        'python', 'demo/image_demo.py', images / 'folder', CONFIGS['mmpretrain'],
        checkpoint('mmpretrain'), '--out-dir', images / 'out', '--device', 'cpu',
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(': class 7 (1.00) -> ' in line for line in lines)


def test_unreadable_images_are_named_at_the_end(images, checkpoint, run_here):
    pytest.importorskip('mmpretrain.apis')
    (images / 'folder/._a.jpg').write_bytes(b'hidden')
    for name in ('0.jpg', 'c.jpg'):
        (images / 'folder' / name).write_bytes(b'no picture')
    done = run_here(
        'python', 'demo/image_demo.py', images / 'folder', CONFIGS['mmpretrain'],
        checkpoint('mmpretrain'), '--out-dir', images / 'out', '--out', images / 'out.json',
        '--device', 'cpu', check=False,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout.count(': class 7 (1.00) -> ') == 2
    assert len(json.loads((images / 'out.json').read_text())) == 2
    error = done.stderr.splitlines()[-1]
    assert re.search(r'2 of 4 images cannot be read: \S+/0\.jpg, \S+/c\.jpg; repair', error)


def test_bad_input(images, checkpoint):
    pytest.importorskip('mmpretrain.apis')
    (images / 'empty').mkdir()
    with pytest.raises(UserError, match=r'nowhere\.png does not exist'):
        find_images([str(images / 'nowhere.png')])
    with pytest.raises(UserError, match='holds no image'):
        find_images([str(images / 'empty')])
    config = str(ROOT / CONFIGS['mmpretrain'])
    (images / 'broken.jpg').write_bytes(b'no picture')
    found = predict_images(
        [str(images / 'broken.jpg')], config, checkpoint('mmpretrain'), str(images / 'out'), 'cpu'
    )
    with pytest.raises(UserError, match=r'1 of 1 images cannot be read: \S+broken\.jpg'):
        list(found)
    found = predict_images([str(images / 'folder')], config, str(images / 'nowhere.pth'))
    with pytest.raises(UserError, match=r'nowhere\.pth does not exist'):
        list(found)
