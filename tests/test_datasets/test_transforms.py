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
    contents = [b'', b'not a picture']
    if backend == 'pillow':  # OpenCV decodes what is there
        contents.append(whole[: len(whole) // 2])
    for content in contents:
        with pytest.raises(UserError, match='cannot be read: repair it') as error:
            load(content, imdecode_backend=backend)
        line(error)


@pytest.mark.parametrize('shape', [(30, 20), (20, 30, 3), (10, 30)])
def test_map_of_another_shape(load, shape):
    with pytest.raises(UserError, match='must have one channel') as error:
        load(np.ones(shape, np.uint8))
    assert f'is {" x ".join(map(str, shape))}, its image 20 x 30' in line(error)


def test_mistakes_in_the_config_are_not_the_files(tmp_path):
    """mmseg's own assertion, where the pipeline contradicts the data set."""
    pytest.importorskip('mmseg.datasets')
    cv2.imwrite(str(tmp_path / 'map.png'), labels(1))
    path = str(tmp_path / 'map.png')
    with pytest.raises(AssertionError, match='reduce_zero_label'):
        LoadAnnotations(reduce_zero_label=True)(
            dict(seg_map_path=path, reduce_zero_label=False, seg_fields=[])
        )


def test_only_corrupt_images_are_skipped(tmp_path):
    """One that is missing is a mistake in the data set, whatever is skipped."""
    path = tmp_path / 'image.jpg'
    skips = LoadImageFromFile(skip_corrupt=True)
    for load in (skips, LoadImageFromFile()):
        with pytest.raises(UserError, match=r'image .*image\.jpg cannot be read'):
            load(dict(img_path=str(path)))
    path.write_bytes(b'not a picture')
    assert skips(dict(img_path=str(path))) is None and skips.num_skipped == 1
    with pytest.raises(UserError, match=r'image .*image\.jpg cannot be read'):
        LoadImageFromFile()(dict(img_path=str(path)))
    cv2.imwrite(str(path), labels(7))
    assert skips(dict(img_path=str(path)))['img'].shape == (*SIZE, 3)
