"""Checks of a config's data: before anything is built, and of the built data sets and heads."""

import json
import os
import re
from collections.abc import Iterator

from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import nn

from mmsb.checkpoints.fitting import unwrapped
from mmsb.datasets.coco import check_coco, check_names, read_coco
from mmsb.datasets.folders import ClassFolders, compare_class_folders, find_class_folders
from mmsb.datasets.huggingface import compare_class_names
from mmsb.datasets.maps import check_maps
from mmsb.datasets.naming import NamingPipeline
from mmsb.engine.config import LOADERS, data_paths, leaf_datasets, metrics_of
from mmsb.engine.hooks import IgnoredLabelsHook
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.utils.names import listed

IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # mmpretrain's


def check_data(cfg: Config, names: tuple[str, ...]) -> list[str]:
    """Check annotation files and folders of classes; let the config read mended copies.

    Args:
        cfg: The config. Where something was filled in or left out, its data sets and metrics then
            read a mended copy in the work directory.
        names: Keys of the data loaders that will be used.

    Returns:
        Lines that say what was filled in or left out.

    Raises:
        UserError: The data cannot be read, or does not fit the classes or the other data sets.
    """
    lines, mended, folders, hugging = [], {}, [], []
    for name in LOADERS:
        if cfg.get(name) is None:
            continue
        for dataset in leaf_datasets(cfg[name].dataset):
            kind = _class_of(dataset, cfg)
            _check_metainfo(dataset, name)
            if _remote(dataset):
                continue
            if name in names and _like(kind, 'CocoDataset'):
                _check_coco(cfg, name, dataset, kind, lines, mended)
            elif _like(kind, 'CustomDataset'):
                found = _class_folders(dataset, kind)
                if found is not None:
                    folders.append((name, dataset, kind, found))
            elif name in names and _like(kind, 'HuggingFaceImages'):
                hugging.append(dataset)
    for _, _, _, found in folders[1:]:
        compare_class_folders(folders[0][3], found)
    for dataset in hugging[1:]:
        compare_class_names(hugging[0], dataset)
    for name, dataset, kind, found in folders:
        if name in names:
            files = found.files()
            lines += found.lines
            if found.strays:
                path = _copy_path(cfg, f'{name.split("_")[0]}.txt')
                mended[path] = '\n'.join(f'{file} {label}' for file, label in files)
                dataset.ann_file = path
                if not getattr(kind, 'METAINFO', {}).get('classes'):
                    dataset.setdefault('metainfo', dict(classes=tuple(found.classes)))
    for path, content in mended.items():
        with replacing(path) as part, open(part, 'w', encoding='utf-8') as file:
            file.write(content)
        lines.append(f'{path} is the mended copy that is read')
    return lines


def _like(kind: type | None, name: str) -> bool:
    """Tell whether a data set reads its files as the toolbox's class of a name does."""
    bases = [base for base in getattr(kind, '__mro__', ()) if base.__name__ == name]
    return bool(bases) and kind.load_data_list is bases[0].load_data_list


def _class_of(dataset: ConfigDict, cfg: Config) -> type | None:
    if not isinstance(dataset['type'], str):
        return dataset['type']
    with DATASETS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        return registry.get(dataset['type'])


def _remote(dataset: ConfigDict) -> bool:
    backend = dataset.get('backend_args') or {}
    return backend.get('backend', 'local') != 'local' or any(
        '://' in p for p in data_paths(dataset)
    )


def _copy_path(cfg: Config, name: str) -> str:
    return os.path.abspath(os.path.join(cfg.work_dir, 'annotations', name))


def _check_metainfo(dataset: ConfigDict, name: str) -> None:
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is not None:
        check_names(classes, f'{name}.dataset.metainfo')


# -------------------------------------------------------------------- COCO


def _check_coco(cfg, name, dataset, kind, lines, mended) -> None:
    root = dataset.get('data_root') or ''
    path = os.path.join(root, dataset.get('ann_file') or '')
    classes = (dataset.get('metainfo') or {}).get('classes') or kind.METAINFO.get('classes')
    prefix = dataset.get('data_prefix') or {}
    images = os.path.join(root, (prefix if isinstance(prefix, str) else prefix.get('img')) or '')
    training = not dataset.get('test_mode', False)
    keeps_empty = not (dataset.get('filter_cfg') or {}).get('filter_empty_gt', False)
    if isinstance(classes, str):  # a file with a name per line
        with open(classes, encoding='utf-8') as file:
            classes = file.read().split('\n')
    found = check_coco(path, classes, images, root or None, training, keeps_empty)
    lines += [line for line in found.lines if line not in lines]
    copy = None
    if found.data is not None:
        copy = _copy_path(cfg, f'{name.split("_")[0]}_{os.path.basename(path)}')
        mended[copy] = json.dumps(found.data)
    for key, metric in metrics_of(cfg, name):
        _check_metric(key, metric, path, name, copy)
    if copy is not None:
        dataset.ann_file = copy


def _check_metric(key, metric, path, name, copy) -> None:
    """Let a metric read the file that its data set reads; refuse another one."""
    other = metric.get('ann_file')
    if not other:
        return
    if os.path.realpath(other) != os.path.realpath(path):
        ids = [
            [row.get('id') for row in read_coco(file)[0].get('images', ())]
            for file in (path, other)
        ]
        if ids[0] != ids[1]:
            raise UserError(
                f'{name} reads {path}, but its metric compares with {other}, which lists other '
                f'images: set {key}.ann_file to the first'
            )
    if copy is not None:
        metric.ann_file = copy


# ----------------------------------------------------------------- folders


def _class_folders(dataset: ConfigDict, kind: type) -> ClassFolders | None:
    root = next(iter(data_paths(dataset)), dataset.get('data_root') or '')
    split = dataset.get('split') or ''
    listing = os.path.join(dataset.get('data_root') or '', 'meta', f'{split}.txt')
    if dataset.get('ann_file') or (split and os.path.isfile(listing)):
        return None  # the file has the labels
    if not dataset.get('with_label', True) or not os.path.isdir(root):
        return None
    endings = dataset.get('extensions') or getattr(kind, 'IMG_EXTENSIONS', IMAGE_ENDINGS)
    return find_class_folders(root, endings)


# ---------------------------------------------------------- what was built


def check_built(runner: Runner, loader_name: str) -> None:
    """Check a built data loader against the model, and let its pipelines name files in errors.

    Args:
        runner: The runner, whose loop is built.
        loader_name: 'train_dataloader', 'val_dataloader' or 'test_dataloader'.

    Raises:
        UserError: The data set and a head of the model differ in their number of classes.
    """
    dataset = getattr(runner, loader_name).dataset
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    model = unwrapped(runner.model)
    for name, count in head_classes(model):
        if classes is None:
            if not _segments(dataset):
                continue
            raise UserError(
                f'the data of {loader_name} has no names of classes, but {name} has {count} '
                'classes: set metainfo=dict(classes=(...)) of the data set'
            )
        if len(classes) != count:
            raise UserError(
                f'{name} has num_classes={count}, but the data of {loader_name} has '
                f'{len(classes)} classes ({listed(classes)}): set {name}.num_classes to '
                f'{len(classes)}, or metainfo.classes of the data set'
            )
        check_class_weight(name, model, count)
    for leaf in _built_leaves(dataset):
        for line in check_maps(leaf) if hasattr(leaf, 'img_suffix') else ():
            runner.logger.warning(line)
        if isinstance(getattr(leaf, 'pipeline', None), Compose):
            leaf.pipeline = NamingPipeline(leaf.pipeline.transforms)
    if _segments(dataset) and not any(isinstance(h, IgnoredLabelsHook) for h in runner.hooks):
        runner.register_hook(IgnoredLabelsHook())


def head_classes(model: nn.Module) -> list[tuple[str, int]]:
    """List the heads that predict the data set's classes, with their number of classes."""
    heads = []
    for name, module in model.named_modules():
        parts = [part for part in name.split('.') if part != 'module']
        named = re.sub(r'[.\d]+$', '', '.'.join(parts)).rpartition('.')[2]
        count = getattr(module, 'num_classes', None)
        if (
            isinstance(count, int)
            and count > 0
            and named in ('head', 'bbox_head', 'mask_head', 'decode_head')
            and not {'rpn_head', 'teacher', 'auxiliary_head'} & set(parts)
        ):
            heads.append(('.'.join(['model', *parts]), count))
    return heads


def check_class_weight(name: str, model: nn.Module, count: int) -> None:
    """Refuse a head whose losses weigh another number of classes."""
    head = model.get_submodule(name.removeprefix('model.'))
    for loss_name, loss in head.named_modules():
        weight = getattr(loss, 'class_weight', None)
        # mmdet's softmax has background, too; heads of queries have "no object"
        has_one_more = name.endswith('bbox_head') or hasattr(head, 'num_queries')
        fits = (count, count + 1) if has_one_more else (count,)
        if isinstance(weight, list | tuple) and len(weight) not in fits:
            raise UserError(
                f'{name}.{loss_name}.class_weight has {len(weight)} values for {count} classes: '
                'give one per class'
            )


def _segments(dataset) -> bool:
    return any(hasattr(leaf, 'reduce_zero_label') for leaf in _built_leaves(dataset))


def _built_leaves(dataset) -> Iterator:
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
    else:
        for one in inner:
            yield from _built_leaves(one)
