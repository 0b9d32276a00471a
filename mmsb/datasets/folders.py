"""A check of image folders, one per class, before a toolbox numbers them."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mmsb.utils.errors import UserError
from mmsb.utils.names import listed, nearest

# left by notebooks, editors, archivers, desktops and file servers; hidden ones are left out too
STRAYS = {
    *('__pycache__', '__macosx', '@eadir', '#recycle', '#snapshot', '$recycle.bin', 'lost+found'),
    *('system volume information', 'thumbs', 'desktop.ini'),
}


@dataclass
class ClassFolders:
    """The folders of classes in one folder of images.

    Attributes:
        root: The folder.
        classes: Names of the folders that are classes, in the order of their labels.
        strays: Names of the others.
        extensions: Endings of file names, in lower case, that are read.
    """

    root: str
    classes: list[str]
    strays: list[str]
    extensions: tuple[str, ...]
    lines: list[str] = field(default_factory=list)

    def files(self) -> list[tuple[str, int]]:
        """List the images, relative to ``root``, with their labels; note what is not read.

        Raises:
            UserError: A class has files, but none that is read.
        """
        found, others, empty = [], Counter(), []
        for label, name in enumerate(self.classes):
            read, skipped = [], Counter()
            for folder, _, files in os.walk(os.path.join(self.root, name)):
                for file in files:
                    if file.startswith('.'):
                        continue
                    if file.lower().endswith(self.extensions):
                        read.append(os.path.relpath(os.path.join(folder, file), self.root))
                    else:
                        skipped[os.path.splitext(file)[1].lower() or file] += 1
            if skipped and not read:
                raise UserError(
                    f'{os.path.join(self.root, name)} has no image that is read: its files end in '
                    f'{listed(skipped)}, those that are read in {listed(self.extensions)}; convert '
                    'them or set extensions of the data set'
                )
            if not read:
                empty.append(name)
            others += skipped
            found += [(file, label) for file in sorted(read)]
        if others:
            self.lines.append(
                f'{self.root}: {others.total()} of {others.total() + len(found)} files are left '
                f'out, as they end in {listed(f"{end} ({n})" for end, n in others.most_common())}'
            )
        if empty:
            self.lines.append(
                f'{self.root}: {len(empty)} of {len(self.classes)} classes have no image: '
                f'{listed(empty)}'
            )
        return found


def find_class_folders(root: str, extensions: Sequence[str]) -> ClassFolders:
    """List the folders in a folder of images, and tell classes from strays.

    Raises:
        UserError: There are none.
    """
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    strays = [name for name in names if name.startswith('.') or name.lower() in STRAYS]
    classes = [name for name in names if name not in strays]
    if not classes:
        raise UserError(f'{root} must contain one folder of images per class; it has none')
    found = ClassFolders(root, classes, strays, tuple(sorted(e.lower() for e in extensions)))
    if strays:
        found.lines.append(f'{root}: no classes, left out: {listed(strays)}')
    return found


def compare_class_folders(one: ClassFolders, other: ClassFolders) -> None:
    """Raise an error unless two folders have the same classes, and so the same labels."""
    if one.classes == other.classes:
        return
    parts = []
    for a, b in ((one, other), (other, one)):
        only = [name for name in a.classes if name not in b.classes]
        if only:
            close = [nearest(name, set(b.classes) - set(a.classes)) for name in only]
            hints = [f'{n} (is it {c}?)' if c else n for n, c in zip(only, close, strict=True)]
            parts.append(f'only {a.root} has {listed(hints)}')
    first = next(
        (i for i, pair in enumerate(zip(one.classes, other.classes)) if pair[0] != pair[1]),  # noqa: B905
        min(len(one.classes), len(other.classes)),
    )
    raise UserError(
        f'{one.root} and {other.root} must have the same folders of classes, as labels follow '
        f'their order, but {"; ".join(parts)}: labels from {first} on would differ; rename them, '
        'or make empty folders'
    )
