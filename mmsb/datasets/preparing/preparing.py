"""Preparing a data set from its archives, and verifying one."""

import hashlib
import os
import re
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.utils.names import listed, nearest
from mmsb.utils.processes import die_with_parent, locked

from .archives import BLOCK, Entry, Unpacked, examine, unpack
from .recipes import RECIPES, Archive, Part, Recipe, check_md5

LISTING = 'SHA256SUMS'
WORK = '.preparing'  # in the data set's folder until it is complete
JOURNAL = 'written'  # in it: the checksums of the files that are in place
CHUNK_FILES, CHUNK_BYTES = 256, 2**26  # what a process unpacks before it is recorded
CLUSTER = 4096  # bytes of disk that a file may need beyond its size


def prepare_data(
    name: str,
    source: str | os.PathLike,
    dest: str | os.PathLike,
    subset: bool = False,
    workers: int | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Unpack a data set's archives into the layout that the configs read, and verify it.

    Files are written beside their place and renamed. A list of those that are complete is kept in
    a hidden folder in ``dest``, so that a second call continues where one was stopped. When
    everything is there, ``SHA256SUMS`` lists the checksums of all files, and the hidden folder is
    removed.

    Args:
        name: 'coco', 'imagenet', 'ade20k' or 'cifar100'.
        source: Folder with the archives as their site gives them; or the site's address
            (http, https), which they are downloaded from, where no licence must be accepted there.
        dest: The data set's folder, which the configs' variable (``MMSB_COCO_ROOT``, ...) names.
            It must be new, empty, or left by an earlier call.
        subset: Accept archives of a part of the data set: other counts and MD5. What is there is
            still verified. Defaults to False.
        workers: Number of processes. Defaults to None: one per core, at most 16.
        log: Function that is called with each line to print. Defaults to ``print``.

    Raises:
        UserError: An archive is missing, damaged or another one; an image is broken; the data do
            not fit together; ``dest`` holds other things or cannot be written to; or the disk has
            too little space.
    """
    recipe, dest = _recipe(name), Path(dest)
    if dest.exists() and not dest.is_dir():
        raise UserError(f'{dest} is a file: give a folder')
    listing = _read_listing(dest / LISTING)
    _refuse_other_content(recipe, dest, listing)
    if listing and not (dest / WORK).exists() and _is_whole(listing, recipe, dest):
        log(f'{dest} holds {recipe.title} already: verify it with --check')
        return
    work = dest / WORK
    with locked(work, 'prepare-data'):
        _remove_leftovers(work)
        paths = _find_archives(recipe, os.fspath(source), work)
        parts = recipe.plan(paths, work, subset)
        for part in parts:
            for line in part.lines:
                log(line)
        with open(work / JOURNAL, 'a+', encoding='utf-8') as journal:
            _end_line(journal)
            known = {**listing, **_read_listing(work / JOURNAL)}
            done = _unpack_parts(recipe, parts, dest, known, journal, subset, workers)
        for line in _left_out(parts, done.left_out):
            log(line)
        _refuse_broken(done.broken, dest, 'get its archive again')
        _compare_files(done.digests, set(_files(recipe, dest)), dest)
        for line in _check_content(recipe, dest, subset):
            log(line)
        _write_listing(dest / LISTING, done.digests)
    shutil.rmtree(work)
    log(f'{dest}: {recipe.title}, {len(done.digests):,} files, verified; {LISTING} lists them')


def check_data(
    name: str,
    dest: str | os.PathLike,
    subset: bool = False,
    workers: int | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Verify a data set that is there: files, checksums, images, counts and annotations.

    Args:
        name: As in :func:`prepare_data`.
        dest: The data set's folder. Without ``SHA256SUMS``, the content of its files is compared
            with nothing, but all images are decoded.
        subset: Accept other counts than those of the whole data set. Defaults to False.
        workers: As in :func:`prepare_data`.
        log: As in :func:`prepare_data`.

    Raises:
        UserError: Something is missing, changed, broken, too much, or does not fit together.
    """
    recipe, dest = _recipe(name), Path(dest)
    if not dest.is_dir():
        raise UserError(f'{dest} does not exist: give the folder of {recipe.title}')
    if (dest / WORK).exists():
        raise UserError(f'{dest} is not complete: run prepare-data again, it continues')
    there = _files(recipe, dest)
    listing = _read_listing(dest / LISTING)
    if listing:
        _compare_files(listing, set(there), dest)
        there += [path for path in listing if '/' not in path]
    else:
        log(f'{dest} has no {LISTING}: contents are compared with nothing')
    found = Unpacked()
    with _pool(workers) as submit, _progress() as progress:
        total = sum(os.path.getsize(dest / path) for path in there)
        task = progress.add_task('verifying', total=total)
        for chunk, done in submit(
            (paths, (examine, str(dest), paths, recipe.max_label))
            for paths in (there[i : i + CHUNK_FILES] for i in range(0, len(there), CHUNK_FILES))
        ):
            found.digests.update(done.digests)
            found.broken.update(done.broken)
            progress.advance(task, sum(os.path.getsize(dest / path) for path in chunk))
    changed = [path for path in listing if found.digests.get(path) != listing[path]]
    changed = [path for path in changed if path not in found.broken]
    _refuse_broken(found.broken, dest, 'restore it')
    if changed:
        raise UserError(
            f'{len(changed)} of {len(listing)} files in {dest} are not what {LISTING} lists: '
            f'{listed(changed)}; remove them and run prepare-data again'
        )
    for line in _check_content(recipe, dest, subset):
        log(line)
    log(f'{dest}: {recipe.title}, {len(there):,} files, verified')


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        close = nearest(name, RECIPES)
        hint = f' (is it {close}?)' if close else ''
        raise UserError(f'no data set is named {name!r}{hint}: give one of {", ".join(RECIPES)}')
    return RECIPES[name]


# ------------------------------------------------------------ the folder


def _files(recipe: Recipe, dest: Path) -> list[str]:
    """List all files in the data set's top folders that are not hidden, relative to its own."""
    found = []
    for top in recipe.folders():
        for folder, _, names in os.walk(dest / top):
            inside = Path(folder).relative_to(dest).as_posix()
            found += [f'{inside}/{name}' for name in names if not name.startswith('.')]
    return sorted(found)


def _refuse_other_content(recipe: Recipe, dest: Path, listing: dict[str, str]) -> None:
    if not dest.exists() or not any(dest.iterdir()):
        return
    journal = _read_listing(dest / WORK / JOURNAL)
    folders = recipe.folders()
    other = [path for path in (*listing, *journal) if '/' in path]
    other = [path for path in other if path.partition('/')[0] not in folders]
    if not listing and not (dest / WORK).is_dir():
        other = sorted(path.name for path in dest.iterdir())
    if other:
        raise UserError(
            f'{dest} holds other things ({listed(other, 3)}): give a new or empty folder; --check '
            f'verifies {recipe.title} that is there'
        )


def _remove_leftovers(work: Path) -> None:
    for part in work.glob('*.part'):
        part.unlink()


def _difference(listing: Iterable[str], there: set[str], dest: Path) -> tuple[list[str], list[str]]:
    """Return the files of a list that are not there, and those in the folders that it lacks."""
    listing = {path for path in listing if '/' in path or not (dest / path).is_file()}
    return sorted(listing - there), sorted(there - listing)


def _is_whole(listing: dict[str, str], recipe: Recipe, dest: Path) -> bool:
    return not any(_difference(listing, set(_files(recipe, dest)), dest))


def _compare_files(listing: dict[str, str], there: set[str], dest: Path) -> None:
    """Raise an error unless the files of the list, and no others, are there."""
    missing, extra = _difference(listing, there, dest)
    if missing:
        raise UserError(
            f'{dest} lacks {len(missing)} of {len(listing)} files: {listed(missing)}; run '
            'prepare-data again, it restores them'
        )
    if extra:
        raise UserError(
            f'{dest} holds {len(extra)} files that are not from the archives: {listed(extra)}; '
            'remove them'
        )


def _refuse_broken(broken: dict[str, str], dest: Path, remedy: str) -> None:
    if broken:
        named = listed(f'{path} ({reason})' for path, reason in sorted(broken.items()))
        raise UserError(f'{dest}: {len(broken)} files are broken, {named}: {remedy}')


def _left_out(parts: list[Part], inside: list[str]) -> Iterator[str]:
    for part in parts:
        if part.left_out:
            count = len(part.left_out)
            yield f'{part.path}: {count} files are left out: {listed(part.left_out, 3)}'
    if inside:
        yield f'{len(inside)} files in inner archives are left out: {listed(inside, 3)}'


def _check_content(recipe: Recipe, dest: Path, subset: bool) -> list[str]:
    """Compare the counts, and run the checks that training runs; return noteworthy lines."""
    lines, there = [], _files(recipe, dest)
    for folder, count in recipe.counts.items():
        found = sum(path.startswith(f'{folder}/') for path in there)
        if not found:
            raise UserError(f'{dest / folder} does not exist or holds no files')
        if count in (None, found):
            continue
        line = f'{dest / folder} holds {found:,} files, {recipe.title} has {count:,}'
        if not subset:
            raise UserError(f'{line}; --subset accepts a part of the data set')
        lines.append(line)
    return lines + recipe.check(dest, subset)


# ----------------------------------------------------------- lists of checksums


def _read_listing(path: Path) -> dict[str, str]:
    """Read checksums by path, in the format of ``sha256sum``; lines that are cut are left out."""
    try:
        with open(path, encoding='utf-8', newline='\n') as file:
            return {
                line[66:-1]: line[:64]
                for line in file
                if re.match('[0-9a-f]{64}  .', line) and line.endswith('\n')
            }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error}): remove it') from error


def _write_listing(path: Path, digests: dict[str, str]) -> None:
    with replacing(path) as part, open(part, 'w', encoding='utf-8', newline='\n') as file:
        file.writelines(f'{digests[name]}  {name}\n' for name in sorted(digests))


def _end_line(journal) -> None:
    """Begin a new line where a killed call wrote a part of one."""
    if journal.tell() and not Path(journal.name).read_bytes().endswith(b'\n'):
        journal.write('\n')
        journal.flush()


# ------------------------------------------------------------------ archives


def _find_archives(recipe: Recipe, source: str, work: Path) -> dict[str, Path]:
    """Return the archives' paths by name; download those of an address."""
    if source.startswith('file://'):
        source = urllib.request.url2pathname(source.removeprefix('file://'))
    if '://' in source:
        if not source.startswith(('http://', 'https://')):
            raise UserError(f'{source} is no address that is read: give a folder, http or https')
        if not recipe.is_free:
            raise UserError(
                f'{recipe.title} is not downloaded, as its licence must be accepted on '
                f'{recipe.site}: download {listed(a.name for a in recipe.archives)} there and give '
                'their folder'
            )
        return {one.name: _download(source, one, work) for one in recipe.archives}
    if os.path.isfile(source) and len(recipe.archives) == 1:
        return {recipe.archives[0].name: Path(source)}
    if not os.path.isdir(source):
        raise UserError(
            f'{source} is no folder: give the one with {listed(a.name for a in recipe.archives)}'
        )
    found, missing = {}, []
    for one in recipe.archives:
        places = (Path(source, one.name), Path(source, one.address, one.name))
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            missing.append(one.name)
        found[one.name] = path
    if missing:
        raise UserError(f'{source} lacks {listed(missing)}: get it from {recipe.site}')
    return found


def _download(site: str, archive: Archive, work: Path) -> Path:
    """Download an archive, or the rest of it."""
    url = f'{site.rstrip("/")}/{archive.address}{archive.name}'
    path = work / archive.name
    if path.exists():
        return path
    part = work / f'{archive.name}.download'
    start = part.stat().st_size if part.exists() else 0
    # the last byte again, as servers refuse to send nothing
    start = max(start - 1, 0)
    request = urllib.request.Request(url, headers={'Range': f'bytes={start}-'} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            start = start if reply.status == 206 else 0
            length = int(reply.headers.get('Content-Length') or 0)
            _check_space(work, 2 * length, archive.name)  # for the archive and what is in it
            with open(part, 'r+b' if start else 'wb') as file, _progress() as progress:
                file.seek(start)
                task = progress.add_task(archive.name, total=start + length, completed=start)
                while block := reply.read(BLOCK // 4):
                    file.write(block)
                    progress.advance(task, len(block))
                size = file.tell()
    except urllib.error.HTTPError as error:
        raise UserError(f'{url} cannot be downloaded: {error.code} {error.reason}') from error
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, 'reason', None) or error
        raise UserError(
            f'{url} cannot be downloaded ({reason}): a second call continues'
        ) from error
    if length and size != start + length:
        raise UserError(
            f'{url} ended after {size:,} of {start + length:,} bytes: a second call continues'
        )
    os.replace(part, path)
    return path


def _check_space(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f'{what} needs {needed / 1e9:.1f} GB in {folder.parent}, whose disk has '
            f'{free / 1e9:.1f} GB free: free some space, or give another folder'
        )


# ----------------------------------------------------------------- unpacking


def _unpack_parts(
    recipe: Recipe,
    parts: list[Part],
    dest: Path,
    known: dict[str, str],
    journal,
    subset: bool,
    workers: int | None,
) -> Unpacked:
    """Unpack all archives and record what is in place.

    Raises:
        UserError: The disk is too small, an archive is damaged, or it is not the published one.
    """
    by_folder = defaultdict(dict)
    for path, digest in known.items():
        by_folder[path.rpartition('/')[0]][path] = digest
    entries = [entry for part in parts for entry in part.entries]
    there = sum(_size(dest / path) for path in known)
    needed = sum(entry.size for entry in entries) + CLUSTER * len(entries) - there
    _check_space(dest / WORK, needed, recipe.title)
    found, recorded = Unpacked(), _read_listing(dest / WORK / JOURNAL)

    def chunks() -> Iterator[tuple]:
        for part in parts:
            with _hashing(part, subset) as read_to:
                for chunk in _chunks(part):
                    if part.inner:
                        here = {p: d for e in chunk for p, d in by_folder[e.target].items()}
                    else:
                        here = {e.target: known[e.target] for e in chunk if e.target in known}
                    read_to(chunk[-1])
                    work = str(dest / WORK)
                    options = (part.inner, recipe.max_label)
                    yield chunk, (unpack, part.path, chunk, str(dest), work, here, *options)

    with _pool(workers) as submit, _progress() as progress:
        task = progress.add_task(recipe.title, total=sum(entry.size for entry in entries))
        try:
            for chunk, done in submit(chunks()):
                new = {p: d for p, d in done.digests.items() if recorded.get(p) != d}
                journal.writelines(f'{digest}  {path}\n' for path, digest in new.items())
                journal.flush()
                found.digests.update(done.digests)
                found.broken.update(done.broken)
                found.left_out += done.left_out
                progress.advance(task, sum(entry.size for entry in chunk))
        except _NotPublished:
            journal.truncate(0)  # nothing of it is kept by a second call
            raise
    return found


class _NotPublished(UserError):
    """An archive has another MD5 than the published one."""


@contextmanager
def _hashing(part: Part, subset: bool) -> Iterator[Callable[[Entry], None]]:
    """Compute an archive's MD5 just ahead of the processes, which then read it from memory."""
    if part.md5 is None or subset:
        yield lambda entry: None
        return
    digest = hashlib.md5()
    with open(part.path, 'rb') as file:

        def read_to(entry: Entry | None) -> None:
            while entry is None or file.tell() < entry.offset + entry.size:
                block = file.read(BLOCK)
                if not block:
                    return
                digest.update(block)

        yield read_to
        read_to(None)
    try:
        check_md5(part.path, digest.hexdigest(), part.md5)
    except UserError as error:
        raise _NotPublished(f'{error}') from error


def _chunks(part: Part) -> Iterator[list[Entry]]:
    chunk, size = [], 0
    for entry in part.entries:
        chunk.append(entry)
        size += entry.size
        if len(chunk) == CHUNK_FILES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


@contextmanager
def _pool(workers: int | None) -> Iterator[Callable]:
    """Yield a function that runs calls in processes, a few ahead, and yields what they return."""
    count = workers or min(len(os.sched_getaffinity(0)), 16)
    if count < 1:
        raise UserError(f'the number of workers must be 1 or more, not {count}')
    # forked, so that they need not import everything again, before any thread is started
    pool = ProcessPoolExecutor(
        count, get_context('fork'), initializer=_begin_worker, initargs=(os.getpid(),)
    )
    pool.submit(int).result()  # starts all of them
    running: dict[Future, object] = {}

    def submit(calls: Iterable[tuple]) -> Iterator[tuple]:
        for what, call in calls:
            running[pool.submit(*call)] = what
            while len(running) >= 2 * count:
                yield from collect()
        while running:
            yield from collect()

    def collect() -> Iterator[tuple]:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future.result()

    try:
        yield submit
    except BrokenProcessPool as error:
        raise UserError(
            'a process was killed, perhaps as memory was short: give fewer --workers; a second '
            'call continues'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker(parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends them


def _progress() -> Progress:
    """Return a progress bar on stderr; it prints nothing where that is no terminal."""
    console = Console(file=sys.stderr)
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
