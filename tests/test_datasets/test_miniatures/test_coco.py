import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmsb.datasets.miniatures import coco as mini_coco
from mmsb.datasets.miniatures import drawing
from mmsb.datasets.miniatures.coco import (
    CATEGORIES,
    SPLITS,
    count_objects,
    draw_sheet,
    make_mini_coco,
)
from mmsb.datasets.miniatures.things import THINGS
from mmsb.utils.errors import UserError

TOOL = Path(__file__).parents[3] / 'tools/dataset_tools/make_mini_coco.py'
SMALL = {'num_train': 3, 'num_val': 2, 'size': (64, 96)}


def digests(root):
    files = sorted(p for p in Path(root).rglob('*') if p.is_file())
    return {str(p.relative_to(root)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_mini_coco(tmp_path_factory.mktemp('data') / 'mini_coco', num_train=60, num_val=10)


@pytest.fixture(scope='module')
def coco(root):
    return COCO(root / 'annotations/instances_train2017.json')


def annotated(root, coco):
    """(RGB picture, annotation, mask) of every annotation."""
    for image in coco.dataset['images']:
        picture = cv2.imread(str(root / 'train2017' / image['file_name']))[..., ::-1]
        assert picture.shape == (image['height'], image['width'], 3)
        for ann in coco.imgToAnns[image['id']]:
            yield picture, ann, coco.annToMask(ann).astype(bool)


def test_layout_is_cocos(root):
    assert {p.name for p in root.iterdir()} == {'annotations', *SPLITS}
    assert [p.name for p in root.parent.iterdir()] == ['mini_coco']  # no leftovers
    seen = set()
    for split, count in zip(SPLITS, (60, 10), strict=True):
        data = json.loads((root / f'annotations/instances_{split}.json').read_text())
        assert {'info', 'licenses', 'images', 'annotations', 'categories'} == set(data)
        assert len(data['images']) == count
        for image in data['images']:
            assert image['file_name'] == f'{image["id"]:012d}.jpg'
        names = {i['file_name'] for i in data['images']}
        assert names == {p.name for p in (root / split).iterdir()}
        assert not names & seen
        seen |= names
        keys = {'segmentation', 'area', 'iscrowd', 'image_id', 'bbox', 'category_id', 'id'}
        assert all(set(ann) == keys and ann['iscrowd'] == 0 for ann in data['annotations'])
        assert len({ann['id'] for ann in data['annotations']}) == len(data['annotations'])


def test_categories_are_cocos(root, coco):
    ids = {c['name']: c['id'] for c in coco.dataset['categories']}
    holes = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert len(ids) == 80 and set(ids.values()) == set(range(1, 91)) - holes
    official = {'person': 1, 'boat': 9, 'traffic light': 10, 'fire hydrant': 11, 'stop sign': 13}
    official |= {'bird': 16, 'backpack': 27, 'umbrella': 28, 'handbag': 31, 'frisbee': 34}
    official |= {'sports ball': 37, 'kite': 38, 'bottle': 44, 'wine glass': 46, 'banana': 52}
    official |= {'donut': 60, 'dining table': 67, 'toilet': 70, 'tv': 72, 'refrigerator': 82}
    official |= {'book': 84, 'clock': 85, 'toothbrush': 90}
    assert {name: ids[name] for name in official} == official
    groups = {c['name']: c['supercategory'] for c in CATEGORIES}
    assert (groups['kite'], groups['tv'], groups['bench']) == ('sports', 'electronic', 'outdoor')
    assert len(set(groups.values())) == 12
    assert set(count_objects(root)) == set(THINGS) <= set(ids)


def test_pictures_vary(coco):
    sides = [(i['width'], i['height']) for i in coco.dataset['images']]
    assert all(160 <= side <= 320 for pair in sides for side in pair)
    assert sum(w > 1.1 * h for w, h in sides) > 10 < sum(h > 1.1 * w for w, h in sides)
    areas = np.array([a['area'] for a in coco.dataset['annotations']])
    small, large = np.mean(areas < 32**2), np.mean(areas > 96**2)
    assert small > 0.1 and large > 0.05 and small + large < 0.8
    counts = [len(coco.imgToAnns[i['id']]) for i in coco.dataset['images']]
    assert min(counts) >= 4 and max(counts) == 8


def test_polygons_box_area_and_mask_agree(root, coco):
    cut, areas = 0, []
    for picture, ann, mask in annotated(root, coco):
        height, width = picture.shape[:2]
        polygons = [np.reshape(p, (-1, 2)) for p in ann['segmentation']]
        assert all(len(p) >= 3 for p in polygons)
        cut += len(polygons) > 1
        points = np.concatenate(polygons)
        assert points.min() >= 0 and (points <= (width, height)).all()
        assert np.array_equal(points, points.round(2))
        low, high = points.min(0), points.max(0)
        np.testing.assert_allclose(ann['bbox'], [*low, *(high - low)], atol=0.011)
        assert min(ann['bbox'][2:]) >= 5
        ys, xs = np.nonzero(mask)
        extent = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        # a pixel counts only where a polygon covers most of it, so a thin tip may be lost
        assert np.abs(extent - [*low, *high]).max() <= 3
        rim = sum(cv2.arcLength(p.astype(np.float32), True) for p in polygons)
        assert abs(mask.sum() - ann['area']) <= 1 + 0.2 * rim
        areas.append((mask.sum(), ann['area']))
    rasterised, stated = np.sum(areas, 0)
    assert rasterised == pytest.approx(stated, rel=0.005)
    assert cut > 10  # things with holes and things that others cut apart do occur


def test_visible_parts_do_not_overlap(root, coco):
    for image in coco.dataset['images']:
        masks = [coco.annToMask(a).astype(bool) for a in coco.imgToAnns[image['id']]]
        both = np.sum(masks, 0) > 1
        assert both.sum() <= 0.02 * np.sum(masks)  # shared border pixels


def test_outlines_lie_on_edges_of_the_picture(root, coco):
    """Moved by a single pixel, all outlines together meet weaker edges."""
    shifts, total = (-2, -1, 0, 1, 2), np.zeros((2, 5))
    for picture, _, mask in annotated(root, coco):
        mask = np.pad(mask, 3)
        picture = np.pad(picture, ((3, 3), (3, 3), (0, 0)), 'edge').astype(np.float32)
        for axis in (0, 1):
            # the step between neighbours along this axis, where the mask begins or ends
            step = np.abs(np.diff(picture, axis=axis)).mean(2)
            rim = np.diff(mask.astype(int), axis=axis) != 0
            total[axis] += [step[np.roll(rim, s, axis)].mean() for s in shifts]
    assert (total.argmax(1) == 2).all(), total
    assert (total[:, 2] > 1.5 * total[:, [0, 4]].max(1)).all(), total


def test_stop_signs_are_red_where_annotated():
    found = 0
    for index in range(40):
        rng = np.random.default_rng(index)
        picture, things = mini_coco.draw_scene(rng, 200, 260)
        red = picture[..., 0].astype(int) - picture[..., 1:].max(2)
        for name, polygons in things:
            mask = np.zeros(red.shape, np.uint8)
            cv2.fillPoly(mask, [np.round(p).astype(np.int32) for p in polygons], 1)
            if name == 'stop sign' and mask.sum() > 800:
                assert (red[mask > 0] > 30).mean() > 0.4
                found += 1
    assert found > 3


@pytest.mark.parametrize('name', THINGS)
def test_things_differ_from_call_to_call(name):
    pictures = []
    for seed in (0, 1, 2):
        parts = THINGS[name][0](np.random.default_rng(seed))
        canvas = np.full((200, 200, 3), 128, np.uint8)
        stamp = drawing.Stamp(parts, drawing.placement(parts, (100, 100), 160, 0))
        stamp.paint(canvas, np.array([0, 1]), 0, 0)
        mask = stamp.mask(canvas.shape)
        ys, xs = np.nonzero(mask)
        assert 155 <= max(np.ptp(ys), np.ptp(xs)) <= 180
        assert stamp.full_area == mask.sum()
        # what lies inside the mask was painted, what lies outside was not
        near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5)))
        assert (canvas[mask] != 128).any(1).mean() > 0.98
        assert (canvas[near == 0] == 128).all()
        pictures.append(canvas)
    assert all((pictures[0] != p).any(2).mean() > 0.02 for p in pictures[1:])


def test_outline_of_a_ring_keeps_the_hole():
    y, x = np.indices((80, 80)) + 0.5
    radius = np.hypot(x - 40, y - 40)
    mask = (radius < 30) & (radius > 12)
    polygons = drawing.outline(mask, scale=1)
    assert len(polygons) == 2
    area = sum(cv2.contourArea(p.astype(np.float32)) for p in polygons)
    assert area == pytest.approx(mask.sum(), rel=0.015)
    points = np.concatenate(polygons)
    assert points.min() == 10 and points.max() == 70


def test_outline_of_a_square_is_exact():
    mask = np.zeros((20, 30), bool)
    mask[4:10, 6:26] = True
    (polygon,) = drawing.outline(mask, scale=2)
    assert {tuple(p) for p in polygon} == {(3, 2), (13, 2), (13, 5), (3, 5)}
    assert drawing.outline(np.zeros((5, 5), bool)) == []


def test_same_bytes_whoever_draws(tmp_path):
    first = digests(make_mini_coco(tmp_path / 'a', **SMALL))
    assert len(set(first.values())) == len(first) == 7
    assert digests(make_mini_coco(tmp_path / 'b', **SMALL, num_workers=3)) == first
    other = digests(make_mini_coco(tmp_path / 'c', **SMALL, seed=1))
    assert set(other) == set(first)
    assert not set(other.values()) & set(first.values())
    more = digests(make_mini_coco(tmp_path / 'd', **{**SMALL, 'num_train': 4}))
    assert all(more[f] == first[f] for f in first if f.endswith('.jpg'))
    assert digests(make_mini_coco(tmp_path / 'a', **SMALL, force=True)) == first


def test_what_is_there_is_kept_or_refused(tmp_path):
    out, said = tmp_path / 'mini', []
    out.mkdir()  # an empty folder may be filled
    make_mini_coco(out, **SMALL)
    before = digests(out)
    make_mini_coco(out, **SMALL, log=said.append)
    assert said == [f'already there: {out}']
    with pytest.raises(UserError, match='another miniature COCO; redraw it with --force'):
        make_mini_coco(out, **SMALL, seed=1)
    assert digests(out) == before
    make_mini_coco(out, **SMALL, seed=1, force=True)
    assert digests(out) != before
    next((out / 'val2017').iterdir()).unlink()
    with pytest.raises(UserError, match='incomplete'):
        make_mini_coco(out, **SMALL, seed=1)
    (out / 'notes.txt').write_text('mine')
    for force in (False, True):
        with pytest.raises(UserError, match='something other than a miniature COCO; not touched'):
            make_mini_coco(out, **SMALL, force=force)
    assert (out / 'notes.txt').read_text() == 'mine'
    assert [p.name for p in tmp_path.iterdir()] == ['mini']
    with pytest.raises(UserError, match='not touched'):
        make_mini_coco(out / 'notes.txt', **SMALL)


def test_the_real_coco_is_never_replaced(tmp_path):
    path = tmp_path / 'coco/annotations/instances_train2017.json'
    path.parent.mkdir(parents=True)
    for text in ('{"info": {"year": 2017}, "images": []}', '[]', '{"half'):
        path.write_text(text)
        path.with_name('instances_val2017.json').write_text(text)
        with pytest.raises(UserError, match='not touched'):
            make_mini_coco(tmp_path / 'coco', **SMALL, force=True)
        assert path.read_text() == text


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError(28, 'No space left on device')])
@pytest.mark.parametrize('redraw', [False, True])
def test_interruption_leaves_nothing(tmp_path, monkeypatch, error, redraw):
    out = tmp_path / 'mini'
    before = digests(make_mini_coco(out, **SMALL)) if redraw else {}
    draw = mini_coco._draw_image

    def stop_at_last(seed, split, index, **kwargs):
        if (split, index) == (1, 1):
            raise error
        return draw(seed, split, index, **kwargs)

    monkeypatch.setattr(mini_coco, '_draw_image', stop_at_last)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt):
        make_mini_coco(out, **SMALL, seed=2, force=redraw)
    assert [p.name for p in tmp_path.iterdir()] == ['mini'] * redraw
    assert digests(out) == before


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'num_train': 0}, 'train images must be within 1 and'),
        ({'num_val': -3}, 'val images must be within 1 and 500000, got -3'),
        ({'size': (20, 100)}, 'size must be within 64 and 4096, got 20 100'),
        ({'size': (100, 80)}, 'size must be given smallest first, got 100 80'),
        ({'objects': (0, 3)}, 'objects must be within'),
        ({'seed': -1}, 'seed must be within'),
        ({'num_workers': 0}, 'workers must be within'),
    ],
)
def test_bad_arguments(tmp_path, wrong, message):
    with pytest.raises(UserError, match=message):
        make_mini_coco(tmp_path / 'deep/out', **{**SMALL, **wrong})
    assert not any(tmp_path.iterdir())


def test_sheet(root, tmp_path):
    draw_sheet(root, tmp_path / 'sheet.png', 'val2017', num_images=7)
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape == (640, 1920, 3)
    with pytest.raises(UserError, match='ends in'):
        draw_sheet(root, tmp_path / 'sheet')


def run_tool(*args):
    command = [sys.executable, '-W', 'ignore', str(TOOL), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_tool_draws_the_same_in_another_process(tmp_path):
    sizes = ('--train', 3, '--val', 2, '--size', 64, 96, '--workers', 3)
    done = run_tool(tmp_path / 'mini', *sizes, '--show', tmp_path / 'sheet.png')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'drew 3 + 2 images: {tmp_path / "mini"}\n')
    assert (tmp_path / 'sheet.png').exists()
    assert digests(tmp_path / 'mini') == digests(make_mini_coco(tmp_path / 'here', **SMALL))


def test_tool_says_what_is_wrong_in_one_line(run_here, tmp_path):
    (tmp_path / 'file').write_text('')
    done = run_here('python', TOOL, tmp_path / 'file/out', '--train', 1, check=False)
    assert done.returncode == 2
    assert done.stderr == f'error: cannot write {tmp_path / "file/out"}: Not a directory\n'
    assert [p.name for p in tmp_path.iterdir()] == ['file']
