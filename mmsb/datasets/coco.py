"""A check of COCO annotation files, before a toolbox reads them.

The toolboxes drop what they cannot use without a word, or stop with a traceback that names no file.
Here every object or image that would be lost is counted and named, what follows from other values
is filled in, and a file that does not fit the classes or the images is refused.
"""

import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from mmsb.utils.errors import UserError
from mmsb.utils.files import missing_files
from mmsb.utils.names import listed, nearest

MAX_LOST = 0.1  # share of objects or images that may be unusable before the run stops
NUM_OPENED = 64  # images whose size is compared with the file's
ROTATED = (5, 6, 7, 8)  # values of EXIF's orientation that swap width and height
EXIF_ORIENTATION = 274


@dataclass
class CocoCheck:
    """What the check of an annotation file found.

    Attributes:
        lines: What was filled in or is left out, one line each.
        data: The whole content, mended, to be read in place of the file; None if nothing had to be
            mended.
    """

    lines: list[str] = field(default_factory=list)
    data: dict | None = None


def check_coco(
    path: str,
    classes: Sequence[str] | None = None,
    image_dir: str | None = None,
    root: str | None = None,
    training: bool = True,
    keeps_empty: bool = False,
) -> CocoCheck:
    """Check an annotation file of objects.

    Args:
        path: The file.
        classes: Names of the classes, in the order of their labels. Defaults to None: not compared
            with the file's categories.
        image_dir: Folder that ``file_name`` is relative to. Defaults to None: images are not
            looked for.
        root: Folder that all images must be in. Defaults to None: ``image_dir``.
        training: Whether objects are learnt, not evaluated. Defaults to True.
        keeps_empty: Whether training keeps images without objects. Defaults to False.

    Returns:
        What was found.

    Raises:
        UserError: The file is missing, is no JSON, is not in COCO's layout, or does not fit the
            classes or the images; or more than a tenth of its objects or images cannot be used.
    """
    data, plain = read_coco(path)
    check = CocoCheck()
    images = _rows(data, 'images', path)
    if not images:
        raise UserError(f'{path} must be an annotation file with at least one image; it lists none')
    objects = _rows(data, 'annotations', path) if training or 'annotations' in data else []
    categories = _rows(data, 'categories', path)
    mended = not plain
    mended |= _check_images(images, path, image_dir, root, check.lines)
    chosen = _check_classes(categories, classes, path)
    kept, changed = _check_objects(objects, images, categories, chosen, path, training, check.lines)
    mended |= changed
    used = images
    if training and not keeps_empty:
        annotated = {row['image_id'] for row in kept if row['category_id'] in chosen}
        used = [row for row in images if row['id'] in annotated]
        if not used:
            raise UserError(
                f'{path} must be an annotation file with at least one image that has an object of '
                f'the classes; it has {len(images)} images and {len(objects)} objects, none of '
                'them usable'
            )
        if len(used) < len(images):
            check.lines.append(
                f'{path}: {len(images) - len(used)} of {len(images)} images have no object of the '
                'classes: left out of training'
            )
    if image_dir is not None and '://' not in image_dir:
        _check_image_files(used, path, image_dir, check.lines)
    if mended:
        check.data = dict(data, images=images, categories=categories)
        if 'annotations' in data:
            check.data['annotations'] = kept
    return check


def read_coco(path: str) -> tuple[dict, bool]:
    """Read an annotation file, in any Unicode encoding.

    Returns:
        Its content, and whether it is plain UTF-8, which the toolboxes need.

    Raises:
        UserError: The file is missing or holds no JSON object.
    """
    try:
        with open(path, 'rb') as file:
            raw = file.read()
    except OSError as error:
        raise UserError(f'annotation file {path} cannot be read: {error.strerror}') from error
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        if raw.startswith(b'version https://git-lfs'):
            reason = 'it is a Git LFS pointer: run git lfs pull'
        else:
            reason = f'{error}'.splitlines()[0] if raw.strip() else 'it is empty'
        raise UserError(
            f'annotation file {path} is not JSON ({reason}): it must have at least one image with '
            "an object, in COCO's layout"
        ) from error
    if not isinstance(data, dict):
        raise UserError(
            f'annotation file {path} holds a {type(data).__name__}: it must be an object with '
            "images, at least one image with an object, and categories, in COCO's layout"
        )
    return data, json.detect_encoding(raw) == 'utf-8'


def _rows(data: dict, name: str, path: str) -> list[dict]:
    rows = data.get(name)
    if not isinstance(rows, list):
        raise UserError(
            f"{path} has no list of {name}: it must be an annotation file in COCO's layout, with "
            'at least one image that has an object'
        )
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f'{path}: entry {i} of its {name} is {_short(row)}, not an object')
    return rows


# ------------------------------------------------------------------ images


def _check_images(rows, path, image_dir, root, lines) -> bool:
    """Check the images' entries, in place; return whether any was changed."""
    changed = renamed = 0
    seen = set()
    for i, row in enumerate(rows):
        number = row.get('id')
        if not _is_id(number):
            raise UserError(f'{path}: entry {i} of its images has the id {_short(number)}')
        if number in seen:
            raise UserError(f'{path}: two images have the id {number!r}: give each its own')
        seen.add(number)
        name = row.get('file_name')
        if not isinstance(name, str) or not name.strip() or '\0' in name:
            raise UserError(f'{path}: image {number!r} has the file_name {_short(name)}')
        if '\\' in name and not os.path.exists(os.path.join(image_dir or '', name)):
            row['file_name'] = name = name.replace('\\', '/')
            renamed += 1
        _check_inside(name, path, image_dir, root)
    if renamed:
        lines.append(f'{path}: {renamed} file names with backslashes (Windows) are read with /')
    unsized = [row for row in rows if not all(_is_size(row.get(k)) for k in ('width', 'height'))]
    for row in unsized:
        size = size_of(os.path.join(image_dir, row['file_name'])) if image_dir else None
        if size is None:
            raise UserError(
                f'{path}: image {row["file_name"]} has width {_short(row.get("width"))} and height '
                f'{_short(row.get("height"))}, and its file does not tell: give both in pixels'
            )
        row['width'], row['height'] = size
        changed += 1
    if changed:
        lines.append(f'{path}: {changed} images had no width or height: taken from the image files')
    return bool(renamed or changed)


def _check_inside(name, path, image_dir, root) -> None:
    """Refuse a file name that leads out of the data."""
    if re.match('[A-Za-z]:[/\\\\]', name):
        raise UserError(
            f'{path}: file_name {name} is an absolute path of another computer: make it relative '
            'to the folder of the images'
        )
    if image_dir is None or not (os.path.isabs(name) or '..' in name):
        return
    full = os.path.abspath(os.path.join(image_dir, name))
    home = os.path.abspath(root or image_dir)
    if os.path.commonpath([full, home]) != home:
        raise UserError(
            f'{path}: file_name {name} is outside of the data, {home}: put the image there and '
            'make its name relative'
        )


def _check_image_files(rows, path, image_dir, lines) -> None:
    """Look whether all images exist, and compare the sizes of some with their entries."""
    missing = missing_files(os.path.join(image_dir, row['file_name']) for row in rows)
    if missing:
        raise UserError(
            f'{missing[0]} does not exist, but {path} lists it'
            + (f' ({len(missing)} of {len(rows)} images are missing)' if len(missing) > 1 else '')
            + ': restore it or remove its entry'
        )
    opened = rows[:: math.ceil(len(rows) / NUM_OPENED)] if rows else []
    wrong = []
    for row in opened:
        size = size_of(os.path.join(image_dir, row['file_name']))
        if size is not None and size != (row['width'], row['height']):
            wrong.append((row, size))
    if wrong:
        row, (width, height) = wrong[0]
        line = (
            f'{path}: {len(wrong)} of {len(opened)} images that were opened have another size than '
            f'their entry, e.g. {row["file_name"]} is {width} x {height}, its entry says '
            f'{row["width"]} x {row["height"]}'
        )
        if len(wrong) > MAX_LOST * len(opened):
            swapped = (height, width) == (row['width'], row['height'])
            raise UserError(
                f'{line}: {"width and height are swapped" if swapped else "mend the entries"}; '
                'boxes beyond the size of the entry are lost'
            )
        lines.append(line)


def size_of(file: str) -> tuple[int, int] | None:
    """Return width and height of an image as it is loaded, or None if it cannot be read."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(EXIF_ORIENTATION) in ROTATED
            return image.size[::-1] if turned else image.size
    except Exception:  # loading names a damaged image; here it is only not compared
        return None


# ----------------------------------------------------------------- classes


def check_names(classes, where: str) -> None:
    """Raise a UserError for classes that are one string, or not names."""
    if isinstance(classes, str):
        if os.path.isfile(classes):
            return  # a file with a name per line, which mmengine reads
        raise UserError(
            f'{where}.classes is the string {classes!r}, whose letters would be the classes: write '
            f'a tuple, classes=({classes!r},)'
        )
    if not isinstance(classes, list | tuple) or not all(isinstance(c, str) for c in classes):
        raise UserError(f'{where}.classes is {_short(classes)}: give a tuple of names')
    doubled = [name for name, count in Counter(classes).items() if count > 1]
    if doubled:
        raise UserError(f'{where}.classes names {listed(doubled)} twice')


def _check_classes(categories, classes, path) -> set:
    """Compare the classes with the categories; return the ids of the categories that count."""
    for i, row in enumerate(categories):
        if not _is_id(row.get('id')) or not isinstance(row.get('name'), str):
            raise UserError(
                f'{path}: entry {i} of its categories has the id {_short(row.get("id"))} and the '
                f'name {_short(row.get("name"))}'
            )
    for key in ('id', 'name'):
        value, count = (
            Counter(row[key] for row in categories).most_common(1)[0] if categories else (0, 0)
        )
        if count > 1:
            raise UserError(
                f'{path}: {count} categories have the {key} {value!r}: give each its own'
            )
    names = [row['name'] for row in categories]
    if classes is None:
        return {row['id'] for row in categories}
    missing = [name for name in classes if name not in names]
    if missing:
        close = [
            f'{name!r} is perhaps {near!r}' for name in missing if (near := nearest(name, names))
        ]
        raise UserError(
            f'{path} has no category {listed(map(repr, missing))}, which the config names as '
            + ('class' if len(missing) == 1 else 'classes')
            + (f' ({listed(close)})' if close else '')
            + f'; its categories: {listed(names) or "none"}; the classes: {listed(classes)}; set '
            'metainfo.classes to names of the file'
        )
    order = [name for name in names if name in set(classes)]
    if order != list(classes):
        raise UserError(
            f'{path} lists its categories in another order than the classes of the config, and '
            f'labels follow the file, so that names would be exchanged: {listed(order)} in the '
            f'file, {listed(classes)} in the config; give metainfo.classes in the order of the '
            'file, the same in all files'
        )
    return {row['id'] for row in categories if row['name'] in set(classes)}


# ----------------------------------------------------------------- objects


def _check_objects(rows, images, categories, chosen, path, training, lines):
    """Check the objects' entries, in place.

    Returns:
        The objects that can be read, and whether any was changed or left out.
    """
    sizes = {row['id']: (row['width'], row['height']) for row in images}
    known = {row['id'] for row in categories}
    kept, lost, filled = [], defaultdict(list), Counter()
    unusable, beyond, other = defaultdict(list), [], Counter()
    for row in rows:
        box = row.get('bbox')
        if not _is_id(row.get('image_id')) or row['image_id'] not in sizes:
            lost['of an image that the file does not list'].append(row)
        elif not _is_id(row.get('category_id')) or row['category_id'] not in known:
            lost['of a category that the file does not list'].append(row)
        elif not _is_box(box):
            lost['with a box that is not four numbers'].append(row)
        else:
            kept.append(row)
            width, height = sizes[row['image_id']]
            x, y, w, h = box
            if w < 0 or h < 0:
                unusable['with a negative width or height'].append(row)
            elif w < 1 or h < 1:
                unusable['smaller than a pixel'].append(row)
            elif x >= width or y >= height or x + w <= 0 or y + h <= 0:
                unusable['outside of the image'].append(row)
            elif x < -2 or y < -2 or x + w > width + 2 or y + h > height + 2:
                beyond.append(row)
            if not _is_number(row.get('area')) or row['area'] <= 0:
                area = _area(row)
                if area > 0:
                    row['area'] = area
                    filled['area'] += 1
                elif not _is_number(row.get('area')):
                    row['area'] = 0.0  # of a box without an area, counted above
                    filled['area'] += 1
            if row.get('iscrowd') not in (0, 1):
                row['iscrowd'] = int(row.get('iscrowd') in ('1', 'true'))
                filled['iscrowd'] += 1
            if row['category_id'] not in chosen:
                other[row['category_id']] += 1
    for key, count in filled.items():
        how = 'taken from the mask or box' if key == 'area' else 'set to 0'
        lines.append(f'{path}: {count} of {len(rows)} objects had no {key}: {how}')
    numbers = [row.get('id') for row in kept]
    renumbered = not all(type(n) is int and n > 0 for n in numbers) or len(set(numbers)) < len(kept)
    _say_lost(rows, {**lost, **unusable}, path, training, lines)
    if renumbered:
        for i, row in enumerate(kept, 1):
            row['id'] = i
        lines.append(
            f'{path}: ids of its annotations are missing, doubled or not positive: numbered anew'
        )
    if beyond:
        line = (
            f'{path}: {len(beyond)} of {len(rows)} boxes reach beyond their image, e.g. '
            f'{_short(beyond[0]["bbox"])} of image {beyond[0]["image_id"]!r}'
        )
        if len(beyond) > len(rows) / 2:
            raise UserError(
                f'{line}: boxes are x, y, width, height in pixels, not two corners; or width and '
                'height of the images are swapped'
            )
        lines.append(line)
    if other:
        names = {row['id']: row['name'] for row in categories}
        counts = [f'{names[number]} ({count})' for number, count in other.most_common()]
        lines.append(
            f'{path}: {sum(other.values())} of {len(rows)} objects are of other classes than the '
            f"config's: left out: {listed(counts)}"
        )
    # those of no use stay in the file: training drops them by itself, and they are part of the
    # figures of an evaluation
    return kept, bool(filled or renumbered or lost)


def _say_lost(rows, lost, path, training, lines) -> None:
    """Say which objects cannot be used; raise an error if they are too many."""
    count = sum(map(len, lost.values()))
    if not count:
        return
    kinds = []
    for kind, found in lost.items():
        example = f'annotation {_short(found[0].get("id"))}, bbox {_short(found[0].get("bbox"))}'
        kinds.append(f'{len(found)} {kind} (e.g. {example})')
    line = f'{path}: {count} of {len(rows)} boxes '
    if count > MAX_LOST * len(rows):
        raise UserError(
            f'{line}cannot be used, more than {MAX_LOST:.0%}: {listed(kinds)}; mend the file: '
            'boxes are x, y, width, height in pixels'
        )
    what = 'left out' if training else 'cannot be found by any detector'
    lines.append(f'{line}{what}: {listed(kinds)}')


def _area(row: dict) -> float:
    """Return the area of an object's polygons or uncompressed mask, else of its box."""
    mask = row.get('segmentation')
    try:
        if isinstance(mask, dict) and isinstance(mask['counts'], list):
            return float(sum(mask['counts'][1::2]))
        if isinstance(mask, list) and mask:
            area = sum(_polygon_area(polygon) for polygon in mask)
            if math.isfinite(area) and area > 0:
                return area
    except (LookupError, TypeError, ValueError, OverflowError):
        pass
    return max(float(row['bbox'][2]), 0.0) * max(float(row['bbox'][3]), 0.0)


def _polygon_area(numbers: Sequence[float]) -> float:
    x, y = numbers[::2], numbers[1::2]
    doubled = sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))
    return abs(doubled) / 2


def _is_number(value) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
    )  # also false for NaN; larger ones overflow on the way to a tensor


def _is_size(value) -> bool:
    return _is_number(value) and value >= 1


def _is_id(value) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_box(value) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
