"""Preparing data sets from archives in the form of the sites' own."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path

import pytest
from mmengine import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from mmsb import __main__ as mmsb_command
from mmsb.datasets.preparing import archives as unpacking
from mmsb.datasets.preparing import preparing
from mmsb.datasets.preparing.preparing import check_data
from mmsb.datasets.preparing.recipes import COCO, IMAGENET, RECIPES, read_devkit
from tests import readme
from tests.conftest import ROOT, assert_one_line
from tests.test_datasets.archives import ARCHIVE, tar_files

NAMES = tuple(ARCHIVE)


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    """Folder of the archives, and of the miniature that they were made of, by data set."""
    made = {}
    for name in NAMES:
        scratch = tmp_path_factory.mktemp(name)
        out = scratch / 'archives'
        out.mkdir()
        made[name] = out, ARCHIVE[name](out, scratch)
    return made


def prepare(name, source, dest, **options):
    lines = []
    options = dict(subset=True, workers=2) | options
    preparing.prepare_data(name, source, dest, log=lines.append, **options)
    return lines


def contents(root, without=()):
    files = [path for path in Path(root).rglob('*') if path.is_file()]
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    return {name: found[name] for name in found if name.partition('/')[0] not in without}


@pytest.fixture(scope='module')
def prepared(sources, tmp_path_factory):
    """The prepared folder of each data set."""
    root = tmp_path_factory.mktemp('prepared')
    for name in NAMES:
        prepare(name, sources[name][0], root / name)
    return root


@pytest.fixture
def copy(prepared, tmp_path):
    """Copies a prepared folder, to be damaged."""
    return lambda name: Path(shutil.copytree(prepared / name, tmp_path / name))


@pytest.fixture
def archived(sources, tmp_path):
    """Copies a folder of archives, to be damaged."""
    return lambda name: Path(shutil.copytree(sources[name][0], tmp_path / f'{name}_archives'))


@pytest.mark.parametrize('name', ['coco', 'ade20k', 'cifar100'])
def test_the_files_are_those_of_the_data_set(sources, prepared, name):
    found = contents(prepared / name, ['SHA256SUMS'])
    found.pop('cifar-100-python/file.txt~', None)
    assert found == contents(sources[name][1], ['miniature.json'])


def test_imagenet_is_sorted_into_its_classes(sources, prepared):
    root, named = sources['imagenet'][1]
    found = contents(prepared / 'imagenet', ['SHA256SUMS'])
    expected = {f'train/{k}': v for k, v in contents(root / 'train').items()}
    for name, file in named.items():
        expected[f'val/{file.parent.name}/{name}'] = file.read_bytes()
    assert found == expected


@pytest.mark.parametrize('name', NAMES)
def test_the_checksums_are_those_of_sha256sum(prepared, name):
    done = subprocess.run(
        ['sha256sum', '--check', '--strict', '--quiet', 'SHA256SUMS'], cwd=prepared / name
    )
    assert done.returncode == 0
    lines = (prepared / name / 'SHA256SUMS').read_text().splitlines()
    assert [line[66:] for line in lines] == sorted(contents(prepared / name, ['SHA256SUMS']))
    check_data(name, prepared / name, subset=True, workers=2, log=lines.append)
    assert lines[-1].endswith(f'{len(lines) - 1 - counted(lines):,} files, verified')


def counted(lines):
    return sum(' holds ' in line or 'images have no object' in line for line in lines)


def test_a_second_call_does_nothing(sources, prepared):
    before = {path: path.stat().st_mtime_ns for path in (prepared / 'ade20k').rglob('*')}
    (line,) = prepare('ade20k', sources['ade20k'][0], prepared / 'ade20k')
    assert line.endswith('holds ADE20K already: verify it with --check')
    assert before == {path: path.stat().st_mtime_ns for path in (prepared / 'ade20k').rglob('*')}


def test_other_counts_than_the_published_are_refused(sources, tmp_path, monkeypatch):
    source = sources['coco'][0]
    message = 'train2017 holds 4 files, COCO 2017 has 118,287; --subset accepts'
    make = partial(prepare, 'coco', source, tmp_path / 'coco', subset=False)
    assert_one_line(make, message)
    assert not (tmp_path / 'coco/SHA256SUMS').exists()
    monkeypatch.setitem(COCO.counts, 'train2017', 4)
    monkeypatch.setitem(COCO.counts, 'val2017', 3)
    (line,) = make()
    assert line.endswith('COCO 2017, 9 files, verified; SHA256SUMS lists them')


def test_published_figures():
    """As mmpretrain's and torchvision's own lists have them."""
    from torchvision.datasets import CIFAR100 as of_torchvision
    from torchvision.datasets.imagenet import ARCHIVE_META

    assert RECIPES['cifar100'].archives[0].md5 == of_torchvision.tgz_md5
    assert of_torchvision.url == RECIPES['cifar100'].site + '/cifar-100-python.tar.gz'
    published = dict(ARCHIVE_META.values())
    for one in IMAGENET.archives:
        assert one.name in published and one.md5 in (None, published[one.name])


def test_md5(sources, tmp_path, monkeypatch):
    """Of a tar archive, whose files have no checksums."""
    make = partial(prepare, 'cifar100', sources['cifar100'][0], tmp_path / 'c', subset=False)
    assert_one_line(make, 'the published archive eb9058c3a382ffc7106e4002c42a8d85: it is damaged')
    monkeypatch.setattr(preparing, 'CHUNK_FILES', 5)
    out, digests = sources['imagenet'][0], {}
    for one in IMAGENET.archives:
        digests[one.name] = hashlib.md5((out / one.name).read_bytes()).hexdigest()
    parts = IMAGENET.plan({one.name: out / one.name for one in IMAGENET.archives}, tmp_path, True)
    for part in parts:
        part.md5 = digests[part.path.name]
    unpack = partial(preparing._unpack_parts, IMAGENET, dest=tmp_path, known={}, workers=1)
    (tmp_path / '.preparing').mkdir()
    with open(tmp_path / '.preparing/written', 'a+') as journal:
        done = unpack(parts, journal=journal, subset=False)
        assert len(done.digests) == 72
        parts[1].md5 = '0' * 32
        message = f'img_train.tar has the MD5 {digests["ILSVRC2012_img_train.tar"]}, the published'
        assert_one_line(lambda: unpack(parts, journal=journal, subset=False), message)
        assert not os.path.getsize(journal.name)


# --------------------------------------------------------------- interruptions


class Killed(BaseException):
    pass


@pytest.mark.parametrize('name', ['coco', 'imagenet'])
def test_killed_at_each_rename(sources, prepared, tmp_path, name):
    """A process that is killed leaves whole files only; the next call writes just the others."""
    recipe, source = RECIPES[name], sources[name][0]
    paths = {one.name: source / one.name for one in recipe.archives}
    dest, work = tmp_path / 'dest', tmp_path / 'dest/.preparing'
    work.mkdir(parents=True)
    whole = contents(prepared / name, ['SHA256SUMS'])
    written, replace = [], os.replace

    def killed(part, target):
        if len(written) % 3 == 2:
            written.append(None)
            raise Killed
        replace(part, target)
        written.append(target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, 'replace', killed)
        for _ in range(3):
            for part in recipe.plan(paths, work, True):
                with suppress(Killed):
                    unpacking.unpack(part.path, part.entries, dest, work, {}, part.inner)
            found = contents(dest, ['.preparing'])
            assert found.items() <= whole.items() and found
    assert written.count(None) > 3
    # what the journal has is not written again; a torn last line does not count
    listing = preparing._read_listing(prepared / name / 'SHA256SUMS')
    there = sorted(found)
    line = f'{listing[there[-1]]}  {there[-1]}'
    lines = [f'{listing[path]}  {path}\n' for path in there[:-1]]
    (work / 'written').write_text(''.join(lines) + line[:-4])
    before = {path: (dest / path).stat().st_ino for path in there}
    prepare(name, source, dest)
    assert contents(dest) == contents(prepared / name)
    kept = [path for path in there if (dest / path).stat().st_ino == before[path]]
    assert kept == there[:-1]


def test_killed_with_all_its_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, 'CHUNK_FILES', 20)
    source, root, count = tmp_path / 'archives', tmp_path / 'coco', 400
    source.mkdir()
    image = io.BytesIO()
    Image.new('RGB', (64, 48)).save(image, 'jpeg')
    numbers = dict(train2017=range(count), val2017=range(1))
    for split in numbers:
        with zipfile.ZipFile(source / f'{split}.zip', 'w') as archive:
            for i in numbers[split]:
                archive.writestr(f'{split}/{i}.jpg', image.getvalue())
    with zipfile.ZipFile(source / 'annotations_trainval2017.zip', 'w') as archive:
        for split in numbers:
            size = dict(width=64, height=48)
            images = [dict(id=i, file_name=f'{i}.jpg', **size) for i in numbers[split]]
            box = dict(bbox=[1, 2, 30, 40], category_id=1, area=1200, iscrowd=0)
            objects = [dict(id=i + 1, image_id=i, **box) for i in numbers[split]]
            content = dict(images=images, annotations=objects)
            content['categories'] = [dict(id=1, name='kite')]
            archive.writestr(f'annotations/instances_{split}.json', json.dumps(content))
    running = get_context('fork').Process(target=prepare, args=('coco', source, root))
    running.start()
    journal = root / '.preparing/written'
    while running.is_alive() and not (journal.exists() and journal.stat().st_size > 5_000):
        time.sleep(0.001)
    running.kill()
    running.join()
    assert not (root / 'SHA256SUMS').exists()
    assert_one_line(lambda: check_data('coco', root, True), 'is not complete: run prepare-data')
    recorded = preparing._read_listing(journal)
    assert 20 < len(recorded) < count
    before = {path: (root / path).stat().st_ino for path in recorded}
    for _ in range(200):  # its processes end with it, but not at the same moment
        try:
            lines = prepare('coco', source, root)
            break
        except ValueError as error:
            assert 'another prepare-data works in' in str(error)
            time.sleep(0.05)
    assert lines[-1].endswith('COCO 2017, 403 files, verified; SHA256SUMS lists them')
    assert before == {path: (root / path).stat().st_ino for path in recorded}
    assert not (root / '.preparing').exists()
    check_data('coco', root, True, 2, lines.append)


# ------------------------------------------------------------------- bad input


def test_missing_archives_are_named(archived, tmp_path):
    source = archived('imagenet')
    for name in ('ILSVRC2012_img_val.tar', 'ILSVRC2012_devkit_t12.tar.gz'):
        (source / name).unlink()
    message = (
        f'{source} lacks ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_val.tar: get it from '
        'https://image-net.org'
    )
    assert_one_line(lambda: prepare('imagenet', source, tmp_path / 'out'), message)


def test_missing_shard(archived, tmp_path):
    source = archived('imagenet')
    path = source / 'ILSVRC2012_img_train.tar'
    with tarfile.open(path) as archive:
        shards = {one.name: archive.extractfile(one).read() for one in archive.getmembers()}
    lost = shards.pop('n01443537.tar')
    tar_files(path, shards)
    paths = {one.name: source / one.name for one in IMAGENET.archives}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmsb.datasets.preparing.recipes.IMAGENET_CLASSES', 36)
        patch.setitem(IMAGENET.counts, 'val', 36)
        message = f'{path} lacks 1 of 36 classes: n01443537: delete it and download it again'
        assert_one_line(lambda: IMAGENET.plan(paths, tmp_path, False), message)
    # validation has the class, and labels would differ
    message = 'must have the same folders of classes'
    assert_one_line(lambda: prepare('imagenet', source, tmp_path / 'out'), message)
    # cut within: its last files are lost
    tar_files(path, {'n01443537.tar': lost[:1024], **shards})
    message = f'{path}/n01443537.tar is cut short, damaged or no tar archive'
    assert_one_line(lambda: prepare('imagenet', source, tmp_path / 'out2'), message)


@pytest.mark.parametrize(
    ('name', 'archive'),
    [
        ('coco', 'train2017.zip'),
        ('coco', 'annotations_trainval2017.zip'),
        ('ade20k', 'ADEChallengeData2016.zip'),
        ('cifar100', 'cifar-100-python.tar.gz'),
        ('imagenet', 'ILSVRC2012_img_train.tar'),
        ('imagenet', 'ILSVRC2012_img_val.tar'),
        ('imagenet', 'ILSVRC2012_devkit_t12.tar.gz'),
    ],
)
@pytest.mark.parametrize('share', [0, 0.6])
def test_cut_archives(archived, tmp_path, name, archive, share):
    source = archived(name)
    path = source / archive
    os.truncate(path, int(share * path.stat().st_size) // 512 * 512)  # at a tar's block
    assert_one_line(lambda: prepare(name, source, tmp_path / 'out'), f'{path} ')
    assert contents(tmp_path / 'out', ['.preparing']) == {}


def test_tar_that_ends_between_two_files(tmp_path):
    """tarfile itself takes such an end, and a damaged header, for the end of the archive."""
    path = tmp_path / 'x.tar'
    tar_files(path, {name: bytes(100) for name in 'abc'})
    whole = path.read_bytes()
    assert [entry.name for entry in unpacking.list_archive(path, str)[0]] == ['a', 'b', 'c']
    for content in (whole[:2048], whole[:2048] + b'x' * 512 + whole[2560:]):
        path.write_bytes(content)
        with tarfile.open(path) as archive:
            assert archive.getnames() == ['a', 'b']
        message = f'{path} is cut short, damaged or no tar archive (its end is missing)'
        assert_one_line(lambda: unpacking.list_archive(path, str), message)


def test_damaged_file_in_a_zip(archived, tmp_path):
    path = archived('coco') / 'val2017.zip'
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        one = archive.infolist()[-1]
    content[one.header_offset + 80] ^= 255
    path.write_bytes(content)
    message = f'{path}: {one.filename} cannot be read'
    assert_one_line(lambda: prepare('coco', path.parent, tmp_path / 'out'), message)
    assert not (tmp_path / 'out' / one.filename).exists()


def rezip(path, changed):
    """Write a zip archive anew with some files changed, added or, if None, left out."""
    with zipfile.ZipFile(path) as archive:
        files = {one.filename: archive.read(one) for one in archive.infolist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in (files | changed).items():
            if content is not None:
                archive.writestr(name, content)


def test_broken_images_are_all_named(archived, tmp_path):
    source = archived('ade20k')
    path, root = source / 'ADEChallengeData2016.zip', 'ADEChallengeData2016'
    with zipfile.ZipFile(path) as archive:
        cut = archive.read(f'{root}/images/training/ADE_train_00000002.jpg')
    labels = io.BytesIO()
    Image.new('L', (96, 64), 151).save(labels, 'png')
    whole = path.read_bytes()
    rezip(
        path,
        {
            f'{root}/images/training/ADE_train_00000002.jpg': cut[: len(cut) * 2 // 3],
            f'{root}/images/validation/ADE_val_00000001.jpg': b'<html>',
            f'{root}/annotations/training/ADE_train_00000003.png': labels.getvalue(),
        },
    )
    out = tmp_path / 'out'
    with pytest.raises(ValueError) as error:
        prepare('ade20k', source, out)
    for part in (
        f'{out}: 3 files are broken, annotations/training/ADE_train_00000003.png (it holds label '
        '151, the highest is 150), images/training/ADE_train_00000002.jpg (',
        'truncated',
        'images/validation/ADE_val_00000001.jpg (cannot identify image file',
    ):
        assert part in str(error.value)
    assert not (out / 'images/training/ADE_train_00000002.jpg').exists()
    # a whole archive mends it, and only them are written
    before = {file: file.stat().st_ino for file in out.rglob('*.jpg')}
    path.write_bytes(whole)
    prepare('ade20k', source, out)
    assert {file: file.stat().st_ino for file in before} == before


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'images/training/ADE_train_00000001.jpg': None}, 'has no image (1 have none)'),
        ({'annotations/training/ADE_train_00000001.png': None}, 'every image needs one of its'),
        ({'annotations/training/ADE_train_00000001.png': (9, 9)}, 'and its image differ in size'),
    ],
)
def test_maps_that_do_not_fit(archived, tmp_path, changed, message):
    path = archived('ade20k') / 'ADEChallengeData2016.zip'
    for name, size in changed.items():
        content = io.BytesIO()
        if size:
            Image.new('L', size).save(content, 'png')
        rezip(path, {f'ADEChallengeData2016/{name}': content.getvalue() if size else None})
    assert_one_line(lambda: prepare('ade20k', path, tmp_path / 'out'), message)


def test_annotations_that_do_not_fit(archived, tmp_path):
    """The check is that of training."""
    path = archived('coco') / 'val2017.zip'
    rezip(path, {'val2017/000000500001.jpg': None})
    with zipfile.ZipFile(path) as archive:
        assert len([one for one in archive.namelist() if not one.endswith('/')]) == 2
    message = 'val2017/000000500001.jpg does not exist, but'
    assert_one_line(lambda: prepare('coco', path.parent, tmp_path / 'out'), message)


@pytest.mark.parametrize('bad', ['../../evil.jpg', '/evil.jpg', 'val2017/../../evil.jpg'])
def test_names_that_lead_out_are_refused(archived, tmp_path, bad):
    path = archived('coco') / 'val2017.zip'
    rezip(path, {bad: b'evil'})
    message = 'which leads out of the data'
    assert_one_line(lambda: prepare('coco', path.parent, tmp_path / 'out'), message)
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode='w') as archive:
        archive.addfile(tarfile.TarInfo(bad))
    source = archived('imagenet')
    tar_files(source / 'ILSVRC2012_img_train.tar', {'n01443537.tar': inner.getvalue()})
    assert_one_line(lambda: prepare('imagenet', source, tmp_path / 'out2'), message)
    assert not list(tmp_path.rglob('evil*')) and not Path('/evil.jpg').exists()


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_are_refused(archived, tmp_path, kind):
    source = archived('imagenet')
    info = tarfile.TarInfo('ILSVRC2012_val_00000001.JPEG')
    info.type, info.linkname = kind, '/etc/passwd'
    with tarfile.open(source / 'ILSVRC2012_img_val.tar', 'w') as archive:
        archive.addfile(info)
    message = "'ILSVRC2012_val_00000001.JPEG', a link or device: it is not unpacked"
    assert_one_line(lambda: prepare('imagenet', source, tmp_path / 'out'), message)
    source = archived('coco')
    info = zipfile.ZipInfo('val2017/1.jpg')
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(source / 'val2017.zip', 'w') as archive:
        archive.writestr(info, '/etc/passwd')
    message = "'val2017/1.jpg', a link or device"
    assert_one_line(lambda: prepare('coco', source, tmp_path / 'out2'), message)


def test_other_content_is_not_touched(sources, prepared, tmp_path):
    (tmp_path / 'mine').write_text('')
    make = partial(prepare, 'coco', sources['coco'][0])
    assert_one_line(lambda: make(tmp_path), 'holds other things (mine): give a new or empty')
    assert_one_line(lambda: make(prepared / 'imagenet'), 'holds other things (train/')
    assert_one_line(lambda: make(tmp_path / 'mine'), 'is a file: give a folder')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['mine']


def test_too_little_space(sources, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
    message = f'GB in {tmp_path / "out"}, whose disk has 0.0 GB free'
    assert_one_line(lambda: prepare('coco', sources['coco'][0], tmp_path / 'out'), message)
    assert contents(tmp_path / 'out', ['.preparing']) == {}


def test_devkit(sources, tmp_path, monkeypatch):
    """The numbers are the devkit's, not the alphabetical order; groups are no classes."""
    source, (_, named) = sources['imagenet']
    path = source / 'ILSVRC2012_devkit_t12.tar.gz'
    synsets, labels = read_devkit(path, subset=True)
    assert len(synsets) == 36 and list(synsets) == list(range(1, 37))
    assert list(synsets.values()) != sorted(synsets.values())
    wanted = [file.parent.name for _, file in sorted(named.items())]
    assert [synsets[label] for label in labels] == wanted
    assert_one_line(lambda: read_devkit(path), 'lists 36 classes and 36 validation images, not')
    monkeypatch.setitem(sys.modules, 'scipy.io', None)
    assert_one_line(lambda: read_devkit(path), 'pip install scipy')


def test_bad_names(tmp_path):
    assert_one_line(lambda: prepare('imagnet', '.', tmp_path), 'is it imagenet?')
    assert_one_line(lambda: prepare('coco', tmp_path / 'no', tmp_path / 'out'), 'is no folder')
    make = partial(prepare, 'imagenet', 'https://127.0.0.1/x')
    assert_one_line(lambda: make(tmp_path / 'o'), 'licence must be accepted on https://image-net')
    assert_one_line(lambda: prepare('coco', 's3://x', tmp_path / 'o'), 'give a folder, http or')
    assert_one_line(lambda: check_data('coco', tmp_path / 'no'), 'does not exist')


# ---------------------------------------------------------------------- --check


def test_check_names_what_changed(copy):
    root = copy('ade20k')
    check = partial(check_data, 'ade20k', root, subset=True, workers=1, log=lambda _: None)
    check()
    image = root / 'images/training/ADE_train_00000001.jpg'
    content = image.read_bytes()
    Image.new('RGB', (96, 64)).save(image)
    assert_one_line(check, '1 of 13 files in ')
    assert_one_line(check, 'are not what SHA256SUMS lists: images/training/ADE_train_00000001.jpg')
    image.write_bytes(content[:500])
    assert_one_line(check, '1 files are broken, images/training/ADE_train_00000001.jpg (')
    image.unlink()
    assert_one_line(check, 'lacks 1 of 13 files: images/training/ADE_train_00000001.jpg')
    image.write_bytes(content)
    (root / 'images/training/more.jpg').write_bytes(content)
    assert_one_line(check, 'not from the archives: images/training/more.jpg')
    (root / 'SHA256SUMS').unlink()
    assert_one_line(check, 'segmentation map')


def test_check_of_what_others_unpacked(sources):
    """There is no list, but images are decoded, and the rest is checked as well."""
    lines = []
    check_data('coco', sources['coco'][1], subset=True, workers=1, log=lines.append)
    assert 'has no SHA256SUMS: contents are compared with nothing' in lines[0]
    assert 'train2017 holds 4 files, COCO 2017 has 118,287' in lines[1]


def test_a_lost_file_is_restored(sources, copy, prepared):
    root = copy('imagenet')
    lost = next(root.glob('val/*/*.JPEG'))
    lost.unlink()
    prepare('imagenet', sources['imagenet'][0], root)
    assert contents(root) == contents(prepared / 'imagenet')


# -------------------------------------------------------------------- addresses


class Server(SimpleHTTPRequestHandler):
    """Serves a folder with ranges; the first reply with much content is cut."""

    cut = True
    asked = []

    def log_message(self, *args):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content, start = path.read_bytes(), 0
        if 'Range' in self.headers:
            start = int(self.headers['Range'].removeprefix('bytes=').rstrip('-'))
        type(self).asked.append((path.name, start))
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        if type(self).cut and path.name == 'train2017.zip':
            type(self).cut = False
            content = content[: len(content) // 2]
        self.wfile.write(content[start:])


def test_download_continues(archived, prepared, tmp_path):
    site = archived('coco')
    for folder in ('annotations', 'zips'):
        (site / folder).mkdir()
    for path in site.glob('*.zip'):
        path.rename(site / ('annotations' if 'annot' in path.name else 'zips') / path.name)
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Server, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{server.server_port}'
    try:
        make = partial(prepare, 'coco', address, tmp_path / 'out')
        assert_one_line(make, 'a second call continues')
        make()
        assert contents(tmp_path / 'out') == contents(prepared / 'coco')
        half = (site / 'zips/train2017.zip').stat().st_size // 2
        names = ['annotations_trainval2017.zip', 'val2017.zip', 'train2017.zip', 'train2017.zip']
        assert Server.asked == list(zip(names, (0, 0, 0, half - 1), strict=True))
        message = 'cannot be downloaded: 404 Not Found'
        assert_one_line(lambda: prepare('ade20k', address, tmp_path / 'ade'), message)
    finally:
        server.shutdown()
        server.server_close()
    # file:// is a folder; the site's own folders are known
    prepare('coco', site.as_uri(), tmp_path / 'other')
    assert contents(tmp_path / 'other') == contents(prepared / 'coco')


# ------------------------------------------------------------------ command line


def test_commands_of_the_docs(sources, prepared, tmp_path, monkeypatch, capsys):
    """There is no progress bar, as stderr is no terminal."""
    monkeypatch.chdir(tmp_path)
    for line, folder in (
        (readme.command('prepare COCO'), 'data/coco'),
        (readme.command('prepare ADE20K'), 'data/ade/ADEChallengeData2016'),
        (readme.command('prepare CIFAR-100'), 'data/cifar100'),
        (readme.command('prepare ImageNet'), 'data/imagenet'),
        (readme.command('check COCO'), 'data/coco'),
    ):
        _, *words = line.split()
        name = words[1]
        if '--check' not in words:
            assert words[2] == 'downloads'
            words[2] = str(sources[name][0])
        mmsb_command.main([*words, '--subset', '--workers', '1'])
        out, err = capsys.readouterr()
        assert 'verified' in out.splitlines()[-1] and folder in out and not err
        assert contents(folder) == contents(prepared / name)
    for words, message in (
        (['coco', 'downloads', 'data/coco', '--check'], 'error: --check verifies one folder'),
        (['coco', 'data/coco'], 'error: give the folder with the archives and the folder to make'),
        (['coco', 'no', 'new', '--workers', '0'], 'error: no is no folder'),
    ):
        with pytest.raises(SystemExit) as end:
            mmsb_command.main(['prepare-data', *words])
        assert end.value.code == 2 and capsys.readouterr().err.startswith(message)


# -------------------------------------------------------------------- training


@pytest.mark.parametrize(
    ('toolbox', 'variable', 'name', 'config'),
    [
        ('mmdet', 'MMSB_COCO_ROOT', 'coco', 'faster_rcnn_sb_r50_fpn_1x_coco.py'),
        ('mmseg', 'MMSB_ADE20K_ROOT', 'ade20k', 'fpn_sb_r50_40k_ade20k-512x512.py'),
        ('mmpretrain', 'MMSB_IMAGENET_ROOT', 'imagenet', 'sb_resnet50_a3-100e_in1k.py'),
    ],
)
def test_the_configs_read_the_result(prepared, monkeypatch, toolbox, variable, name, config):
    pytest.importorskip(toolbox)
    monkeypatch.setenv(variable, str(prepared / name))
    cfg = Config.fromfile(ROOT / 'configs' / config)
    init_default_scope(cfg.default_scope)
    lengths = dict(coco=(4, 3), ade20k=(4, 2), imagenet=(36, 36))[name]
    for split, length in zip(('train', 'val'), lengths, strict=True):
        dataset = cfg[f'{split}_dataloader'].dataset
        if name == 'imagenet':  # the miniature's classes are not a thousand
            classes = sorted(path.name for path in (prepared / name / split).iterdir())
            dataset.metainfo = dict(classes=tuple(classes))
        built = DATASETS.build(dataset)
        assert len(built) == length
        for i in range(length):
            sample = built[i]
            assert sample['inputs'].ndim == 3
            if name == 'imagenet' and split == 'val':
                path = Path(sample['data_samples'].img_path)
                assert classes[sample['data_samples'].gt_label.item()] == path.parent.name


def test_a_network_trains_on_the_result(prepared, run_here, tmp_path, monkeypatch):
    pytest.importorskip('mmpretrain')
    from mmpretrain.datasets import CIFAR100

    root = prepared / 'cifar100'
    folder = root / 'cifar-100-python'
    digest = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    monkeypatch.setattr(CIFAR100, 'train_list', [['train', digest['train']]])
    monkeypatch.setattr(CIFAR100, 'test_list', [['test', digest['test']]])
    monkeypatch.setattr(CIFAR100, 'meta', CIFAR100.meta | dict(md5=digest['meta']))
    config = 'configs/cifar100/sb_resnet38-s1_300e_cifar100.py'
    options = ['train_dataloader.num_workers=0', 'val_dataloader.num_workers=0']
    options += [
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'train_dataloader.batch_size=16',
    ]
    words = ['tools/train.py', config, '--work-dir', tmp_path, '--cfg-options', *options]
    done = run_here('python', *words, MMSB_CIFAR100_ROOT=root)
    assert 'accuracy/top1' in done.stdout + done.stderr
    assert (tmp_path / 'epoch_1.pth').is_file()
