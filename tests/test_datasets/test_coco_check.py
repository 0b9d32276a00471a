"""The check of annotation files: what it fills in, counts and refuses."""

import copy
import json

import pytest

from mmsb.datasets.coco import check_coco
from mmsb.datasets.miniatures.coco import make_mini_coco
from mmsb.utils.errors import UserError
from tests.conftest import assert_one_line

TRAIN = 'annotations/instances_train2017.json'


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    folder = make_mini_coco(tmp_path_factory.mktemp('coco'), num_train=6, num_val=1, size=(96, 128))
    return folder, json.loads((folder / TRAIN).read_text())


@pytest.fixture
def check(drawn, tmp_path):
    """Checks the miniature's file after a change."""
    folder, data = drawn
    path = tmp_path / 'file.json'

    def run(change=None, classes=None, encode=None, **kwargs):
        mine = copy.deepcopy(data)
        content = change(mine) if change else None
        content = json.dumps(mine) if content is None else content
        path.write_bytes(content.encode(encode or 'utf-8'))
        names = classes or [row['name'] for row in mine.get('categories', ())]
        root = str(folder)
        return check_coco(str(path), names, f'{root}/train2017', root, **kwargs)

    return run


def refused(check, message, *args, **kwargs):
    assert_one_line(lambda: check(*args, **kwargs), message)


def each(change):
    def run(data):
        for row in data['annotations']:
            change(row)

    return run


def first(count, change):
    def run(data):
        for row in data['annotations'][:count]:
            change(row)

    return run


def test_a_whole_file_is_read_as_it_is(check):
    for training in (True, False):
        found = check(training=training)
        assert found.lines == [] and found.data is None


def test_an_area_follows_from_the_mask_or_box(check, drawn):
    wanted = {row['id']: row['area'] for row in drawn[1]['annotations']}
    for change in (lambda row: row.update(area=None), lambda row: row.pop('area')):
        found = check(each(change))
        (line,) = found.lines
        assert f'{len(wanted)} of {len(wanted)} objects had no area: taken from the mask' in line
        for row in found.data['annotations']:
            assert row['area'] == pytest.approx(wanted[row['id']], rel=0.1)

    def without_mask(row):
        row.pop('area'), row.pop('segmentation')

    for row in check(each(without_mask)).data['annotations']:
        assert row['area'] == row['bbox'][2] * row['bbox'][3]


def test_objects_are_no_crowd_unless_it_says_so(check):
    found = check(each(lambda row: row.pop('iscrowd', None)))
    assert 'had no iscrowd: set to 0' in found.lines[0]
    assert {row['iscrowd'] for row in found.data['annotations']} == {0}


@pytest.mark.parametrize(
    ('box', 'kind', 'dropped'),
    [
        (['1', '2', '3', '4'], 'with a box that is not four numbers', True),
        ([1, 2, float('nan'), 4], 'with a box that is not four numbers', True),
        ([1, 2, 3], 'with a box that is not four numbers', True),
        (None, 'with a box that is not four numbers', True),
        ([9, 9, -5, 5], 'with a negative width or height', False),
        ([9, 9, 0, 5], 'smaller than a pixel', False),
        ([500, 5, 9, 9], 'outside of the image', False),
    ],
)
def test_boxes_of_no_use_are_counted_and_named(check, drawn, box, kind, dropped):
    count = len(drawn[1]['annotations'])
    found = check(first(1, lambda row: row.update(bbox=box)))
    line = next(line for line in found.lines if kind in line)
    assert f'1 of {count} boxes left out: 1 {kind} (e.g. annotation' in line
    if dropped:
        assert len(found.data['annotations']) == count - 1
    refused(check, f'{kind} (e.g.', first(count // 3, lambda row: row.update(bbox=box)))


def test_an_evaluation_keeps_what_no_detector_can_find(check):
    """Its figures belong to all objects of the file, but it says so."""
    found = check(first(1, lambda row: row.update(bbox=[500, 5, 9, 9])), training=False)
    assert 'cannot be found by any detector' in found.lines[0] and found.data is None


def test_boxes_of_two_corners_are_refused(check):
    def corners(row):
        x, y, w, h = row['bbox']
        row['bbox'] = [x, y, x + w, y + h]

    refused(check, 'x, y, width, height in pixels, not two corners', each(corners))


def test_swapped_width_and_height(check):
    def swap(data):
        for row in data['images']:
            row['width'], row['height'] = row['height'], row['width']

    refused(check, 'width and height are swapped', lambda d: swap(d), training=False)


def test_sizes_come_from_the_images(check, drawn):
    found = check(lambda data: [row.pop('width') for row in data['images']] and None)
    assert '6 images had no width or height' in found.lines[0]
    assert found.data['images'] == drawn[1]['images']


@pytest.mark.parametrize(
    ('classes', 'words'),
    [
        (('Person',), ("no category 'Person'", "'Person' is perhaps 'person'")),
        (('unicorn',), ("no category 'unicorn'", 'its categories: person, bicycle')),
        (('bicycle', 'person'), ('in another order', 'person, bicycle in the file')),
    ],
)
def test_classes_that_are_not_the_files(check, classes, words):
    for word in words:
        refused(check, word, classes=classes)


def test_objects_of_other_classes_are_counted(check, drawn):
    counts = {}
    for row in drawn[1]['annotations']:
        counts[row['category_id']] = counts.get(row['category_id'], 0) + 1
    number = max(counts, key=counts.get)
    name = next(row['name'] for row in drawn[1]['categories'] if row['id'] == number)
    found = check(classes=[name])
    others = sum(counts.values()) - counts[number]
    assert f'{others} of {sum(counts.values())} objects are of other classes' in found.lines[0]
    assert 'images have no object of the classes: left out of training' in found.lines[-1]


def test_encodings(check):
    for encoding in ('utf-8-sig', 'utf-16'):
        found = check(encode=encoding)
        assert found.lines == [] and found.data['images']


def test_names_of_windows(check):
    def change(data):
        for row in data['images']:
            row['file_name'] = '..\\train2017\\' + row['file_name']

    found = check(change)
    assert '6 file names with backslashes (Windows)' in found.lines[0]
    assert found.data['images'][0]['file_name'].startswith('../train2017/')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('/dev/zero', 'is outside of the data'),
        ('../../secret.jpg', 'is outside of the data'),
        ('C:\\data\\1.jpg', 'absolute path of another computer'),
        ('nowhere.jpg', 'train2017/nowhere.jpg does not exist, but'),
        (None, 'has the file_name None'),
        ('', "has the file_name ''"),
    ],
)
def test_images_that_cannot_be_read(check, name, message):
    refused(check, message, lambda data: data['images'][0].update(file_name=name))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda d: '', 'it is empty'),
        (lambda d: json.dumps(d)[:-50], 'is not JSON'),
        (lambda d: '[' * 100000, 'is not JSON'),
        (lambda d: '[1]', 'holds a list'),
        (lambda d: 'version https://git-lfs.github.com/spec/v1\n', 'Git LFS pointer'),
        (lambda d: d.pop('annotations') and None, 'has no list of annotations'),
        (lambda d: d['images'].append(None), 'entry 6 of its images is None'),
        (lambda d: d['images'][0].update(id=None), 'entry 0 of its images has the id None'),
        (lambda d: d['images'][0].update(id=d['images'][1]['id']), 'two images have the id'),
        (lambda d: d['categories'][0].update(name='bicycle'), "2 categories have the name"),
        (lambda d: d['annotations'].clear(), 'at least one image that has an object'),
        (lambda d: [row.update(image_id=str(row['image_id'])) for row in d['annotations']] and None,
         'of an image that the file does not list'),
    ],
)  # fmt: skip
def test_files_in_another_layout(check, change, message):
    refused(check, message, change)


def test_ids_of_annotations(check):
    """pycocotools takes a match with id 0 for none."""
    for change in (lambda row: row.update(id=7), lambda row: row.pop('id')):
        found = check(each(change))
        assert 'numbered anew' in found.lines[0]
        count = len(found.data['annotations'])
        assert [row['id'] for row in found.data['annotations']] == list(range(1, count + 1))


def test_a_file_of_images_alone_is_tested_on(check):
    assert check(lambda data: data.pop('annotations') and None, training=False).lines == []
    with pytest.raises(UserError):
        check(lambda data: data.pop('annotations') and None)
