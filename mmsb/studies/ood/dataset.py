"""The 17 data sets of the model-vs-human benchmark (the paper's Table 11)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmsb.registry import DATASETS as REGISTRY
from mmsb.studies.ood.scores import CATEGORIES, DATASETS
from mmsb.utils.errors import UserError
from mmsb.utils.files import find_images

BY_CATEGORY = ('edge', 'silhouette', 'cue-conflict')  # one folder per category, no sessions
LAYOUT = (
    'sketch/dnn/session-1/0001_ske_dnn_0_dog_00_NAME.png and so on, but '
    f'{", ".join(BY_CATEGORY)} as edge/dog/dog1.png'
)


@REGISTRY.register_module()
class OODDataset(BaseDataset):
    """The images of all model-vs-human data sets that are present.

    ``data_root`` has the layout of a model-vs-human checkout:
    ``datasets/sketch/dnn/session-1/0001_ske_dnn_0_dog_00_NAME.png``, a name that contains the
    condition (fourth part) and the category (fifth), and ``datasets/edge/dog/dog1.png`` (also for
    silhouette and cue-conflict). A warning names missing data sets.

    Args:
        **kwargs: Arguments of mmengine's ``BaseDataset``: ``data_root``, ``pipeline``, ... The
            pipeline receives ``img_path`` (str) and ``ood`` (dict: dataset, session, trial,
            condition, category). :class:`mmsb.studies.ood.metric.OODMetric` reads both, and before
            a test ``metainfo['images']``: data set -> rows of condition, file name and category.

    Raises:
        UserError: No data set is present, or one has another layout.
    """

    def load_data_list(self) -> list[dict]:
        """List the images, sorted by name in each session, as the benchmark numbers its trials."""
        root = Path(self.data_root) / 'datasets'
        names = [name for name in DATASETS if (root / name).is_dir()]
        if not names:
            raise UserError(
                f"{root} holds none of model-vs-human's {len(DATASETS)} data sets: put their "
                f'folders there ({LAYOUT}), or set the folder above datasets/: MMSB_OOD_ROOT=PATH'
            )
        if missing := [name for name in DATASETS if name not in names]:
            print_log(
                f'{len(names)} of {len(DATASETS)} data sets are in {root}; missing: '
                f'{", ".join(missing)}',
                'current',
                logging.WARNING,
            )
        items = [item for name in names for item in _items(root / name)]
        images = {}
        for item in items:
            ood = item['ood']
            row = (ood['condition'], os.path.basename(item['img_path']), ood['category'])
            images.setdefault(ood['dataset'], []).append(row)
        self._metainfo = dict(self._metainfo, images=images)
        return items


def _items(folder: Path) -> Iterator[dict]:
    read = _by_category if folder.name in BY_CATEGORY else _by_session
    for session, trial, path, condition, category in read(folder):
        ood = dict(dataset=folder.name, session=session, trial=trial)
        yield dict(img_path=str(path), ood=dict(ood, condition=condition, category=category))


def _by_category(folder: Path) -> Iterator[tuple]:
    categories = _folders(folder, '')
    if unknown := [f.name for f in categories if f.name not in CATEGORIES]:
        raise _wrong_layout(folder, f'{unknown[0]}/')
    paths = [path for category in categories for path in find_images([category])]
    for trial, path in enumerate(paths, 1):
        yield 1, trial, path, 'NaN', path.parent.name


def _by_session(folder: Path) -> Iterator[tuple]:
    for session in _folders(folder, 'dnn'):
        kind, _, number = session.name.partition('-')
        if kind != 'session' or not number.isdigit():
            raise _wrong_layout(folder, f'dnn/{session.name}/')
        for trial, path in enumerate(find_images([session]), 1):
            parts = path.name.split('_')
            if len(parts) < 6 or parts[4] not in CATEGORIES:
                raise _wrong_layout(folder, str(path.relative_to(folder)))
            yield int(number), trial, path, parts[3], parts[4]


def _folders(folder: Path, inner: str) -> list[Path]:
    within = folder / inner
    found = sorted(p for p in within.iterdir() if p.is_dir()) if within.is_dir() else []
    if not found:
        held = sorted(p.name + '/' * p.is_dir() for p in folder.iterdir())
        raise _wrong_layout(folder, ', '.join(held[:3]) or 'nothing')
    return found


def _wrong_layout(folder: Path, found: str) -> UserError:
    return UserError(
        f'{folder} is not laid out as in model-vs-human: it holds {found}; expected {LAYOUT}, with '
        f'a category among {", ".join(CATEGORIES)}'
    )
