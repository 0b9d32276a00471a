"""Archives of the miniatures, named and laid out as those that the data sets' sites give."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

from mmsb.datasets.miniatures.ade20k import make_mini_ade20k
from mmsb.datasets.miniatures.cifar100 import make_mini_cifar100
from mmsb.datasets.miniatures.coco import make_mini_coco
from mmsb.datasets.miniatures.imagenet import CLASSES, make_mini_imagenet

DEVKIT = 'ILSVRC2012_devkit_t12'


def zip_folders(path, root, names, prefix=''):
    """Zip folders of a folder; with entries for the folders themselves, as ``zip -r`` writes."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            for file in (root / name, *sorted((root / name).rglob('*'))):
                archive.write(file, prefix + file.relative_to(root).as_posix())


def tar_files(path, files, mode='w'):
    """Tar files, given by name; a path or the content of each."""
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            if isinstance(content, Path):
                archive.add(content, name)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def archive_coco(out, scratch, train=4, val=3):
    root = make_mini_coco(scratch / 'coco', train, val, size=(64, 96))
    for split in ('train2017', 'val2017'):
        zip_folders(out / f'{split}.zip', root, [split])
    zip_folders(out / 'annotations_trainval2017.zip', root, ['annotations'])
    return root


def archive_ade20k(out, scratch, train=4, val=2):
    root = make_mini_ade20k(scratch / 'ade', train, val, size=(64, 96))
    (root / 'objectInfo150.txt').write_text('Idx\n')
    prefix = 'ADEChallengeData2016/'
    names = ['images', 'annotations', 'objectInfo150.txt']
    zip_folders(out / 'ADEChallengeData2016.zip', root, names, prefix)
    return root


def archive_cifar100(out, scratch, train=1, val=1):
    root = make_mini_cifar100(scratch / 'cifar', train, val)
    folder = root / 'cifar-100-python'
    files = {f'cifar-100-python/{name}': folder / name for name in ('meta', 'test', 'train')}
    tar_files(out / 'cifar-100-python.tar.gz', files | {'cifar-100-python/file.txt~': b''}, 'w:gz')
    return root


def archive_imagenet(out, scratch, train=1, val=1):
    """As the real ones: numbers that are no alphabetical order, groups after the classes.

    The validation images are in one tar archive, in an order of their own.
    """
    root = make_mini_imagenet(scratch / 'imagenet', train, val, size=(64, 64))
    numbers = np.random.default_rng(0).permutation(len(CLASSES)) + 1
    number = dict(zip(sorted(CLASSES), map(int, numbers), strict=True))
    shards = {}
    for synset in sorted(CLASSES):
        shard = io.BytesIO()
        with tarfile.open(fileobj=shard, mode='w') as archive:
            for file in sorted((root / 'train' / synset).iterdir()):
                archive.add(file, file.name)
        shards[f'{synset}.tar'] = shard.getvalue()
    tar_files(out / 'ILSVRC2012_img_train.tar', shards)
    files = sorted((root / 'val').rglob('*.JPEG'))
    np.random.default_rng(1).shuffle(files)
    named = {f'ILSVRC2012_val_{i:08d}.JPEG': file for i, file in enumerate(files, 1)}
    tar_files(out / 'ILSVRC2012_img_val.tar', named)
    kinds = 'ILSVRC2012_ID WNID words gloss num_children children wordnet_height num_train_images'
    rows = [(number[s], s, s, s, 0, [], 0, train) for s in sorted(CLASSES, key=number.get)]
    rows.append((len(CLASSES) + 1, 'n00001740', 'group', 'group', 2, [1, 2], 1, 0))
    synsets = np.zeros((len(rows), 1), [(kind, object) for kind in kinds.split()])
    for i, row in enumerate(rows):
        synsets[i, 0] = row
    meta = io.BytesIO()
    savemat(meta, {'synsets': synsets}, do_compression=True)
    truth = ''.join(f'{number[file.parent.name]}\n' for file in files).encode()
    data = {
        f'{DEVKIT}/data/meta.mat': meta.getvalue(),
        f'{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt': truth,
        f'{DEVKIT}/readme.txt': b'',
    }
    tar_files(out / f'{DEVKIT}.tar.gz', data, 'w:gz')
    return root, named


ARCHIVE = dict(
    coco=archive_coco, ade20k=archive_ade20k, cifar100=archive_cifar100, imagenet=archive_imagenet
)
