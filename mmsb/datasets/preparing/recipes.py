"""The data sets that can be prepared: their archives, what belongs where, what is checked."""

import hashlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmsb.datasets.cifar100 import check_cifar100
from mmsb.datasets.coco import check_coco, size_of
from mmsb.datasets.folders import compare_class_folders, find_class_folders
from mmsb.datasets.maps import check_map_files
from mmsb.utils.errors import UserError
from mmsb.utils.names import listed

from .archives import AGAIN, BLOCK, Entry, Place, gunzip, list_archive, read_targz

IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Archive:
    """An archive as its site gives it.

    Attributes:
        name: File name.
        address: Its place under the site's address, for downloads.
        md5: Its published MD5, where files in it have no checksum of their own. Defaults to None.
    """

    name: str
    address: str = ''
    md5: str | None = None


@dataclass
class Part:
    """An archive to unpack.

    Attributes:
        path: A zip or an uncompressed tar archive.
        entries: What to unpack, in its order.
        left_out: Names of files in it that have no place.
        inner: For a tar archive of tar archives: pattern of the names in them that are unpacked,
            into the folder that is the entry's target. Defaults to None.
        md5: The MD5 to compare it with. Defaults to None.
        lines: What is noteworthy about it, one line each.
    """

    path: Path
    entries: list[Entry]
    left_out: list[str]
    inner: str | None = None
    md5: str | None = None
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Recipe:
    """How a data set is prepared.

    Attributes:
        title: Its name in messages.
        archives: The archives that are needed.
        counts: Number of files in each folder of the whole data set; None: any.
        plan: Function that lists what to unpack, from the archives' paths by name, a folder for
            temporary files, and whether a part of the data set is enough.
        check: Function that checks the unpacked data set in a folder, given whether a part of it
            is enough, and returns noteworthy lines.
        site: Where the archives come from, for messages.
        is_free: Whether they may be downloaded without accepting a licence there.
        max_label: Highest label of its label maps. Defaults to None: it has none.
    """

    title: str
    archives: tuple[Archive, ...]
    counts: dict[str, int | None]
    plan: Callable[[dict[str, Path], Path, bool], list[Part]]
    check: Callable[[Path, bool], list[str]]
    site: str
    is_free: bool = True
    max_label: int | None = None

    def folders(self) -> list[str]:
        """List the data set's top folders."""
        return sorted({folder.partition('/')[0] for folder in self.counts})


def _matching(pattern: str, prefix: str = '') -> Place:
    """Return the place function for names that match, without a prefix of theirs."""

    def place(name: str) -> str | None:
        name = name.removeprefix(prefix)
        return name if re.fullmatch(pattern, name) else None

    return place


def _part(path: Path, place: Place, **options) -> Part:
    part = Part(path, *list_archive(path, place), **options)
    if not part.entries:
        raise UserError(
            f'{path} holds none of the files that are looked for; it holds '
            f'{listed(part.left_out, 3) or "nothing"}'
        )
    return part


# ------------------------------------------------------------------------ COCO


def _plan_coco(paths: dict[str, Path], work: Path, subset: bool) -> list[Part]:
    patterns = (r'annotations/[^/]+\.json', r'val2017/[^/]+\.jpg', r'train2017/[^/]+\.jpg')
    names = ('annotations_trainval2017.zip', 'val2017.zip', 'train2017.zip')
    return [_part(paths[n], _matching(p)) for n, p in zip(names, patterns, strict=True)]


def _check_coco(root: Path, subset: bool) -> list[str]:
    lines = []
    for split in ('train2017', 'val2017'):
        path, images = root / f'annotations/instances_{split}.json', root / split
        lines += check_coco(str(path), None, str(images), training=split == 'train2017').lines
    return lines


# -------------------------------------------------------------------- ImageNet


def _plan_imagenet(paths: dict[str, Path], work: Path, subset: bool) -> list[Part]:
    devkit, val, train = IMAGENET.archives
    synsets, labels = read_devkit(paths[devkit.name], subset)
    lines, wnids = [], set(synsets.values())

    def shard(name: str) -> str | None:
        return f'train/{name[:-4]}' if name.endswith('.tar') and name[:-4] in wnids else None

    trained = _part(paths[train.name], shard, md5=train.md5, inner=r'[^/]+\.JPEG')
    missing = sorted(wnids - {entry.target.partition('/')[2] for entry in trained.entries})
    if missing:
        line = f'{trained.path} lacks {len(missing)} of {len(wnids)} classes: {listed(missing)}'
        if not subset:
            raise UserError(f'{line}: {AGAIN}')
        lines.append(line)

    def place(name: str) -> str | None:
        found = re.fullmatch(r'ILSVRC2012_val_(\d{8})\.JPEG', name)
        if not found or not 0 < int(found[1]) <= len(labels):
            return None
        return f'val/{synsets[labels[int(found[1]) - 1]]}/{name}'

    validated = _part(paths[val.name], place, md5=val.md5)
    if len(validated.entries) < len(labels):
        line = f'{validated.path} has {len(validated.entries)} of {len(labels)} images'
        if not subset:
            raise UserError(f'{line}: {AGAIN}')
        lines.append(line)
    validated.lines = lines
    return [validated, trained]


def read_devkit(path: str | os.PathLike, subset: bool = False) -> tuple[dict[int, str], list[int]]:
    """Read the synsets and the labels of the validation images from ImageNet's devkit.

    Args:
        path: ``ILSVRC2012_devkit_t12.tar.gz``.
        subset: Accept other numbers of classes and images. Defaults to False.

    Returns:
        WordNet id of each class by its number in ILSVRC2012, and the number of the class of each
        validation image.

    Raises:
        UserError: SciPy is not installed, or the devkit is damaged or another one.
    """
    try:
        from scipy.io import loadmat  # reads arrays, and runs nothing that a file contains
    except ImportError as error:
        raise UserError(
            "SciPy is not installed, which reads ImageNet's list of classes: pip install scipy"
        ) from error
    names = ('data/meta.mat', 'data/ILSVRC2012_validation_ground_truth.txt')
    meta, truth = read_targz(path, names)
    try:
        rows = loadmat(io.BytesIO(meta), squeeze_me=True, variable_names=['synsets'])['synsets']
        synsets = {
            int(row['ILSVRC2012_ID']): str(row['WNID'])
            for row in rows.reshape(-1)
            if int(row['num_children']) == 0  # the others are groups of classes
        }
        labels = [int(line) for line in truth.split()]
        wrong = next((label for label in labels if label not in synsets), None)
        if wrong is not None:
            raise ValueError(f'no class has the number {wrong}')
        if not all(re.fullmatch(r'n\d{8}', wnid) for wnid in synsets.values()):
            raise ValueError('a WNID is not like n01440764')
    except Exception as error:  # SciPy raises many types for a damaged file
        raise UserError(f'{path} cannot be read ({error}): {AGAIN}') from error
    if not subset and (len(synsets) != IMAGENET_CLASSES or len(labels) != IMAGENET.counts['val']):
        raise UserError(
            f'{path} lists {len(synsets)} classes and {len(labels)} validation images, not '
            f"ImageNet's {IMAGENET_CLASSES} and {IMAGENET.counts['val']}"
        )
    return synsets, labels


def _check_imagenet(root: Path, subset: bool) -> list[str]:
    lines, found = [], []
    for split in ('train', 'val'):
        found.append(find_class_folders(str(root / split), ('.JPEG',)))
        found[-1].files()
        lines += found[-1].lines
    compare_class_folders(*found)
    if not subset and len(found[0].classes) != IMAGENET_CLASSES:
        raise UserError(f'{root} has {len(found[0].classes)} classes, not {IMAGENET_CLASSES}')
    return lines


# ---------------------------------------------------------------------- ADE20K


def _plan_ade20k(paths: dict[str, Path], work: Path, subset: bool) -> list[Part]:
    pattern = (
        r'images/(training|validation)/[^/]+\.jpg|annotations/(training|validation)/[^/]+\.png|'
        r'[^/]+\.txt'
    )
    (path,) = paths.values()
    return [_part(path, _matching(pattern, 'ADEChallengeData2016/'))]


def _check_ade20k(root: Path, subset: bool) -> list[str]:
    for split in ('training', 'validation'):
        images = sorted((root / 'images' / split).glob('*.jpg'))
        maps = [root / 'annotations' / split / f'{image.stem}.png' for image in images]
        check_map_files(list(map(str, maps)))
        others = set((root / 'annotations' / split).glob('*.png')) - set(maps)
        if others:
            raise UserError(
                f'segmentation map {min(others)} has no image ({len(others)} have none)'
            )
        for image, labels in zip(images, maps, strict=True):
            if size_of(str(image)) != size_of(str(labels)):
                raise UserError(f'segmentation map {labels} and its image differ in size')
    return []


# ------------------------------------------------------------------- CIFAR-100


def _plan_cifar100(paths: dict[str, Path], work: Path, subset: bool) -> list[Part]:
    ((name, path),) = paths.items()
    if not subset:
        digest = hashlib.md5()
        with open(path, 'rb') as file:
            while block := file.read(BLOCK):
                digest.update(block)
        check_md5(path, digest.hexdigest(), CIFAR100.archives[0].md5)
    tar = gunzip(path, work / name.removesuffix('.gz'))
    return [_part(tar, _matching(r'cifar-100-python/(train|test|meta|file\.txt~)'))]


def check_md5(path: Path, found: str, published: str) -> None:
    """Raise an error if an archive is not the published one.

    Raises:
        UserError: The two MD5 differ.
    """
    if found != published:
        raise UserError(
            f'{path} has the MD5 {found}, the published archive {published}: it is damaged or '
            f'another archive; {AGAIN}'
        )


def _check_cifar100(root: Path, subset: bool) -> list[str]:
    numbers = None if subset else dict(train=50_000, test=10_000)
    check_cifar100(root, numbers)
    return []


# ----------------------------------------------------------------------- all

COCO = Recipe(
    title='COCO 2017',
    archives=(
        Archive('annotations_trainval2017.zip', 'annotations/'),
        Archive('val2017.zip', 'zips/'),
        Archive('train2017.zip', 'zips/'),
    ),
    counts={'train2017': 118_287, 'val2017': 5_000, 'annotations': None},
    plan=_plan_coco,
    check=_check_coco,
    site='http://images.cocodataset.org',
)
IMAGENET = Recipe(
    title='ImageNet-1k',
    archives=(
        Archive('ILSVRC2012_devkit_t12.tar.gz'),
        Archive('ILSVRC2012_img_val.tar', md5='29b22e2961454d5413ddabcf34fc5622'),
        Archive('ILSVRC2012_img_train.tar', md5='1d675b47d978889d74fa0da5fadfb00e'),
    ),
    counts={'train': 1_281_167, 'val': 50_000},
    plan=_plan_imagenet,
    check=_check_imagenet,
    site='https://image-net.org',
    is_free=False,
)
ADE20K = Recipe(
    title='ADE20K',
    archives=(Archive('ADEChallengeData2016.zip'),),
    counts={
        'images/training': 20_210,
        'images/validation': 2_000,
        'annotations/training': 20_210,
        'annotations/validation': 2_000,
    },
    plan=_plan_ade20k,
    check=_check_ade20k,
    site='http://data.csail.mit.edu/places/ADEchallenge',
    max_label=150,
)
CIFAR100 = Recipe(
    title='CIFAR-100',
    archives=(Archive('cifar-100-python.tar.gz', md5='eb9058c3a382ffc7106e4002c42a8d85'),),
    counts={'cifar-100-python': None},
    plan=_plan_cifar100,
    check=_check_cifar100,
    site='https://www.cs.toronto.edu/~kriz',
)
RECIPES = dict(coco=COCO, imagenet=IMAGENET, ade20k=ADE20K, cifar100=CIFAR100)
