import hashlib
import json
import os
import pickle
import pickletools
import shutil
from collections import Counter

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from torchvision.datasets import CIFAR100 as TorchvisionCIFAR100

from mmsb.datasets.miniatures.cifar100 import CLASSES, COARSE_NAMES, FINE_NAMES, make_mini_cifar100
from mmsb.utils.errors import UserError

# of the 100 fine labels, as CIFAR-100 has them
COARSE = [
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'mini_cifar100'
    return make_mini_cifar100(out, num_train=5, num_val=2)


@pytest.fixture(scope='module')
def batches(root):
    folder = root / 'cifar-100-python'
    return {p.name: pickle.loads(p.read_bytes()) for p in folder.iterdir()}


class Unchecked(TorchvisionCIFAR100):
    """torchvision's, which takes any file."""

    train_list, test_list = [['train', None]], [['test', None]]
    meta = {**TorchvisionCIFAR100.meta, 'md5': None}


@pytest.fixture
def build(monkeypatch):
    """Builds mmsb.CIFAR100 as an mmpretrain config does; a download fails the test."""
    cifar = pytest.importorskip('mmpretrain.datasets.cifar')
    from mmpretrain.registry import DATASETS

    def fail(*args, **kwargs):
        raise AssertionError('tried to download')

    monkeypatch.setattr(cifar, 'download_and_extract_archive', fail)

    def run(root, type='mmsb.CIFAR100', **kwargs):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return DATASETS.build(dict(type=type, data_root=str(root), **kwargs))

    return run


def test_names_are_cifar100s(batches):
    cifar = pytest.importorskip('mmpretrain.datasets.categories')
    assert tuple(cifar.CIFAR100_CATEGORIES) == FINE_NAMES
    assert batches['meta'] == {
        'fine_label_names': list(FINE_NAMES),
        'coarse_label_names': list(COARSE_NAMES),
    }
    assert tuple(sorted(COARSE_NAMES)) == COARSE_NAMES and len(COARSE_NAMES) == 20
    assert set(CLASSES) <= set(FINE_NAMES)


@pytest.mark.parametrize(
    ('split', 'count', 'text'), [('train', 5, 'training'), ('test', 2, 'testing')]
)
def test_pickles_are_cifar100s(batches, split, count, text):
    batch = batches[split]
    keys = {'filenames', 'batch_label', 'fine_labels', 'coarse_labels', 'data'}
    assert set(batch) == keys
    assert batch['batch_label'] == f'{text} batch 1 of 1'
    total = count * len(CLASSES)
    assert batch['data'].shape == (total, 3072) and batch['data'].dtype == np.uint8
    assert all(len(batch[key]) == total for key in keys - {'batch_label'})
    assert Counter(FINE_NAMES[label] for label in batch['fine_labels']) == dict.fromkeys(
        CLASSES, count
    )
    assert batch['coarse_labels'] == [COARSE[label] for label in batch['fine_labels']]
    assert len(set(batch['filenames'])) == total
    for name, label in zip(batch['filenames'], batch['fine_labels'], strict=True):
        assert name.startswith(FINE_NAMES[label] + '_s_') and name.endswith('.png')


def test_pickles_name_what_every_numpy_has(root):
    """NumPy 2 names numpy._core, NumPy 1 numpy.core: a file must not depend on either."""
    for path in (root / 'cifar-100-python').iterdir():
        strings, named = [], set()
        for code, argument, _ in pickletools.genops(path.read_bytes()):
            strings.append(argument)
            if code.name == 'STACK_GLOBAL':
                texts = [text for text in strings if isinstance(text, str)]
                named.add('.'.join(texts[-2:]))
        assert named == (set() if path.name == 'meta' else {'numpy.ndarray'})


@pytest.mark.parametrize('train', [True, False])
def test_torchvision_and_mmpretrain_see_the_same(root, build, train):
    theirs = Unchecked(root, train=train)
    assert tuple(theirs.classes) == FINE_NAMES
    ours = build(root, split='train' if train else 'test', test_mode=not train)
    assert len(ours) == len(theirs) == len(CLASSES) * (5 if train else 2)
    assert list(FINE_NAMES) == ours.CLASSES or ours.CLASSES == FINE_NAMES
    for k, (picture, label) in enumerate(theirs):
        info = ours.get_data_info(k)
        assert info['gt_label'] == label
        assert np.array_equal(info['img'], np.asarray(picture))


def test_channels_are_red_green_blue(batches):
    """Oranges are orange, pines on the whole green."""
    data = batches['train']['data'].reshape(-1, 3, 32, 32)[..., 12:20, 12:20].mean((2, 3))
    labels = np.array(batches['train']['fine_labels'])
    red, green, blue = data[labels == FINE_NAMES.index('orange')].mean(0)
    assert red > green > blue + 40
    red, green, blue = data[labels == FINE_NAMES.index('pine_tree')].mean(0)
    assert green > red


def test_pictures_are_new_each_time(batches):
    small = [
        cv2.resize(p.reshape(3, 32, 32).transpose(1, 2, 0), (8, 8), interpolation=cv2.INTER_AREA)
        for split in ('train', 'test')
        for p in batches[split]['data']
    ]
    small = np.stack(small).reshape(len(small), -1).astype(float)
    distance = np.abs(small[:, None] - small[None]).mean(2) + 255 * np.eye(len(small))
    assert distance.min() > 4


def test_lazy_data_set_is_read_when_asked(root, build):
    data = build(root, split='test', lazy_init=True)
    assert not data._fully_initialized
    data.full_init()
    assert list(data.CLASSES) == list(FINE_NAMES)
    assert len(data) == 2 * len(CLASSES)
    again, eager = pickle.loads(pickle.dumps(data)), build(root, split='test')
    labels = [[of.get_data_info(i)['gt_label'] for i in range(len(data))] for of in (again, eager)]
    assert labels[0] == labels[1] and len(set(labels[0])) == len(CLASSES)


def test_toolboxs_own_refuses_the_miniature(root, build):
    """Without mmsb.CIFAR100 it would download: what is tested here is needed."""
    with pytest.raises(AssertionError, match='tried to download'):
        build(root, type='CIFAR100', split='train')


def test_what_is_not_the_miniature_is_treated_as_before(root, build, tmp_path):
    other = shutil.copytree(root / 'cifar-100-python', tmp_path / 'other/cifar-100-python').parent
    for folder in (other, tmp_path / 'nowhere'):
        with pytest.raises(AssertionError, match='tried to download'):
            build(folder, split='train')
        with pytest.raises(RuntimeError, match='Cannot find CIFAR100 dataset'):
            build(folder, split='train', download=False)


def test_damaged_miniature_is_refused(root, build, tmp_path):
    copy = shutil.copytree(root, tmp_path / 'copy')
    with open(copy / 'cifar-100-python/test', 'ab') as file:
        file.write(b'x')
    with pytest.raises(UserError, match=r'incomplete miniature CIFAR-100: redraw it') as error:
        build(copy, split='train')
    assert '\n' not in str(error.value)


class Code:
    def __reduce__(self):
        return os.abort, ()


def test_a_record_beside_other_pickles_does_not_let_them_run(root, build, tmp_path):
    """Whoever writes the pickles can write the miniature's record too."""
    copy = shutil.copytree(root, tmp_path / 'copy')
    evil = copy / 'cifar-100-python/meta'
    evil.write_bytes(pickle.dumps(Code()))
    record = json.loads((copy / 'miniature.json').read_text())
    text = json.dumps(record).replace(
        hashlib.md5((root / 'cifar-100-python/meta').read_bytes()).hexdigest(),
        hashlib.md5(evil.read_bytes()).hexdigest(),
    )
    (copy / 'miniature.json').write_text(text)
    with pytest.raises(UserError, match=r'meta cannot be read: it holds pickled code'):
        build(copy, split='train', lazy_init=True)
