"""The images of model-vs-human's data sets: what is listed, and folders that are not right."""

import shutil

import pytest
from mmengine.registry import DATASETS, DefaultScope

from mmsb.studies.ood.dataset import BY_CATEGORY, OODDataset
from mmsb.studies.ood.scores import DATASETS as NAMES
from tests.conftest import assert_one_line
from tests.ood import make_mini_ood, trials

TWO = ('cue-conflict', 'uniform-noise')


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    return make_mini_ood(tmp_path_factory.mktemp('ood'), count=2, humans=0, side=8)


@pytest.fixture
def copy(drawn, tmp_path):
    """A copy of two data sets that a test may break: the folder of both."""
    for name in TWO:
        shutil.copytree(drawn / 'datasets' / name, tmp_path / 'datasets' / name)
    return tmp_path / 'datasets'


def test_every_image_is_listed_with_what_its_name_says(drawn):
    found = [item['ood'] | {'path': item['img_path']} for item in OODDataset(data_root=drawn)]
    assert {item['session'] for item in found} == {1}
    for name in NAMES:
        items = [item for item in found if item['dataset'] == name]
        expected = list(trials(name, 2))
        assert [item['trial'] for item in items] == list(range(1, len(expected) + 1))
        listed = {(item['condition'], item['category']) for item in items}
        if name in BY_CATEGORY:
            assert listed == {('NaN', category) for _, _, category, _ in expected}
            ends = sorted(f'{name}/{category}/{image}' for _, _, category, image in expected)
            assert all(i['path'].endswith(end) for i, end in zip(items, ends, strict=True))
        else:
            assert listed == {(condition, category) for _, condition, category, _ in expected}
    order = list(dict.fromkeys(item['dataset'] for item in found))
    assert order == list(NAMES)


def test_sessions_are_counted_each_from_its_first(copy):
    noise = copy / 'uniform-noise/dnn'
    shutil.copytree(noise / 'session-1', noise / 'session-10')
    items = [item['ood'] for item in OODDataset(data_root=copy.parent)]
    items = [(i['session'], i['trial']) for i in items if i['dataset'] == 'uniform-noise']
    half = len(items) // 2
    assert items == [(s, t) for s in (1, 10) for t in range(1, half + 1)]


def test_name_is_found_in_every_scope(drawn):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(dict(type='mmsb.OODDataset', data_root=str(drawn)))
    assert type(dataset) is OODDataset


def test_absent_data_sets_are_named(copy, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmsb.studies.ood.dataset.print_log', lambda line, *_, **__: lines.append(line)
    )
    assert len(OODDataset(data_root=copy.parent)) == sum(len(list(trials(n, 2))) for n in TWO)
    (line,) = lines
    assert line.startswith(f'2 of 17 data sets are in {copy}; missing: ')
    assert line.split(': ')[1].split(', ') == [name for name in NAMES if name not in TWO]


def test_no_data(tmp_path):
    message = f"{tmp_path / 'datasets'} holds none of model-vs-human's 17 data sets"
    assert_one_line(lambda: OODDataset(data_root=tmp_path), message)
    assert_one_line(lambda: OODDataset(data_root=tmp_path), 'edge/dog/dog1.png')
    assert_one_line(lambda: OODDataset(data_root=tmp_path), 'MMSB_OOD_ROOT=PATH')


def no_dnn(folder):
    shutil.move(folder / 'uniform-noise/dnn/session-1', folder / 'uniform-noise/test')
    shutil.rmtree(folder / 'uniform-noise/dnn')
    return 'uniform-noise is not laid out as in model-vs-human: it holds test/'


def no_session(folder):
    shutil.move(folder / 'uniform-noise/dnn/session-1', folder / 'uniform-noise/dnn/airplane')
    return 'it holds dnn/airplane/; expected sketch/dnn/session-1/0001_ske_dnn_0_dog_00_NAME.png'


def other_names(folder):
    session = folder / 'uniform-noise/dnn/session-1'
    next(session.iterdir()).rename(session / '0000.png')
    return 'it holds dnn/session-1/0000.png'


def other_category(folder):
    session = folder / 'uniform-noise/dnn/session-1'
    next(session.iterdir()).rename(session / '0001_nse_dnn_0.1_sheep_00_n01_2.png')
    return 'it holds dnn/session-1/0001_nse_dnn_0.1_sheep_00_n01_2.png'


def synsets(folder):
    (folder / 'cue-conflict/n01440764').mkdir()
    return 'cue-conflict is not laid out as in model-vs-human: it holds n01440764/'


def empty(folder):
    shutil.rmtree(folder / 'cue-conflict')
    (folder / 'cue-conflict').mkdir()
    return 'it holds nothing'


def no_images(folder):
    (folder / 'uniform-noise/dnn/session-2').mkdir()
    return 'session-2 holds no image'


@pytest.mark.parametrize(
    'damage', [no_dnn, no_session, other_names, other_category, synsets, empty, no_images]
)
def test_another_layout(copy, damage):
    message = damage(copy)
    assert_one_line(lambda: OODDataset(data_root=copy.parent), message)
