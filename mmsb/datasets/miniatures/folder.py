"""Shared parts of the miniatures: atomic writing of the folder, arguments and sheets."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from mmsb.utils.errors import UserError

MAX_IMAGES = 500_000  # per split
MAX_OF_A_CLASS = 10_000  # per class and split
SIDES = (64, 4096)  # smallest and largest side allowed, pixels
RECORD = 'miniature.json'
CELL = 320  # side of a cell of the sheet, pixels

Recipe = dict[str, int | list[int]]


def check_numbers(*arguments: tuple[str, Sequence[int], int, int]) -> None:
    """Refuse numbers that are out of range or out of order.

    Args:
        *arguments: Name, given numbers, lowest and highest allowed number of each argument.

    Raises:
        UserError: One of them is out of its range, or a pair is not smallest first.
    """
    for name, numbers, low, high in arguments:
        given = ' '.join(map(str, numbers))
        if not all(low <= n <= high for n in numbers):
            raise UserError(f'{name} must be within {low} and {high}, got {given}')
        if list(numbers) != sorted(numbers):
            raise UserError(f'{name} must be given smallest first, got {given}')


def make_miniature(
    out_dir: str | os.PathLike,
    name: str,
    version: int,
    write: Callable[[Path, Callable, Recipe], None],
    counts: tuple[int, int],
    settings: Recipe | None = None,
    checks: Sequence[tuple] = (),
    most: int = MAX_IMAGES,
    counted: str = 'images',
    splits: tuple[str, str] = ('train', 'val'),
    seed: int = 0,
    num_workers: int = 1,
    force: bool = False,
    log: Callable[[str], None] | None = None,
    inspect: Callable | None = None,
) -> Path:
    """Make a miniature, unless the folder already holds it.

    Each image depends only on `seed`, its split, its number and the settings. More images or
    another number of workers do not change the first ones. The bytes are the same for the same
    versions of NumPy and OpenCV.

    Everything is written to a hidden folder beside `out_dir`, which is renamed when complete. An
    interrupted run leaves `out_dir` unchanged (a killed one may also leave the hidden folder).

    Args:
        out_dir: The folder to make. If it already holds the same miniature, nothing is done.
        name: Name of the miniature in messages, e.g. 'miniature COCO'.
        version: Version of the rendering code.
        write: Function that fills a folder. Its arguments are the folder, a ``map`` that runs in
            threads, and the recipe: all values that determine the images.
        counts: Images in the two splits.
        settings: Further values that determine the images. Defaults to none.
        checks: Further arguments of :func:`check_numbers`. Defaults to none.
        most: Largest allowed count. Defaults to `MAX_IMAGES`.
        counted: Name of the counted items in messages. Defaults to 'images'.
        splits: Names of the two splits in errors. Defaults to 'train' and 'val'.
        seed: Random seed, 0 or more. Defaults to 0.
        num_workers: Number of rendering threads. Defaults to 1.
        force: Replace another miniature in `out_dir`; other content is never replaced.
        log: Function called with one line that says what was done. Defaults to None.
        inspect: Function that returns the recipe of the miniature in a folder (None if it holds
            anything else) and whether it is complete. By default a file `RECORD`, which lists all
            other files, is written and read.

    Returns:
        The absolute path of `out_dir`.

    Raises:
        UserError: An argument is out of its range, `out_dir` holds something else, or it cannot
            be written.
    """
    check_numbers(
        *((f'{split} images', (n,), 1, most) for split, n in zip(splits, counts, strict=True)),
        *checks,
        ('seed', (seed,), 0, 2**63),
        ('workers', (num_workers,), 1, 256),
    )
    num_train, num_val = counts
    recipe = dict(version=version, num_train=num_train, num_val=num_val, **(settings or {}))
    recipe['seed'] = seed
    out = Path(out_dir).resolve()
    log = log or (lambda _: None)
    hidden = f'.{out.name}.{uuid.uuid4().hex[:8]}'
    new, old = out.with_name(f'{hidden}.partial'), out.with_name(f'{hidden}.old')
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
        if taken:
            found, complete = inspect(out) if inspect else inspect_record(out, name)
            if found is None:
                raise UserError(f'{out} holds something other than a {name}; not touched')
            if found == recipe and complete and not force:
                log(f'already there: {out}')
                return out
            if not force:
                what = f'another {name}' if complete else f'an incomplete {name}'
                raise UserError(f'{out} holds {what}; redraw it with --force (force=True)')
        new.mkdir(parents=True)
        with ThreadPoolExecutor(num_workers) as pool:
            try:
                write(new, pool.map, recipe)
                if not inspect:
                    record = {'name': name, 'recipe': recipe, 'files': _files(new)}
                    (new / RECORD).write_text(json.dumps(record, indent=0))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if taken:
            out.rename(old)
        elif out.exists():
            out.rmdir()  # empty
        try:
            new.rename(out)
        except OSError:
            if taken:
                old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f'cannot write {out}: {error.strerror or error}') from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    log(f'drew {num_train} + {num_val} {counted}: {out}')
    return out


def random_generator(*entropy: int) -> np.random.Generator:
    """Return the generator for all randomness of one image, from its seed, split and number."""
    return np.random.default_rng(np.random.SeedSequence(entropy))


def encode_jpeg(rng: np.random.Generator, picture: np.ndarray, low: int = 82) -> bytes:
    """Encode an image, RGB, as a JPEG with a random quality from `low` to 95."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(low, 96))]
    return cv2.imencode('.jpg', picture[..., ::-1], quality)[1].tobytes()


def _files(root: Path) -> dict[str, str]:
    """Return the MD5 of every file except the record."""
    files = sorted(p for p in root.rglob('*') if not p.is_dir() and p != root / RECORD)
    return {p.relative_to(root).as_posix(): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


def inspect_record(root: Path, name: str) -> tuple[Recipe | None, bool]:
    """Read the record of a folder and compare its files with it.

    Returns:
        The recipe, or None if the folder holds anything except the miniature of this name, and
        whether every file is present and unchanged.
    """
    try:
        record = json.loads((root / RECORD).read_text())
        recipe, listed = record['recipe'], dict(record['files'])
        there = _files(root)
        if record['name'] != name or not isinstance(recipe, dict) or there.keys() - listed.keys():
            return None, False
        return recipe, there == listed
    except (OSError, ValueError, KeyError, TypeError):
        return None, False


def is_miniature(root: str | os.PathLike, name: str, tool: str) -> bool:
    """Tell whether a folder holds the miniature of this name.

    Args:
        root: The folder.
        name: Name of the miniature.
        tool: Script in tools/dataset_tools that makes it, for the error.

    Raises:
        UserError: It does, but a file is missing or changed.
    """
    recipe, complete = inspect_record(Path(root), name)
    if recipe and not complete:
        raise UserError(
            f'{root} holds an incomplete {name}: redraw it, '
            f'python tools/dataset_tools/{tool} {root} --force'
        )
    return complete


def fit(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """Resize an image, BGR, to a cell of the sheet; return it and the scale factor."""
    zoom = (CELL - 6) / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), zoom


def write_sheet(path: str | os.PathLike, pictures: Sequence[np.ndarray], columns: int = 6) -> None:
    """Write a sheet of images, BGR, each no larger than a cell, in rows of `columns`.

    Raises:
        UserError: `path` cannot be written.
    """
    columns = min(columns, len(pictures))
    sheet = np.full((-(-len(pictures) // columns) * CELL, columns * CELL, 3), 40, np.uint8)
    for n, picture in enumerate(pictures):
        y, x = n // columns * CELL + 3, n % columns * CELL + 3
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    try:
        Path(path).write_bytes(cv2.imencode(Path(path).suffix, sheet)[1].tobytes())
    except (cv2.error, OSError) as error:
        reason = getattr(error, 'strerror', None) or 'give a name that ends in .png or .jpg'
        raise UserError(f'cannot write {path}: {reason}') from error


def tool_parser(
    description: str, out: str, train: int, val: int, counted: str, splits: tuple[str, str]
) -> argparse.ArgumentParser:
    """Make a parser with the flags that all miniature tools share.

    Args:
        description: Description of the tool, for ``--help``.
        out: Default output folder.
        train: Default of ``--train``.
        val: Default of ``--val``.
        counted: Name of the items that these two count, e.g. 'images'.
        splits: Names of the two splits.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add('out', nargs='?', default=out, help='folder to make')
    add('--train', type=int, default=train, metavar='N', help=f'{counted} in {splits[0]}')
    add('--val', type=int, default=val, metavar='N', help=f'{counted} in {splits[1]}')
    add('--seed', type=int, default=0, help='another seed, other pictures')
    add('--workers', type=int, default=2, metavar='N', help='threads; the result is the same')
    add('--force', action='store_true', help='redraw a miniature that OUT already holds')
    add('--show', metavar='SHEET', help='also write a PNG of the first images and their labels')
    return parser


def maker_arguments(args: argparse.Namespace) -> dict:
    """Convert the flags of :func:`tool_parser` to arguments of a ``make_mini_*`` function."""
    return dict(
        num_train=args.train,
        num_val=args.val,
        seed=args.seed,
        num_workers=args.workers,
        force=args.force,
        log=print,
    )
