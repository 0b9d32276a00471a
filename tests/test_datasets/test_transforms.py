"""Loading: what the toolboxes' transforms give, or a line that names the file."""

import cv2
import numpy as np
import pytest

from mmsb.datasets.transforms import LoadAnnotations, LoadImageFromFile
from mmsb.utils.errors import UserError

SIZE = (20, 30)


@pytest.fixture
def load(tmp_path):
    """Loads a map that holds `labels`, or, as bytes, anything."""
    pytest.importorskip('mmseg.datasets')

    def run(labels, reduce_zero_label=True, label_map=None, **kwargs):
        path = tmp_path / 'map.png'
        if isinstance(labels, bytes):
            path.write_bytes(labels)
        elif labels is not None:
            cv2.imwrite(str(path), labels)
        return LoadAnnotations(**kwargs)(
            dict(
                seg_map_path=str(path),
                reduce_zero_label=reduce_zero_label,
                label_map=label_map,
                seg_fields=[],
                ori_shape=SIZE,
            )
        )

    return run


def labels(*values):
    return np.resize(np.array(values, np.uint8), SIZE)


def line(error) -> str:
    assert 'map.png' in str(error.value) and '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('reduce_zero_label', [True, False])
def test_good_maps_are_as_mmseg_loads_them(load, tmp_path, reduce_zero_label):
    drawn = labels(0, 1, 2, 149, 255, 150 if reduce_zero_label else 7)
    found = load(drawn, reduce_zero_label)
    from mmseg.datasets.transforms import LoadAnnotations as Theirs

    theirs = Theirs()(
        dict(
            seg_map_path=str(tmp_path / 'map.png'),
            reduce_zero_label=reduce_zero_label,
            seg_fields=[],
        )
    )
    assert np.array_equal(found['gt_seg_map'], theirs['gt_seg_map'])
    assert found['seg_fields'] == ['gt_seg_map']
    wanted = drawn.astype(int) - 1 if reduce_zero_label else drawn
    ignored = drawn == 255 if not reduce_zero_label else (drawn == 255) | (drawn == 0)
    assert np.array_equal(found['gt_seg_map'], np.where(ignored, 255, wanted))


@pytest.mark.parametrize(
    ('value', 'reduce_zero_label', 'num_classes', 'highest'),
    [(151, True, 150, 150), (254, True, 150, 150), (150, False, 150, 149), (19, False, 19, 18)],
)
def test_label_beyond_the_classes(load, value, reduce_zero_label, num_classes, highest):
    """Named as it is in the file."""
    with pytest.raises(UserError, match=f'holds label {value}:') as error:
        load(labels(1, value, 0), reduce_zero_label, num_classes=num_classes)
    assert f'with {num_classes} classes the highest is {highest},' in line(error)
    load(labels(1, highest, 0, 255), reduce_zero_label, num_classes=num_classes)


def test_label_of_chosen_classes(load):
    """mmseg maps the classes that are left out to 255."""
    label_map = {k: k if k < 2 else 255 for k in range(150)}
    found = load(labels(1, 2, 3, 150), label_map=label_map, num_classes=2)
    assert set(np.unique(found['gt_seg_map'])) == {0, 1, 255}


def test_map_is_missing(load):
    with pytest.raises(UserError, match='does not exist: every image needs one') as error:
        load(None)
    line(error)


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
def test_map_cannot_be_decoded(load, backend):
    whole = cv2.imencode('.png', labels(*range(150)))[1].tobytes()
    for content in (b'', b'not a picture', whole[: len(whole) // 2]):
        with pytest.raises(UserError, match='cannot be read: repair it') as error:
            load(content, imdecode_backend=backend)
        line(error)


@pytest.mark.parametrize('shape', [(30, 20), (20, 30, 3), (10, 30)])
def test_map_of_another_shape(load, shape):
    with pytest.raises(UserError, match='must have one channel') as error:
        load(np.ones(shape, np.uint8))
    assert f'is {" x ".join(map(str, shape))}, its image 20 x 30' in line(error)


def test_mistakes_in_the_config_are_not_the_files(tmp_path):
    """The pipeline contradicts the data set: mmseg's own assertion, in a line."""
    pytest.importorskip('mmseg.datasets')
    cv2.imwrite(str(tmp_path / 'map.png'), labels(1))
    path = str(tmp_path / 'map.png')
    with pytest.raises(UserError, match='reduce_zero_label is True on LoadAnnotations, but False'):
        LoadAnnotations(reduce_zero_label=True)(
            dict(seg_map_path=path, reduce_zero_label=False, seg_fields=[])
        )


def test_only_corrupt_images_are_skipped(tmp_path):
    """One that is missing is a mistake in the data set, whatever is skipped."""
    path = tmp_path / 'image.jpg'
    skips = LoadImageFromFile(skip_corrupt=True)
    for load in (skips, LoadImageFromFile()):
        with pytest.raises(UserError, match=r'image .*image\.jpg does not exist'):
            load(dict(img_path=str(path)))
    path.write_bytes(b'not a picture')
    assert skips(dict(img_path=str(path))) is None and skips.num_skipped == 1
    with pytest.raises(UserError, match=r'image .*image\.jpg cannot be read'):
        LoadImageFromFile()(dict(img_path=str(path)))
    cv2.imwrite(str(path), labels(7))
    assert skips(dict(img_path=str(path)))['img'].shape == (*SIZE, 3)


@pytest.mark.parametrize(
    ('value', 'dtype', 'label'),
    [(300, np.uint16, 300), (65535, np.uint16, 65535), (256, np.uint16, 256)],
)
def test_labels_of_16_bits_are_not_cut_to_8(load, value, dtype, label):
    """mmseg takes the last 8 bits: 300 would become 44."""
    with pytest.raises(UserError, match=f'holds label {label}:') as error:
        load(np.full(SIZE, value, dtype))
    line(error)


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
def test_an_exact_map_of_16_bits_is_a_map(load, backend):
    drawn = labels(0, 1, 149, 255)
    found = load(drawn.astype(np.uint16), imdecode_backend=backend)['gt_seg_map']
    assert np.array_equal(found, load(drawn)['gt_seg_map']) and found.dtype == np.uint8


def test_a_map_of_fractions_is_refused(load, tmp_path):
    from PIL import Image

    Image.fromarray(np.full(SIZE, 1.5, np.float32)).save(tmp_path / 'map.tif')
    content = (tmp_path / 'map.tif').read_bytes()
    with pytest.raises(UserError, match='not whole numbers') as error:
        load(content)
    line(error)


def test_an_image_too_large_is_not_decoded(tmp_path, monkeypatch):
    from PIL import Image

    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, labels(1))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', labels(1).size // 2 - 1)
    with pytest.raises(UserError, match=r'image .*image\.png is too large'):
        LoadImageFromFile()(dict(img_path=path))
    monkeypatch.undo()
    assert LoadImageFromFile()(dict(img_path=path))['img'].shape == (*SIZE, 3)


def test_a_device_is_not_read():
    with pytest.raises(UserError, match='is a folder or a device'):
        LoadImageFromFile()(dict(img_path='/dev/zero'))


def test_images_are_as_mmcv_loads_them(tmp_path):
    from mmcv.transforms import LoadImageFromFile as Theirs

    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    for ending in ('png', 'jpg'):
        path = str(tmp_path / f'image.{ending}')
        cv2.imwrite(path, noise)
        for options in ({}, dict(to_float32=True), dict(color_type='grayscale'),
                        dict(imdecode_backend='pillow')):  # fmt: skip
            ours, theirs = (k(**options)(dict(img_path=path)) for k in (LoadImageFromFile, Theirs))
            assert ours.keys() == theirs.keys() and ours['img'].dtype == theirs['img'].dtype
            assert np.array_equal(ours.pop('img'), theirs.pop('img')) and ours == theirs
    missing = dict(img_path=str(tmp_path / 'no.png'))
    assert LoadImageFromFile(ignore_empty=True)(missing) is None
