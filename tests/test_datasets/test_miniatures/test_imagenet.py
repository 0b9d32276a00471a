from collections import Counter

import cv2
import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from mmsb.datasets.miniatures.drawing import fill, rect
from mmsb.datasets.miniatures.imagenet import CLASSES, draw_portrait, make_mini_imagenet

SYNSETS = sorted(CLASSES)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'mini_imagenet'
    return make_mini_imagenet(out, num_train=3, num_val=2)


def test_synsets_are_imagenets():
    """timm's list of synsets, mmpretrain's of names, both in the order of the 1000 classes."""
    from timm.data import ImageNetInfo

    synsets = ImageNetInfo().label_names()
    assert len(synsets) == 1000
    assert [synsets.index(synset) for synset in CLASSES] == [i for _, i, _ in CLASSES.values()]
    assert list(CLASSES) == SYNSETS  # then the numbers of the folders are in ImageNet's order


def test_names_are_imagenets():
    categories = pytest.importorskip('mmpretrain.datasets.categories').IMAGENET_CATEGORIES
    for name, index, _ in CLASSES.values():
        assert name in categories[index].split(', ')


def test_layout_is_imagenets(root):
    assert {p.name for p in root.iterdir()} == {'train', 'val', 'meta', 'miniature.json'}
    for split, count in (('train', 3), ('val', 2)):
        assert sorted(p.name for p in (root / split).iterdir()) == SYNSETS
        for synset in SYNSETS:
            names = {p.name for p in (root / split / synset).iterdir()}
            assert names == {f'{synset}_{n}.JPEG' for n in range(count)}


@pytest.mark.parametrize(('split', 'count'), [('train', 3), ('val', 2)])
def test_torchvision_reads_the_folders(root, split, count):
    folder = ImageFolder(root / split)
    assert folder.classes == SYNSETS
    assert Counter(folder.targets) == dict.fromkeys(range(len(SYNSETS)), count)
    for picture, _ in folder:
        assert picture.mode == 'RGB' and all(96 <= side <= 128 for side in picture.size)


def test_mmpretrain_reads_the_folders(root):
    datasets = pytest.importorskip('mmpretrain.datasets')
    folders = datasets.CustomDataset(data_root=str(root), data_prefix='train')
    assert tuple(SYNSETS) == folders.CLASSES
    assert sorted(folders.get_gt_labels()) == sorted(list(range(len(SYNSETS))) * 3)
    named = datasets.ImageNet(
        data_root=str(root), data_prefix='val', metainfo=dict(classes=tuple(SYNSETS))
    )
    assert len(named) == 2 * len(SYNSETS)
    assert max(named.get_gt_labels()) == len(SYNSETS) - 1


def test_mmpretrain_reads_it_as_the_whole_imagenet(root):
    """For configs of 1000 classes: ImageNet's own numbers, and the right folder for each."""
    datasets = pytest.importorskip('mmpretrain.datasets')
    for split, count in (('train', 3), ('val', 2)):
        whole = datasets.ImageNet(data_root=str(root), split=split)
        assert len(whole.CLASSES) == 1000 and len(whole) == count * len(SYNSETS)
        for k in range(len(whole)):
            info = whole.get_data_info(k)
            assert CLASSES[info['img_path'].split('/')[-2]][1] == info['gt_label']


def test_files_hold_the_drawing_of_their_class(root):
    """The files hold what draw_portrait returns for the class; JPEG loses little but noise."""
    for synset in SYNSETS:
        path = root / 'val' / synset / f'{synset}_1.JPEG'
        rng = np.random.default_rng(np.random.SeedSequence([0, 1, CLASSES[synset][1], 1]))
        height, width = rng.integers(96, 129, 2)
        picture = draw_portrait(rng, int(height), int(width), CLASSES[synset][2])
        read = cv2.imread(str(path))[..., ::-1]
        assert np.abs(picture.astype(int) - read).mean() < 12, synset


def test_the_thing_is_large_and_near_the_middle():
    def square(rng):
        return [fill(rect(-1, -1, 1, 1), (255, 0, 255))]

    shares, middles = [], []
    for seed in range(60):
        picture = draw_portrait(np.random.default_rng(seed), 100, 120, (square, 180, True))
        picture = picture.astype(int)
        found = np.argwhere((picture[..., [0, 2]].min(2) - picture[..., 1]) > 60)
        shares.append(len(found) / 12000)
        middles.append(found.mean(0) / (100, 120))
    assert min(shares) > 0.05 and max(shares) < 0.95 and np.ptp(shares) > 0.25
    assert np.abs(np.mean(middles, 0) - 0.5).max() < 0.05
    assert np.min(middles) > 0.2 and np.max(middles) < 0.8


def test_size_of_the_pictures(tmp_path):
    root = make_mini_imagenet(tmp_path / 'out', num_train=1, num_val=1, size=(70, 70))
    shapes = {cv2.imread(str(path)).shape for path in root.rglob('*.JPEG')}
    assert shapes == {(70, 70, 3)}


def test_more_images_leave_the_first_as_they_were(root, tmp_path):
    more = make_mini_imagenet(tmp_path / 'out', num_train=4, num_val=2)
    for path in root.rglob('*.JPEG'):
        assert (more / path.relative_to(root)).read_bytes() == path.read_bytes()


def test_portraits_are_new_at_every_call():
    for name, _, figure in CLASSES.values():
        one, two = (draw_portrait(np.random.default_rng(s), 64, 64, figure) for s in (0, 1))
        assert (one != two).mean() > 0.5, name
