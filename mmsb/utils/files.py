"""Atomic writing of files; finding images in folders, and naming the pictures made from them."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mmsb.utils.errors import UserError

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.tif', '.tiff', '.webp')


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it replaces ``path`` if the block succeeds.

    ``path`` is the old file or the whole new one at every moment, also after a power failure.

    Raises:
        UserError: The folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _sync(part)  # else the new name could reach the disk before the content
        os.replace(part, path)
        with suppress(OSError):  # some network file systems cannot sync folders
            _sync(path.parent)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error
    finally:
        with suppress(OSError):  # it is not there, or its folder is a file
            part.unlink()


def _sync(path: Path) -> None:
    """Write a file's content, or a folder's list of names, from the system's memory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_parts(folder: str | os.PathLike) -> None:
    """Remove what :func:`replacing` left of files directly in a folder when it was killed."""
    for part in Path(folder).glob('.*.part'):
        with suppress(OSError):
            part.unlink()


def missing_files(paths: Iterable[str]) -> list[str]:
    """Return those of many files that do not exist; each folder is listed once."""
    folders = defaultdict(list)
    for path in paths:
        folder, name = os.path.split(path)
        folders[folder].append(name)
    missing = []
    for folder, names in folders.items():
        there = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        missing += [os.path.join(folder, name) for name in names if name not in there]
    return missing


def find_images(paths: Sequence[str]) -> list[Path]:
    """List images in the given order; a folder stands for the images directly in it, sorted.

    Hidden files in a folder, such as the ``._NAME.jpg`` of macOS, are left out.

    Args:
        paths: Image files and folders.

    Raises:
        UserError: A path does not exist, or a folder holds no image.
    """
    images = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f'{path} does not exist: give images or folders of images')
        if path.is_dir():
            shown = [p for p in path.iterdir() if not p.name.startswith('.')]
            found = sorted(p for p in shown if p.suffix.lower() in EXTENSIONS)
            if not found:
                raise UserError(f'folder {path} holds no image ({", ".join(EXTENSIONS)})')
            images += found
        else:
            images.append(path)
    return images


def output_paths(images: Sequence[Path], out_dir: str | os.PathLike) -> dict[Path, Path]:
    """Return an output path per image: NAME.png, or NAME_2.png if that name is taken."""
    used, taken, outs = Counter(), set(), {}
    for path in dict.fromkeys(images):
        name = path.stem
        while name in taken:
            used[path.stem] += 1
            name = f'{path.stem}_{used[path.stem] + 1}'
        taken.add(name)
        outs[path] = Path(out_dir) / f'{name}.png'
    return outs
