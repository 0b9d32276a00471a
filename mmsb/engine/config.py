"""Reading config files and applying command-line flags, for any of the three toolboxes."""

import difflib
import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mmsb.engine.checkpointing import LAST, latest_checkpoint
from mmsb.engine.overrides import apply_overrides
from mmsb.engine.tracking import add_trackers
from mmsb.toolboxes import toolbox_of
from mmsb.utils.errors import UserError, reason_of

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_config_path(path: str) -> None:
    """Raise an error that suggests similar names if a config does not exist."""
    if os.path.isfile(path):
        return
    folder = Path(path).parent
    names = [p.name for p in folder.glob('*.py')] if folder.is_dir() else []
    close = difflib.get_close_matches(Path(path).name, names, n=2, cutoff=0.5)
    hint = f'; did you mean {" or ".join(str(folder / name) for name in close)}?' if close else ''
    raise UserError(f'config {path} does not exist{hint}')


def read_config(path: str | os.PathLike, cfg_options: dict | None = None) -> Config:
    """Read a config and import its toolbox. All of mmsb reads configs with this function.

    Args:
        path: The config file.
        cfg_options: Settings to override, e.g. ``{'model.backbone.depth': 18}``. Defaults to None.

    Raises:
        UserError: The config does not exist, or its toolbox is missing or broken.
    """
    check_config_path(str(path))
    try:
        cfg = Config.fromfile(path)
    except (UserError, ImportError):
        raise
    except Exception as error:  # a config is Python code, which raises any
        raise UserError(f'config {path} cannot be read ({reason_of(error)})') from error
    if 'default_scope' in (cfg_options or {}):
        cfg.default_scope = cfg_options['default_scope']
    toolbox_of(cfg).check()
    for line in apply_overrides(cfg, cfg_options or {}):
        print_log(line, 'current', logging.WARNING)
    _check_std(cfg._cfg_dict, '')
    toolbox_of(cfg).set_model_defaults(cfg.get('model') or ConfigDict())
    return cfg


def _check_std(cfg: object, name: str) -> None:
    """Raise an error if images would be divided by 0 when they are normalised."""
    if isinstance(cfg, dict):
        children = [(f'{name}.{key}' if name else key, value) for key, value in cfg.items()]
        std = cfg.get('std')
        if isinstance(std, list | tuple) and 0 in std:
            raise UserError(
                f'{name or "the config"}: std is {list(std)}, and images are divided by it: give '
                'their standard deviation, or 1 to leave them as they are'
            )
    elif isinstance(cfg, list | tuple):
        children = [(f'{name}.{index}', value) for index, value in enumerate(cfg)]
    else:
        return
    for child, value in children:
        _check_std(value, child)


def read_model_config(path: str | os.PathLike, cfg_options: dict | None = None) -> Config:
    """Read a config whose model is built outside a runner; see :func:`read_config`.

    Raises:
        UserError: As there, or the config has no toolbox model with a backbone.
    """
    cfg = read_config(path, cfg_options)
    if not toolbox_of(cfg).name or 'backbone' not in cfg.get('model', {}):
        raise UserError(
            f'{path} describes no detector, segmentor or classifier: give a config to train'
        )
    if 'data_preprocessor' in cfg:  # as mmengine's runner merges it
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return cfg


def load_config(args: Namespace) -> Config:
    """Read the config and apply the flags that training and testing share.

    Args:
        args: ``config``, ``cfg_options``, ``work_dir``, ``launcher``, ``track``.

    Returns:
        The config, with ``work_dir`` and ``launcher`` set.

    Raises:
        UserError: The config does not exist, or its toolbox is missing or broken.
    """
    cfg = read_config(args.config, args.cfg_options)
    add_trackers(cfg, args.track)
    cfg.launcher = args.launcher
    cfg.work_dir = (
        args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', Path(args.config).stem)
    )
    return cfg


def apply_train_args(cfg: Config, args: Namespace) -> None:
    """Apply the flags of ``tools/train.py``, in place."""
    if args.amp:
        enable_amp(cfg, args.amp_dtype)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UserError(
                'this config has no auto_scale_lr.base_batch_size, which --auto-scale-lr needs: '
                'set it with --cfg-options, or leave --auto-scale-lr out'
            )
        cfg.auto_scale_lr.enable = True
    if args.seed is not None:
        cfg.randomness = dict(cfg.get('randomness', {}), seed=args.seed)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        save_best = cfg.get('default_hooks', {}).get('checkpoint', {})
        save_best.pop('save_best', None)  # there is no metric to compare
    find_resumed(cfg, args.resume)
    backbone = cfg.model.get('backbone') or {}
    init_cfg = backbone.get('init_cfg')
    if args.allow_partial and init_cfg and str(backbone.get('type', '')).startswith('mmsb.'):
        for one in [init_cfg] if isinstance(init_cfg, dict) else init_cfg:
            if one.get('type') == 'Pretrained':
                one.allow_partial = True
    _load_whole_model(cfg)
    set_dataloader_defaults(cfg, args, ('train_dataloader', 'val_dataloader', 'test_dataloader'))


def _load_whole_model(cfg: Config) -> None:
    """Load the checkpoint of the model's own ``init_cfg`` as ``load_from``, in place.

    mmengine would take the tensors whose names happen to fit, and only warn about the others.
    """
    init_cfg = cfg.model.get('init_cfg')
    if not isinstance(init_cfg, dict) or init_cfg.get('type') != 'Pretrained':
        return
    path = init_cfg.get('checkpoint')
    if init_cfg.get('prefix'):
        raise UserError(
            f'model.init_cfg with a prefix is not checked: give load_from={path} for the whole '
            'model, or model.backbone.init_cfg for its backbone'
        )
    cfg.model.init_cfg = None
    if not cfg.get('load_from'):
        cfg.load_from = path
        print_log(f'model.init_cfg: {path} is loaded as load_from, which is checked', 'current')


def find_resumed(cfg: Config, resume: str | None) -> None:
    """Set ``load_from`` to the checkpoint that training resumes from, in place.

    Args:
        cfg: The config. Its own ``resume=True`` starts anew if there is nothing to resume.
        resume: A checkpoint, or 'auto' for the newest one in the work directory. None: ``cfg``
            decides; training that the launcher restarts resumes, too.

    Raises:
        UserError: There is nothing to resume.
    """
    restarted = int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)) > 0
    if restarted and (Path(cfg.work_dir) / LAST).is_file():  # of this training, as it started
        resume = 'auto'
    if resume not in (None, 'auto'):
        cfg.resume, cfg.load_from = True, resume
        return
    if resume is None and (not cfg.get('resume') or cfg.get('load_from')):
        return
    path = latest_checkpoint(cfg.work_dir)
    if path is None and resume:
        raise UserError(
            f'nothing to resume in {cfg.work_dir}: leave --resume out to start anew, or give '
            'the checkpoint, --resume PATH'
        )
    cfg.resume = path is not None
    cfg.load_from = path or cfg.get('load_from')


def use_weights(cfg: Config, checkpoint: str) -> None:
    """Make a config load all weights from a checkpoint, in place."""
    cfg.load_from = checkpoint
    if 'backbone' in cfg.model:  # the weights that training started from may be gone
        cfg.model.backbone.init_cfg = None


def apply_test_args(cfg: Config, args: Namespace) -> None:
    """Apply the flags of ``tools/test.py``, in place."""
    use_weights(cfg, args.checkpoint)
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir:
        enable_visualization(cfg, args)
    if args.tta:
        enable_tta(cfg)
    name_responses(cfg)
    set_dataloader_defaults(cfg, args, ('test_dataloader',))


def name_responses(cfg: Config) -> None:
    """Make ``OODMetric`` write responses to the work directory, under the config's name."""
    for _, metric in metrics_of(cfg, 'test_dataloader'):
        if kind_of(metric) == 'OODMetric':
            metric.setdefault('out_dir', os.path.join(cfg.work_dir, 'responses'))
            metric.setdefault('model', Path(cfg.filename).stem)


def enable_amp(cfg: Config, dtype: str | None) -> None:
    """Switch a config to training in mixed precision, in place."""
    if not torch.cuda.is_available():
        raise UserError('--amp needs a GPU: mmengine trains in mixed precision on CUDA only')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if dtype is not None:
        cfg.optim_wrapper.dtype = dtype


def enable_visualization(cfg: Config, args: Namespace) -> None:
    """Make the toolbox's own hook draw predictions to ``--show-dir`` or a window."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError('--show and --show-dir need default_hooks.visualization in the config')
    show_dir = os.path.abspath(args.show_dir) if args.show_dir else None
    if cfg.get('launcher', 'none') != 'none':
        # the toolboxes' visualizers draw on the first process only
        print_log(
            'only the first process draws, and only its share of the images; to draw all images, '
            'run tools/test.py without a launcher',
            'current',
            logging.WARNING,
        )
    hook.update(show=args.show, wait_time=args.wait_time, interval=args.interval)
    toolbox_of(cfg).draw_predictions(cfg, show_dir)


def enable_tta(cfg: Config) -> None:
    """Enable test-time augmentation: the config's own, or else horizontal flips."""
    toolbox = toolbox_of(cfg)
    if 'tta_model' not in cfg:
        cfg.tta_model = deepcopy(toolbox.tta_model)
    dataset = innermost_dataset(cfg.test_dataloader.dataset)
    if 'tta_pipeline' not in cfg:
        *transforms, pack = deepcopy(dataset.pipeline)
        if toolbox.tta_meta_keys:
            pack['meta_keys'] = toolbox.tta_meta_keys
        # The truth is loaded behind the flips: mmseg compares with it as it is.
        truth = [t for t in transforms if kind_of(t) == 'LoadAnnotations']
        before = [t for t in transforms if t not in truth]
        flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
        steps = [flips, *([t] for t in truth), [pack]]
        cfg.tta_pipeline = [*before, dict(type='TestTimeAug', transforms=steps)]
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def set_dataloader_defaults(cfg: Config, args: Namespace, names: tuple[str, ...]) -> None:
    """Give data loaders the defaults of the toolbox's own tools; flags switch them off."""
    for name in names:
        loader = cfg.get(name)
        if loader is None:
            continue
        toolbox_of(cfg).set_loader_defaults(loader)
        if args.no_pin_memory:
            loader.pin_memory = False
        if args.no_persistent_workers or loader.get('num_workers', 0) == 0:
            loader.persistent_workers = False


def innermost_dataset(dataset: ConfigDict) -> ConfigDict:
    """Return the dataset inside wrappers such as RepeatDataset and ClassBalancedDataset."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def leaf_datasets(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Yield the configs of all data sets inside wrappers, also ConcatDataset."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for one in inner:
        yield from leaf_datasets(one)


def input_shape(cfg: Config) -> tuple[int, int]:
    """Return height and width of the images that a config tests on.

    Args:
        cfg: The config of a detector, segmentor or classifier.

    Returns:
        For a segmentor its crop size, as papers count; else the size after the test pipeline, for
        a Resize that keeps the ratio its largest.
    """
    crop = (cfg.model.get('data_preprocessor') or {}).get('size')
    if crop:
        return _pair(crop)
    loader = cfg.get('test_dataloader') or {}
    dataset = innermost_dataset(loader['dataset']) if 'dataset' in loader else ConfigDict()
    for transform in reversed(dataset.get('pipeline') or ()):
        kind = kind_of(transform)
        if kind == 'CenterCrop':
            return _pair(transform['crop_size'])
        if kind == 'Resize' and 'scale' in transform:
            return _pair(transform['scale'])[::-1]  # mmcv's order is width, height
    if dataset.get('type', '').rpartition('.')[2].startswith('CIFAR'):
        return (32, 32)
    return toolbox_of(cfg).image_size


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def kind_of(dataset: ConfigDict) -> str:
    """Return the type that a config of a dataset, transform or metric names, without its scope."""
    return dataset['type'].rpartition('.')[2]


def data_paths(dataset: ConfigDict) -> list[str]:
    """Return the paths that a data set reads: its annotation file, if any, and its folders."""
    paths = [dataset.get('ann_file') or '']
    prefix = dataset.get('data_prefix') or {}
    paths += [prefix] if isinstance(prefix, str) else list(prefix.values())
    if kind_of(dataset) == 'ImageNet' and not any(paths):
        paths = [dataset.get('split') or '']
    return [os.path.join(dataset.get('data_root') or '', path) for path in filter(None, paths)]


def check_data_paths(cfg: Config, names: tuple[str, ...]) -> None:
    """Raise an error for missing data, before anything is built.

    Args:
        cfg: The config.
        names: Keys of the data loaders to check, e.g. 'train_dataloader'.

    Raises:
        UserError: An annotation file or a folder of images is missing.
    """
    for name in names:
        if cfg.get(name) is None:
            continue
        for dataset in leaf_datasets(cfg[name].dataset):
            for path in data_paths(dataset):
                if '://' not in path and not os.path.exists(path):
                    variable = toolbox_of(cfg).root_variables.get(kind_of(dataset))
                    hint = f' ({variable}=PATH sets it for train, val and test)' if variable else ''
                    raise UserError(
                        f'{path} does not exist ({name} reads it): put the data there, or set its '
                        f'location: --cfg-options {name}.dataset.data_root=PATH{hint}'
                    )
        for key, metric in metrics_of(cfg, name):
            path = metric.get('ann_file')
            if isinstance(path, str) and '://' not in path and not os.path.exists(path):
                raise UserError(
                    f'{path} does not exist ({key} reads it): set its location: --cfg-options '
                    f'{key}.ann_file=PATH'
                )


def metrics_of(cfg: Config, name: str) -> list[tuple[str, ConfigDict]]:
    """Return the metrics' configs that belong to a data loader, with their keys."""
    key = name.replace('dataloader', 'evaluator')
    metrics = cfg.get(key) or []
    if isinstance(metrics, dict):
        return [(key, metrics)]
    metrics = metrics if isinstance(metrics, list | tuple) else []
    return [(f'{key}.{i}', metric) for i, metric in enumerate(metrics) if isinstance(metric, dict)]


def name_files_in_errors(cfg: Config) -> None:
    """Let pipelines load files with the transforms of mmsb, whose errors name them, in place."""
    ours = toolbox_of(cfg).naming_transforms(cfg)
    parts = [cfg[name].dataset for name in LOADERS if cfg.get(name) is not None]
    for transform in _transforms([*parts, cfg.get('tta_pipeline')]):
        transform.update(ours.get(transform['type'], {}))


def _transforms(part) -> Iterator[ConfigDict]:
    if isinstance(part, dict):
        if isinstance(part.get('type'), str):
            yield part
        part = list(part.values())
    if isinstance(part, list | tuple):
        for one in part:
            yield from _transforms(one)
