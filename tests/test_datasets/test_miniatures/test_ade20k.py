import cv2
import numpy as np
import pytest

from mmsb.datasets.miniatures import ade20k as mini_ade20k
from mmsb.datasets.miniatures.ade20k import LABELS, SCENES, SPLITS, count_images, make_mini_ade20k
from tests.conftest import ROOT

SIZE = (96, 128)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """As many pictures as by default, smaller."""
    return make_mini_ade20k(tmp_path_factory.mktemp('data') / 'mini_ade20k', size=SIZE)


@pytest.fixture(scope='module')
def pairs(root):
    """(RGB, labels) of every training image."""
    found = []
    for path in sorted((root / 'images/training').iterdir()):
        png = root / 'annotations/training' / f'{path.stem}.png'
        labels = cv2.imread(str(png), cv2.IMREAD_UNCHANGED)
        found.append((cv2.imread(str(path))[..., ::-1], labels))
    return found


def dataset(root, split, **kwargs):
    from mmseg.datasets import ADE20KDataset
    from mmseg.utils import register_all_modules

    register_all_modules()
    folders = dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
    return ADE20KDataset(data_root=str(root), data_prefix=folders, **kwargs)


def test_layout_is_ade20ks(root):
    assert {p.name for p in root.iterdir()} == {'images', 'annotations', 'miniature.json'}
    for split, stem, count in zip(SPLITS, ('ADE_train', 'ADE_val'), (240, 60), strict=True):
        names = [f'{stem}_{number:08d}' for number in range(1, count + 1)]
        for kind, suffix in (('images', '.jpg'), ('annotations', '.png')):
            found = sorted(p.name for p in (root / kind / split).iterdir())
            assert found == [name + suffix for name in names]


def test_labels_are_ade20ks():
    ade = pytest.importorskip('mmseg.datasets.ade')
    classes = ade.ADE20KDataset.METAINFO['classes']
    assert {name: classes[label - 1].strip() for name, label in LABELS.items()} == {
        name: name for name in LABELS
    }


def test_mmseg_reads_what_was_drawn(root, pairs):
    pytest.importorskip('mmseg.datasets')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    read = dataset(root, 'training', pipeline=pipeline)
    assert len(read) == 240
    seen = np.zeros(256, int)
    for item, (picture, labels) in zip(read, pairs, strict=True):
        assert labels.dtype == np.uint8 and labels.shape == SIZE
        assert np.array_equal(item['img'][..., ::-1], picture)
        # other becomes ignored, the classes count from 0
        wanted = np.where(labels == 0, 255, labels.astype(int) - 1)
        assert np.array_equal(item['gt_seg_map'], wanted)
        seen += np.bincount(item['gt_seg_map'].ravel(), minlength=256)
    assert set(np.flatnonzero(seen)) == {label - 1 for label in LABELS.values()} | {255}
    assert 0.001 < seen[255] / seen.sum() < 0.1
    assert len(dataset(root, 'validation')) == 60


def test_labels_are_those_of_the_drawing(root, pairs):
    """The files hold what draw_scene returns; JPEG is the picture's only loss."""
    for index in range(4):
        rng = np.random.default_rng(np.random.SeedSequence([0, 0, index]))
        picture, labels = mini_ade20k.draw_scene(rng, *SIZE, SCENES[index])
        assert np.array_equal(labels, pairs[index][1])
        difference = picture.astype(int) - pairs[index][0]
        assert np.abs(difference).mean() < 5


def test_every_class_is_in_both_splits(root):
    counts = count_images(root)
    assert list(counts) == list(LABELS)
    assert min(min(pair) for pair in counts.values()) >= 3, counts


def test_labels_lie_on_edges_of_the_picture(pairs):
    """Moved by a single pixel, all borders of labels together meet weaker edges."""
    shifts, total = (-2, -1, 0, 1, 2), np.zeros((2, 5))
    for picture, labels in pairs:
        labels, picture = labels.astype(int), picture.astype(np.float32)
        for axis in (0, 1):
            step = np.abs(np.diff(picture, axis=axis)).mean(2)
            border = np.diff(labels, axis=axis) != 0
            total[axis] += [step[np.roll(border, s, axis)].sum() for s in shifts]
    assert (total.argmax(1) == 2).all(), total
    assert (total[:, 2] > 1.5 * total[:, [0, 4]].max(1)).all(), total


def test_colours_are_natural(pairs):
    def mean(name):
        return np.mean([p[y == LABELS[name]].mean(0) for p, y in pairs if LABELS[name] in y], 0)

    for name in ('grass', 'tree', 'palm', 'plant'):
        red, green, blue = mean(name)
        assert green > red and green > blue, name
    for name in ('sea', 'water', 'sky'):
        red, green, blue = mean(name)
        assert blue > green > red, name
    for name in ('sand', 'path', 'floor'):
        red, green, blue = mean(name)
        assert red > green > blue, name
    assert np.ptp(mean('road')) < 10


def test_place_tells_what_colour_does_not(pairs):
    """A table of colours, made from half of the images, labels few pixels of the others rightly."""

    def colours(picture):
        return (picture.astype(int) // 32) @ (64, 8, 1)

    votes = np.zeros((512, 151))
    for picture, labels in pairs[:120]:
        np.add.at(votes, (colours(picture).ravel(), labels.ravel()), 1)
    best = votes.argmax(1)
    right = [np.mean(best[colours(p)][y > 0] == y[y > 0]) for p, y in pairs[120:]]
    assert 0.2 < np.mean(right) < 0.5


def test_pictures_differ(pairs):
    small = [cv2.resize(p, (16, 12), interpolation=cv2.INTER_AREA).astype(int) for p, _ in pairs]
    distances = [np.abs(a - b).mean() for a, b in zip(small, small[4:], strict=False)]
    assert min(distances) > 5  # of the same kind of scene, one after the other


@pytest.mark.parametrize('scene', SCENES)
@pytest.mark.parametrize('size', [(64, 64), (65, 201), (150, 70)])
def test_any_size_can_be_drawn(scene, size):
    for seed in range(5):
        picture, labels = mini_ade20k.draw_scene(np.random.default_rng(seed), *size, scene)
        assert picture.shape == (*size, 3) and labels.shape == size
        assert picture.dtype == labels.dtype == np.uint8
        assert len(np.unique(labels)) >= 4


def test_mini_configs_classes_hold_them():
    """The head of the mini segmentor knows every label that is drawn."""
    from mmengine.config import Config

    cfg = Config.fromfile(ROOT / 'configs/mini/fpn_sb_r18_mini_ade20k.py')
    assert max(LABELS.values()) <= cfg.model.decode_head.num_classes
