"""Lists of what archives hold, and safe unpacking of parts of them."""

import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mmsb.utils.errors import UserError, reason_of
from mmsb.utils.files import EXTENSIONS, replacing

BLOCK = 2**22  # bytes read at once
AGAIN = 'delete it and download it again'

Place = Callable[[str], str | None]
"""From a name in an archive to a path relative to the data set's folder; None leaves it out."""


class Entry(NamedTuple):
    """A file in an archive.

    Attributes:
        name: Its name in the archive.
        target: Its path relative to the data set's folder, with slashes.
        offset: Where its content begins in a tar archive, in bytes.
        size: Its size in bytes.
        info: Its entry in a zip archive; None in a tar archive.
    """

    name: str
    target: str
    offset: int
    size: int
    info: zipfile.ZipInfo | None = None


@dataclass
class Unpacked:
    """What :func:`unpack` did with a part of an archive.

    Attributes:
        digests: SHA-256 of each file by its path relative to the data set's folder.
        broken: Images that cannot be read, with the reason. They are not written.
        left_out: Names of files that have no place in the data set's folder.
    """

    digests: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


# ---------------------------------------------------------------- what is in it


def list_archive(path: str | os.PathLike, place: Place) -> tuple[list[Entry], list[str]]:
    """List the files of a zip archive or an uncompressed tar archive.

    Args:
        path: The archive.
        place: Where each file belongs.

    Returns:
        The files that have a place, in the archive's order, and the names of the others.

    Raises:
        UserError: The archive is missing, cut short or damaged, or holds a link, a device, an
            encrypted file, a name that leads out of the folder, or two files for one place.
    """
    path = Path(path)
    try:
        if path.suffix == '.zip':
            found = list(_zip_files(path))
        else:
            with open(path, 'rb') as file:
                found = list(_tar_files(file, path, 0, os.path.getsize(path)))
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or error}') from error
    return _placed(found, place, path)


def _placed(found: Iterable[Entry], place: Place, path: Path) -> tuple[list[Entry], list[str]]:
    entries, left_out, taken = [], [], set()
    for entry in found:
        target = place(_safe_name(entry.name, path))
        if target is None:
            left_out.append(entry.name)
            continue
        if target in taken:
            raise UserError(f'{path} holds two files for {target}: {AGAIN}')
        taken.add(target)
        entries.append(entry._replace(target=target))
    return entries, left_out


def _safe_name(name: str, path: Path) -> str:
    """Return a name without ``./``; refuse one that leads out of the folder."""
    parts = [part for part in name.split('/') if part != '.']
    if name.startswith('/') or '..' in parts or re.search(r'[\\:\0]', name):
        raise UserError(
            f'{path} holds a file named {name!r}, which leads out of the data: nothing of that '
            'name is unpacked; use the archive that the site gives'
        )
    return '/'.join(parts)


def _zip_files(path: Path) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        # the list of a zip archive's files is at its end
        raise UserError(f'{path} is cut short, damaged or no zip archive: {AGAIN}') from error
    for info in infos:
        mode = info.external_attr >> 16
        if info.is_dir():
            continue
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _not_a_file(info.filename, path)
        if info.flag_bits & 1:
            raise UserError(f'{path} is encrypted ({info.filename}): unpack and zip it again')
        yield Entry(info.filename, '', 0, info.file_size, info)


def _not_a_file(name: str, path: Path) -> UserError:
    return UserError(
        f'{path} holds {name!r}, a link or device: it is not unpacked; use the archive that the '
        'site gives'
    )


def _tar_files(file: io.BufferedReader, path: Path, start: int, size: int) -> Iterator[Entry]:
    """List the files of a tar archive that begins at ``start`` of a file."""
    file.seek(start)
    end = start + size
    try:
        tar = tarfile.TarFile(fileobj=file)  # begins where the file stands
        for member in tar:
            if member.offset_data + member.size > end:
                raise tarfile.ReadError('a file reaches beyond its end')
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise _not_a_file(member.name, path)
            yield Entry(member.name, '', member.offset_data, member.size)
        # tarfile takes a damaged header, and the end of the file, for the end of the archive
        file.seek(tar.offset)
        last = file.read(tarfile.BLOCKSIZE) if tar.offset < end else b''
        if not last or last.strip(b'\0'):
            raise tarfile.ReadError('its end is missing')
    except (tarfile.TarError, EOFError, ValueError) as error:
        reason = reason_of(error).partition(': ')[2] or 'unreadable'
        raise UserError(
            f'{path} is cut short, damaged or no tar archive ({reason}): {AGAIN}'
        ) from (error)


def gunzip(path: str | os.PathLike, out: str | os.PathLike) -> Path:
    """Decompress a file.

    Raises:
        UserError: The file is missing, cut short or damaged, or the disk is full.
    """
    out = Path(out)
    with replacing(out) as part:
        try:
            with gzip.open(path) as file, open(part, 'wb') as target:
                shutil.copyfileobj(file, target, BLOCK)
                if not target.tell():
                    raise EOFError
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f'{path} is cut short, damaged or not compressed: {AGAIN}') from error
    return out


def read_targz(path: str | os.PathLike, names: Iterable[str]) -> list[bytes]:
    """Read some files of a small ``.tar.gz``, by the ends of their names.

    Raises:
        UserError: The archive is missing, cut short or damaged, or has no such file.
    """
    contents = []
    try:
        with tarfile.open(path, 'r:gz') as tar:
            members = [member for member in tar if member.isreg()]
            for name in names:
                found = [member for member in members if f'/{member.name}'.endswith(f'/{name}')]
                if not found:
                    raise UserError(f'{path} has no {name}: {AGAIN}')
                contents.append(tar.extractfile(found[0]).read())
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        reason = getattr(error, 'strerror', None) or 'cut short, damaged or no tar.gz archive'
        raise UserError(f'{path} cannot be read ({reason}): {AGAIN}') from error
    return contents


# -------------------------------------------------------------------- unpacking


@lru_cache(maxsize=1)  # reading a large zip archive's list of files takes a second
class _Reader:
    """Reads entries of one archive, which stays open for the process's next part of it."""

    def __init__(self, path: Path):
        self.path = path
        self.file = zipfile.ZipFile(path) if path.suffix == '.zip' else open(path, 'rb')  # noqa: SIM115

    def blocks(self, entry: Entry) -> Iterator[bytes]:
        """Yield an entry's content; a zip archive's checksum is compared at its end."""
        try:
            if entry.info is not None:
                with self.file.open(entry.info) as file:
                    while block := file.read(BLOCK):
                        yield block
                return
            self.file.seek(entry.offset)
            left = entry.size
            while left:
                block = self.file.read(min(BLOCK, left))
                if not block:
                    raise EOFError('the archive ends')
                left -= len(block)
                yield block
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise UserError(
                f'{self.path}: {entry.name} cannot be read ({reason_of(error)}): the archive is '
                f'damaged, {AGAIN}'
            ) from error


def unpack(
    archive: str | os.PathLike,
    entries: list[Entry],
    dest: str | os.PathLike,
    work: str | os.PathLike,
    known: dict[str, str],
    inner: str | None = None,
    max_label: int | None = None,
) -> Unpacked:
    """Write files of an archive, each at once and whole, and compute their SHA-256.

    Args:
        archive: A zip or an uncompressed tar archive.
        entries: What to unpack.
        dest: The data set's folder.
        work: Folder for temporary files, on the same disk.
        known: SHA-256 of files that are already there, by path. Those of the right size are kept.
        inner: For a tar archive of tar archives: pattern of the names in them that belong into
            the folder that is the entry's target. Defaults to None: entries are plain files.
        max_label: Highest label in images under ``annotations/``. Defaults to None: any.

    Raises:
        UserError: The archive is damaged, or the disk is full.
    """
    archive, done = Path(archive), Unpacked()
    reader = _Reader(archive)
    if inner is not None:
        shards, entries = entries, []
        for shard in shards:
            where = Path(f'{archive}/{shard.name}')
            found = list(_tar_files(reader.file, where, shard.offset, shard.size))
            place = partial(_place_inside, shard.target, inner)
            placed, left_out = _placed(found, place, where)
            entries += placed
            done.left_out += [f'{shard.name}/{name}' for name in left_out]
    part = Path(work, f'{os.getpid()}.part')
    for entry in entries:
        target = Path(dest, entry.target)
        if entry.target in known and _size(target) == entry.size:
            done.digests[entry.target] = known[entry.target]
            continue
        try:
            digest, problem = _write(reader.blocks(entry), part, entry.target, max_label)
            if problem is None:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, target)
                done.digests[entry.target] = digest
            else:
                done.broken[entry.target] = problem
        except OSError as error:
            raise UserError(f'cannot write {target}: {error.strerror or error}') from error
        finally:
            part.unlink(missing_ok=True)
    return done


def _place_inside(folder: str, pattern: str, name: str) -> str | None:
    return f'{folder}/{name}' if re.fullmatch(pattern, name) else None


def _size(path: Path) -> int | None:
    try:
        info = path.lstat()
    except OSError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def _write(
    blocks: Iterable[bytes], part: Path, target: str, max_label: int | None
) -> tuple[str, str | None]:
    """Write a file; return its SHA-256 and what is wrong with it if it is a broken image."""
    digest, content = hashlib.sha256(), []
    checked = target.lower().endswith(EXTENSIONS)
    with open(part, 'wb') as file:
        for block in blocks:
            digest.update(block)
            file.write(block)
            if checked:
                content.append(block)
    problem = image_problem(b''.join(content), target, max_label) if checked else None
    return digest.hexdigest(), problem


def examine(dest: str, targets: list[str], max_label: int | None = None) -> Unpacked:
    """Compute the SHA-256 of files that are there, and decode the images among them.

    Args:
        dest: The data set's folder.
        targets: Paths relative to it.
        max_label: Highest label in images under ``annotations/``. Defaults to None: any.
    """
    done = Unpacked()
    for target in targets:
        digest, content = hashlib.sha256(), []
        checked = target.lower().endswith(EXTENSIONS)
        try:
            with open(Path(dest, target), 'rb') as file:
                while block := file.read(BLOCK):
                    digest.update(block)
                    if checked:
                        content.append(block)
        except OSError as error:
            done.broken[target] = error.strerror or f'{error}'
            continue
        done.digests[target] = digest.hexdigest()
        problem = image_problem(b''.join(content), target, max_label) if checked else None
        if problem:
            done.broken[target] = problem
    return done


def image_problem(content: bytes, target: str, max_label: int | None = None) -> str | None:
    """Decode an image; return what is wrong with it, or None.

    Args:
        content: The image file.
        target: Its path relative to the data set's folder.
        max_label: Highest label of one under ``annotations/``. Defaults to None: any.
    """
    if not content:
        return 'it is empty'
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter('ignore')  # about EXIF, which is not used
            if not target.startswith('annotations/'):
                # of a JPEG, all coefficients are decoded, but only an eighth of the pixels computed
                image.draft('L', (image.width // 8 + 1, image.height // 8 + 1))
            image.load()
            if max_label is not None and target.startswith('annotations/'):
                if len(image.getbands()) != 1:
                    return f'it has {len(image.getbands())} channels, a label map has one'
                if image.getextrema()[1] > max_label:
                    return f'it holds label {image.getextrema()[1]}, the highest is {max_label}'
    except Exception as error:  # Pillow raises many types
        return reason_of(error).partition(': ')[2] or reason_of(error)
    return None
