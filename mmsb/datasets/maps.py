"""A check of the files that a segmentation data set lists."""

import os
from collections import Counter

from mmsb.utils.errors import UserError
from mmsb.utils.files import EXTENSIONS, missing_files
from mmsb.utils.names import listed


def check_map_files(paths: list[str]) -> None:
    """Check that all segmentation maps of a data set exist.

    Args:
        paths: The maps that its images need; None stands for an image that needs none.

    Raises:
        UserError: Maps are missing.
    """
    missing = missing_files(path for path in paths if path and '://' not in path)
    if missing:
        raise UserError(
            f'segmentation map {missing[0]} does not exist: every image needs one of its name'
            + (f' ({len(missing)} of {len(paths)} are missing)' if len(missing) > 1 else '')
        )


def check_maps(dataset) -> list[str]:
    """Check that every image of a built mmseg data set has a segmentation map.

    Args:
        dataset: The data set.

    Returns:
        Lines that name images that are not read, because their names end in another suffix.

    Raises:
        UserError: Maps are missing.
    """
    check_map_files([dataset.get_data_info(i).get('seg_map_path') for i in range(len(dataset))])
    images = (dataset.data_prefix or {}).get('img_path')
    if not images or dataset.ann_file or not os.path.isdir(images):
        return []
    others = Counter()
    for _, _, files in os.walk(images):
        endings = [os.path.splitext(name)[1] for name in files if not name.startswith('.')]
        others += Counter(
            end for end in endings if end.lower() in EXTENSIONS and end != dataset.img_suffix
        )
    if not others or not dataset.img_suffix.startswith('.') or dataset.img_suffix.count('.') > 1:
        return []
    kinds = listed(f'{ending} ({count})' for ending, count in others.most_common())
    return [
        f'{images}: {others.total()} images are left out, as their names do not end in '
        f'{dataset.img_suffix}: {kinds}; set img_suffix to read them'
    ]
