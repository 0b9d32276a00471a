"""Data of segmentation and classification that is wrong: a line that names it, in training."""

import shutil
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
from torch import nn

from mmsb.datasets.miniatures.ade20k import make_mini_ade20k
from mmsb.datasets.miniatures.cifar100 import make_mini_cifar100
from mmsb.datasets.miniatures.imagenet import make_mini_imagenet
from mmsb.engine import train
from mmsb.engine.arguments import parse_train_args
from mmsb.engine.checking import check_class_weight
from mmsb.utils.errors import UserError
from tests.conftest import ROOT

# configs and settings with which they train for a moment
ADE = 'configs/mini/fpn_sb_r18_mini_ade20k.py'
IMAGENET = 'configs/mini/sb_resnet18_mini_in1k.py'
IMAGENET_WHOLE = 'configs/sb_resnet50_step-90e_in1k.py'
CIFAR = 'configs/cifar100/sb_resnet38-s1_300e_cifar100.py'
QUICK = {
    ADE: ['train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=2'],
    IMAGENET: ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1'],
    CIFAR: ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=16'],
}


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp('drawn')
    make_mini_ade20k(folder / 'ade', 4, 2, (96, 128))
    make_mini_imagenet(folder / 'imagenet', 1, 1, (64, 64))
    make_mini_cifar100(folder / 'cifar', 1, 1)
    return folder


@pytest.fixture
def data(drawn, tmp_path, monkeypatch):
    """Copies that a test may break."""
    data = shutil.copytree(drawn, tmp_path / 'data')
    for name in ('ade20k', 'imagenet', 'cifar100'):
        root = data / name.removesuffix('20k').removesuffix('100')
        monkeypatch.setenv(f'MMSB_{name.upper()}_ROOT', str(root))
    return data


@pytest.fixture
def run(tmp_path):
    """Trains."""

    def run(config, *options, workers=0):
        pytest.importorskip('mmseg' if 'ade20k' in config else 'mmpretrain')
        loaders = [f'{split}_dataloader.num_workers={workers}' for split in ('train', 'val')]
        arguments = [str(ROOT / config), '--work-dir', str(tmp_path / 'work'), '--cfg-options']
        train(parse_train_args([*arguments, *loaders, *QUICK.get(config, []), *options]))

    return run


def line_of(error) -> str:
    # as the command line prints it
    from mmsb.engine.cli import _message

    line = _message(error.value)
    assert '\n' not in line
    return line


@pytest.mark.parametrize('config', QUICK)
def test_whole_data_trains(data, run, tmp_path, config):
    """What the tests below break."""
    run(config)
    assert list((tmp_path / 'work').glob('*.pth'))


@pytest.mark.parametrize('workers', [0, 1])
def test_label_beyond_the_classes(data, run, workers):
    for path in sorted((data / 'ade/annotations/training').iterdir()):
        cv2.imwrite(str(path), np.full((96, 128), 151, np.uint8))
    with pytest.raises(UserError) as error:
        run(ADE, workers=workers)
    line = line_of(error)
    assert line.startswith(f'segmentation map {data}/ade/annotations/training/ADE_train_0000000')
    assert 'holds label 151: with 150 classes the highest is 150' in line


def test_image_without_labels(data, run):
    for path in (data / 'ade/annotations/training').iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r'ADE_train_0000000\d.png does not exist: every image'):
        run(ADE)


@pytest.mark.parametrize('workers', [0, 1])
def test_validation_image_without_labels(data, run, workers):
    missing = data / 'ade/annotations/validation/ADE_val_00000002.png'
    missing.unlink()
    with pytest.raises(UserError) as error:
        run(ADE, workers=workers)
    wanted = 'does not exist: every image needs one of its name'
    assert line_of(error) == f'segmentation map {missing} {wanted}'


@pytest.mark.parametrize('split', ['training', 'validation'])
def test_no_image_to_segment(data, run, split):
    folder = data / 'ade/images' / split
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(UserError) as error:
        run(ADE)
    assert f'no data could be read from {folder} (' in line_of(error)
    assert 'it must contain images' in line_of(error)


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('config', [IMAGENET, IMAGENET_WHOLE])
def test_imagenet_without_folders_of_classes(data, run, config, split):
    shutil.rmtree(data / 'imagenet/meta')
    if config == IMAGENET_WHOLE:  # its 1000 folders, of which these are the first
        for half in ('train', 'val'):
            for k in range(1000 - 36):
                (data / f'imagenet/{half}/x{k}').mkdir()
    folder = data / 'imagenet' / split
    flat = [path.rename(folder / path.name) for path in sorted(folder.glob('*/*.JPEG'))]
    for path in folder.iterdir():
        if path.is_dir():
            path.rmdir()
    assert flat
    with pytest.raises(UserError) as error:
        run(config)
    assert f'{folder} must contain one folder of images per class' in line_of(error)


def test_imagenet_with_folders_of_other_classes(data, run):
    shutil.rmtree(data / 'imagenet/meta')
    with pytest.raises(UserError) as error:
        run(IMAGENET_WHOLE)
    assert 'must contain one folder of images per class' in line_of(error)
    assert '(36)' in line_of(error) and '(1000)' in line_of(error)


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('workers', [0, 1])
def test_unreadable_image_to_classify(data, run, split, workers):
    (broken,) = (data / 'imagenet' / split / 'n01443537').iterdir()
    broken.write_bytes(b'not a picture')
    with pytest.raises(UserError) as error:
        run(IMAGENET, workers=workers)
    assert line_of(error).startswith(f'image {broken} cannot be read: repair or remove it')


def test_label_beyond_the_classes_in_validation(data, run):
    value = 300  # whose last 8 bits are a label
    path = sorted((data / 'ade/annotations/validation').iterdir())[0]
    cv2.imwrite(str(path), np.full(cv2.imread(str(path), -1).shape, value, np.uint16))
    with pytest.raises(UserError) as error:
        run(ADE)
    assert f'segmentation map {path} holds label {value}: with 150' in line_of(error)


@pytest.mark.parametrize('split', ['training', 'validation'])
def test_masks_of_0_and_255(data, run, split):
    """With reduce_zero_label all is ignored: loss 0, accuracy 100 and mIoU nan otherwise."""
    for path in (data / 'ade/annotations' / split).iterdir():
        labels = cv2.imread(str(path), -1)
        cv2.imwrite(str(path), ((labels > 1) * 255).astype(np.uint8))
    with pytest.raises(UserError) as error:
        run(ADE)
    line = line_of(error)
    when = 'the first batch' if split == 'training' else 'the evaluation'
    assert f'every label of {when} is ignored: 255 is, and with reduce_zero_label 0 too' in line
    assert 'holds only 0, 255' in line


@pytest.mark.parametrize(
    ('config', 'options', 'message'),
    [
        (ADE, ['train_dataloader.dataset.metainfo.classes=[wall,sky]'],
         'num_classes=150, but the data of train_dataloader has 2 classes (wall, sky)'),
        (ADE, ['train_dataloader.dataset.type=BaseSegDataset'], 'has no names of classes'),
        (ADE, ['model.decode_head.loss_decode.class_weight=[1,2]'], 'class_weight has 2 values'),
        (ADE, ['model.test_cfg.mode=slide', 'model.test_cfg.crop_size=[64,64]'], 'needs stride'),
        (IMAGENET, ['model.head.num_classes=30'], 'model.head has num_classes=30, but the data'),
    ],
)  # fmt: skip
def test_classes_and_settings_that_do_not_fit(data, run, config, options, message):
    with pytest.raises(UserError) as error:
        run(config, *options)
    assert message in line_of(error)


@pytest.mark.parametrize(
    ('head', 'queries', 'fitting'),
    [('decode_head', None, [3]), ('decode_head', 100, [3, 4]), ('bbox_head', None, [3, 4])],
)
def test_class_weights_of_heads_with_one_output_more(head, queries, fitting):
    """Background in mmdet, "no object" of queries; no toolbox refuses another number itself."""
    model, loss = nn.Module(), nn.Module()
    model.add_module(head, nn.Module())
    model.get_submodule(head).add_module('loss_cls', loss)
    if queries:
        model.get_submodule(head).num_queries = queries
    for length in range(1, 7):
        loss.class_weight = [1.0] * length
        refused = pytest.raises(UserError, match=f'has {length} values for 3 classes')
        with nullcontext() if length in fitting else refused:
            check_class_weight(f'model.{head}', model, 3)


def test_a_renamed_folder_of_a_class(data, run):
    folder = sorted((data / 'imagenet/val').iterdir())[5]
    folder.rename(folder.with_name('renamed'))
    with pytest.raises(UserError) as error:
        run(IMAGENET)
    line = line_of(error)
    assert f'only {data}/imagenet/train has {folder.name}; only {data}/imagenet/val has ren' in line
    assert 'labels from 5 on would differ' in line


def test_folders_that_are_no_classes_are_left_out(data, run, tmp_path):
    (data / 'imagenet/train/.ipynb_checkpoints').mkdir()
    run(IMAGENET)
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert f'{data}/imagenet/train: no classes, left out: .ipynb_checkpoints' in log
    lines = (tmp_path / 'work/annotations/train.txt').read_text().splitlines()
    assert [line.split()[-1] for line in lines] == [str(label) for label in range(36)]


def test_damaged_miniature_of_cifar(data, run):
    (data / 'cifar/cifar-100-python/train').write_bytes(b'')
    with pytest.raises(UserError) as error:
        run(CIFAR)
    assert 'incomplete miniature CIFAR-100: redraw it' in line_of(error)
