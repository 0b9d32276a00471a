"""Images and labels of Hugging Face ``datasets``, from a local folder."""

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from mmsb.registry import DATASETS
from mmsb.utils.errors import UserError, reason_of
from mmsb.utils.names import listed


@DATASETS.register_module()
class HuggingFaceImages(BaseDataset):
    """Classification images from Parquet files, or a folder of ``save_to_disk``.

    The layout is that of ImageNet-1k on the Hugging Face Hub: files such as
    ``data/train-00000-of-00294.parquet`` with the columns ``image`` (bytes and path) and ``label``.
    Nothing is downloaded. The package ``datasets`` reads them. Of Parquet files it makes a copy
    once, in ``cache_dir``, that is as large and can be read in any order. A folder of
    ``save_to_disk`` has this form already.

    The pipeline must begin with ``mmsb.LoadImageFromFile``, which decodes the bytes.

    Args:
        data_root (str): The folder.
        split (str): 'train', 'validation', ... The names of Parquet files, or of their folder,
            begin with it.
        image_key (str): Column of the images. Defaults to 'image'.
        label_key (str): Column of the labels. Defaults to 'label'.
        cache_dir (str, optional): Where the copy of Parquet files is kept. Defaults to None: where
            ``datasets`` keeps it, the environment variable ``HF_DATASETS_CACHE``.
        metainfo (dict, optional): With ``classes``, the names of the classes in the order of their
            labels. Defaults to None: those that the files hold.
        **kwargs: Arguments of mmengine's ``BaseDataset``: ``pipeline``, ``indices``, ...

    Raises:
        UserError: ``datasets`` is not installed, files are missing or damaged, or labels and names
            of classes do not fit together.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        image_key: str = 'image',
        label_key: str = 'label',
        cache_dir: str | None = None,
        metainfo: dict | None = None,
        **kwargs,
    ):
        self.split = split
        self.image_key = image_key
        self.label_key = label_key
        self.rows = open_split(data_root, split, image_key, label_key, cache_dir)
        names = getattr(self.rows.features[label_key], 'names', None)
        metainfo = dict(metainfo or {})
        if names is not None and list(metainfo.setdefault('classes', tuple(names))) != names:
            raise UserError(
                f'{data_root} has the classes {listed(names)}, but metainfo.classes is '
                f'{listed(metainfo["classes"])}: labels follow the files, leave it out'
            )
        super().__init__(data_root=data_root, metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the labels and where each image is; images are read one at a time."""
        labels = self.rows.with_format('numpy')[self.label_key]
        count = len(self.metainfo.get('classes') or ()) or None
        data = []
        for row, label in enumerate(map(int, labels)):
            if label < 0 or (count and label >= count):
                highest = f'from 0 to {count - 1}' if count else '0 or more'
                raise UserError(
                    f"{self.data_root}, split '{self.split}', row {row}: the label is {label}, it "
                    f'must be {highest}' + (' (the split has no labels)' if label == -1 else '')
                )
            data.append(dict(row=row, gt_label=label))
        return data

    def get_data_info(self, idx: int) -> dict:
        """Return label and encoded image; ``img_path`` names it in errors."""
        info = super().get_data_info(idx)
        row = info.pop('row')
        image = self.rows[row][self.image_key]
        content, name = (image, None) if isinstance(image, bytes) else image.values()
        info['img_path'] = f'{self.data_root}:{self.split}:{row}' + (f' ({name})' if name else '')
        info['img_bytes'] = content
        if content is None:
            info['img_path'] = name  # a file beside
            del info['img_bytes']
        return info


@lru_cache(maxsize=8)  # a config may build one split several times
def open_split(root: str, split: str, image_key: str, label_key: str, cache_dir: str | None = None):
    """Open a split without reading its images.

    Args:
        root: As ``data_root`` of :class:`HuggingFaceImages`, as the others.
        split: The split.
        image_key: Column of the images.
        label_key: Column of the labels.
        cache_dir: Where the copy of Parquet files is kept. Defaults to None.

    Returns:
        datasets.Dataset: Its rows, with encoded images.

    Raises:
        UserError: As :class:`HuggingFaceImages`.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            'the package datasets, which reads data of Hugging Face, cannot be imported '
            f'({error}): pip install datasets' + (' "pyarrow<26"' if np.__version__ < '2' else '')
        ) from error
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f'{root} does not exist: give a folder with data of Hugging Face')
    saved = (folder / 'dataset_dict.json').is_file() or (folder / 'state.json').is_file()
    files = [] if saved else _parquet_files(folder, split)
    try:
        if saved:
            rows = datasets.load_from_disk(root)
            if isinstance(rows, dict):
                if split not in rows:
                    raise UserError(f"{root} has no split '{split}': it has {listed(rows)}")
                rows = rows[split]
        else:
            rows = datasets.load_dataset(
                'parquet', data_files={split: files}, split=split, cache_dir=cache_dir
            )
    except UserError:
        raise
    except Exception as error:  # of Arrow, datasets and the system
        cause = error.__cause__ or error
        raise UserError(f"{root}, split '{split}', cannot be read: {reason_of(cause)}") from error
    missing = [key for key in (image_key, label_key) if key not in rows.features]
    if missing:
        raise UserError(
            f"{root}, split '{split}', has no column {listed(missing)}: it has "
            f'{listed(rows.features)}; set image_key and label_key of the data set'
        )
    if isinstance(rows.features[image_key], datasets.Image):
        rows = rows.cast_column(image_key, datasets.Image(decode=False))
    return rows.select_columns([image_key, label_key])


def compare_class_names(one: dict, other: dict) -> None:
    """Raise an error unless two data sets name the same classes, in the order of their labels.

    Args:
        one: Arguments of :class:`HuggingFaceImages`.
        other: Likewise.

    Raises:
        UserError: They differ; or as :class:`HuggingFaceImages`.
    """
    names = []
    for cfg in (one, other):
        label = cfg.get('label_key', 'label')
        image = cfg.get('image_key', 'image')
        rows = open_split(cfg['data_root'], cfg['split'], image, label, cfg.get('cache_dir'))
        names.append(getattr(rows.features[label], 'names', None))
    if None not in names and names[0] != names[1]:
        where = [f'{cfg["data_root"]} ({cfg["split"]})' for cfg in (one, other)]
        raise UserError(
            f'{where[0]} and {where[1]} must have the same classes, in one order, as labels follow '
            f'it: {listed(names[0])} in the first, {listed(names[1])} in the second'
        )


def _parquet_files(folder: Path, split: str) -> list[str]:
    """List a split's Parquet files; all shards that their names count must be there."""
    there = sorted(folder.rglob('*.parquet'))
    files = [path for path in there if re.match(rf'{re.escape(split)}(-|\.)', path.name)]
    files = files or [path for path in there if path.parent.name == split]
    if not files:
        found = listed((path.relative_to(folder) for path in there), 3) or 'none'
        raise UserError(
            f"{folder} has no Parquet files of the split '{split}' (it has {found}), and is no "
            'folder of save_to_disk'
        )
    shards = [re.search(r'-(\d+)-of-(\d+)', path.name) for path in files]
    if all(shards):
        numbers, count = {int(shard[1]) for shard in shards}, int(shards[0][2])
        missing = sorted(set(range(count)) - numbers)
        if missing or len(files) != count:
            raise UserError(
                f"{folder} has {len(files)} Parquet files of the split '{split}', whose names "
                f'count {count}: shards {listed(missing) or "are doubled"}'
                + (' are missing' if missing else '')
            )
    return list(map(str, files))
