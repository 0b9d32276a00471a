"""Images of Hugging Face ``datasets``: what folders give, from Parquet files and save_to_disk."""

import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmsb.datasets.huggingface import HuggingFaceImages, compare_class_names, open_split
from mmsb.datasets.miniatures.imagenet import make_mini_imagenet
from tests import readme
from tests.conftest import ROOT, assert_one_line

datasets = pytest.importorskip('datasets')

PIPELINE = [dict(type='mmsb.LoadImageFromFile'), dict(type='PackInputs')]
NAMES = dict(train='train', val='validation')


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_OFFLINE', True, raising=False)
    open_split.cache_clear()
    yield
    open_split.cache_clear()


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    return make_mini_imagenet(tmp_path_factory.mktemp('in') / 'mini', 1, 1, size=(64, 64))


def rows_of(mini, split, names=None, keys=('image', 'label')):
    files = sorted((mini / split).rglob('*.JPEG'))
    names = names or sorted({file.parent.name for file in files})
    images = [dict(bytes=file.read_bytes(), path=file.name) for file in files]
    labels = [names.index(file.parent.name) for file in files]
    features = {keys[0]: datasets.Image(), keys[1]: datasets.ClassLabel(names=names)}
    content = {keys[0]: images, keys[1]: labels}
    return datasets.Dataset.from_dict(content, datasets.Features(features))


def write_parquet(root, mini, shards=2, **options):
    (root / 'data').mkdir(parents=True, exist_ok=True)
    for split, name in NAMES.items():
        rows = rows_of(mini, split, **options)
        for i in range(shards):
            part = rows.shard(shards, i, contiguous=True)
            part.to_parquet(root / f'data/{name}-{i:05}-of-{shards:05}.parquet')
    return root


@pytest.fixture(scope='module')
def parquet(mini, tmp_path_factory):
    """As ``imagenet-1k`` of the hub."""
    return write_parquet(tmp_path_factory.mktemp('hf') / 'parquet', mini)


@pytest.fixture
def build(parquet, tmp_path):
    init_default_scope('mmpretrain')
    default = dict(data_root=str(parquet), split='train', cache_dir=str(tmp_path / 'cache'))
    return lambda **options: HuggingFaceImages(**(default | dict(pipeline=PIPELINE) | options))


@pytest.mark.parametrize(
    ('kind', 'split'),
    [('parquet', 'train'), ('parquet', 'val'), ('saved dict', 'val'), ('saved', 'train')],
)
def test_samples_are_those_of_folders(mini, build, tmp_path, kind, split):
    pytest.importorskip('mmpretrain')
    options = dict(split=NAMES[split])
    if kind == 'saved dict':
        datasets.DatasetDict({NAMES[s]: rows_of(mini, s) for s in NAMES}).save_to_disk(
            tmp_path / 'saved'
        )
        options['data_root'] = str(tmp_path / 'saved')
    elif kind == 'saved':
        rows_of(mini, split).save_to_disk(tmp_path / 'saved')
        options['data_root'] = str(tmp_path / 'saved')
    dataset = build(**options)
    folder = DATASETS.build(
        dict(type='CustomDataset', data_root=str(mini), data_prefix=split, pipeline=PIPELINE)
    )
    assert len(dataset) == len(folder) == 36
    assert dataset.metainfo['classes'] == tuple(folder.CLASSES)
    for one, other in zip(dataset, folder, strict=True):
        assert torch.equal(one['inputs'], other['inputs'])
        assert torch.equal(one['data_samples'].gt_label, other['data_samples'].gt_label)
        name = Path(other['data_samples'].img_path).name
        assert one['data_samples'].img_path.endswith(f'({name})')


def test_it_trains_and_is_checked_against_the_head(mini, parquet, run_here, tmp_path):
    pytest.importorskip('mmpretrain')
    config = tmp_path / 'mine.py'
    text = readme.example('Hugging Face data').replace("'./configs", f"'{ROOT}/configs")
    cache = f'dataset=dict(cache_dir={str(tmp_path / "cache")!r})'
    config.write_text(f"""{text}
model['backbone'].update(depth=18, base_channels=8, stem_channels=8)
model['head'] = dict(in_channels=64, num_classes=36)
model['data_preprocessor'] = dict(num_classes=36)
train_dataloader = dict(batch_size=18, num_workers=0, {cache})
val_dataloader = dict(batch_size=18, num_workers=0, {cache})
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
""")
    run = partial(run_here, MMSB_IMAGENET_HF_ROOT=parquet)
    train = partial(run, 'python', 'tools/train.py', config, '--work-dir')
    done = train(tmp_path / 'work')
    assert 'accuracy/top1' in done.stdout + done.stderr
    options = ['--cfg-options', 'model.head.num_classes=35']
    done = train(tmp_path / 'work2', *options, check=False)
    assert done.returncode == 2
    message = 'model.head has num_classes=35, but the data of train_dataloader has 36 classes'
    assert message in done.stderr
    names = sorted(path.name for path in (mini / 'val').iterdir())[::-1]
    shutil.copytree(parquet, tmp_path / 'other')
    for old in (tmp_path / 'other/data').glob('validation*'):
        old.unlink()
    rows_of(mini, 'val', names).to_parquet(tmp_path / 'other/data/validation.parquet')
    done = train(tmp_path / 'work3', check=False, MMSB_IMAGENET_HF_ROOT=tmp_path / 'other')
    assert done.returncode == 2 and 'must have the same classes, in one order' in done.stderr


def test_the_config_reads_it(parquet, tmp_path, monkeypatch):
    pytest.importorskip('mmpretrain')
    monkeypatch.setenv('MMSB_IMAGENET_HF_ROOT', str(parquet))
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/imagenet_hf.py')
    step = Config.fromfile(ROOT / 'configs/_base_/datasets/imagenet_step.py')
    init_default_scope('mmpretrain')
    for name in ('train', 'val'):
        ours, theirs = cfg[f'{name}_dataloader'], step[f'{name}_dataloader']
        assert ours.dataset.pipeline[1:] == theirs.dataset.pipeline[1:]
        assert {**ours, 'dataset': 0} == {**theirs, 'dataset': 0}
        ours.dataset.cache_dir = str(tmp_path)
        dataset = DATASETS.build(ours.dataset)
        assert len(dataset) == 36 and dataset[0]['inputs'].shape == (3, 224, 224)


def test_bad_folders(build, parquet, mini, tmp_path):
    root = tmp_path / 'hf'
    make = partial(build, data_root=str(root))
    assert_one_line(make, 'does not exist: give a folder with data of Hugging Face')
    root.mkdir()
    assert_one_line(make, "no Parquet files of the split 'train' (it has none)")
    shutil.copytree(parquet, root, dirs_exist_ok=True)
    message = "no Parquet files of the split 'val' (it has data/train-00000-of-00002.parquet"
    assert_one_line(lambda: make(split='val'), message)
    message = 'has no column img: it has image, label; set image_key'
    assert_one_line(lambda: make(image_key='img'), message)
    message = 'has the classes n01443537'
    assert_one_line(lambda: make(metainfo=dict(classes=('a', 'b'))), message)
    path = root / 'data/train-00001-of-00002.parquet'
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    open_split.cache_clear()
    assert_one_line(make, "split 'train', cannot be read: ")
    path.unlink()
    open_split.cache_clear()
    assert_one_line(make, "1 Parquet files of the split 'train', whose names count 2: shards 1 are")


def test_bad_labels_and_images(build, mini, tmp_path):
    """As of the hub's test split, whose labels are -1."""
    rows = rows_of(mini, 'val').remove_columns('label').add_column('label', [-1] * 36)
    rows.save_to_disk(tmp_path / 'test')
    make = partial(build, data_root=str(tmp_path / 'test'))
    message = 'row 0: the label is -1, it must be 0 or more (the split has no labels)'
    assert_one_line(make, message)
    image = dict(bytes=b'no image', path='x.JPEG')
    datasets.Dataset.from_dict(dict(image=[image], label=[3])).save_to_disk(tmp_path / 'broken')
    make = partial(build, data_root=str(tmp_path / 'broken'))
    message = 'row 0: the label is 3, it must be from 0 to 1'
    assert_one_line(lambda: make(metainfo=dict(classes=('a', 'b'))), message)
    broken = make()
    message = 'broken:train:0 (x.JPEG) cannot be read: repair or remove it (it is damaged)'
    assert_one_line(lambda: broken[0], message)


def test_without_the_package(build, monkeypatch):
    monkeypatch.setitem(sys.modules, 'datasets', None)
    assert_one_line(build, 'pip install datasets')


def test_compared_names(mini, tmp_path):
    for name, names in (('one', None), ('two', sorted(p.name for p in (mini / 'val').iterdir()))):
        rows_of(mini, 'val', names and names[::-1]).save_to_disk(tmp_path / name)
    one, two = (dict(data_root=str(tmp_path / name), split='val') for name in ('one', 'two'))
    compare_class_names(one, one)
    assert_one_line(lambda: compare_class_names(one, two), 'must have the same classes, in one')
