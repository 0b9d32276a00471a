"""Training and testing any of our configs, whichever toolbox it belongs to."""

import pickle
import re
from argparse import Namespace
from contextlib import contextmanager
from urllib.error import URLError

from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults
from mmengine.fileio import dump
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmsb.checkpoints.loading import check_checkpoint_file, safe_loading
from mmsb.engine.config import (
    apply_test_args,
    apply_train_args,
    check_data_paths,
    data_paths,
    innermost_dataset,
    load_config,
)
from mmsb.engine.distributed import distributed, prepare_for_cpu
from mmsb.errors import UserError


def train(args: Namespace) -> None:
    """Trains as ``tools/train.py``'s arguments say.

    Raises:
        UserError: Something the user can set right: paths, flags, data, checkpoints.
    """
    cfg = load_config(args)
    with distributed(cfg.launcher):
        apply_train_args(cfg, args)
        check_data_paths(cfg, ('train_dataloader', 'val_dataloader'))
        _train(cfg)


def _train(cfg: Config) -> None:
    with explained_errors(cfg):
        runner = build_runner(cfg)
        warn_learning_rate(runner)
        with explained_data_errors(cfg.train_dataloader):
            runner.train_loop  # noqa: B018 (a property that builds the data set)
        if cfg.get('val_dataloader'):
            with explained_data_errors(cfg.val_dataloader):
                runner.val_loop  # noqa: B018
        runner.train()


def test(args: Namespace) -> dict[str, float]:
    """Tests as ``tools/test.py``'s arguments say.

    Returns:
        The metrics.

    Raises:
        UserError: Something the user can set right: paths, flags, data, checkpoints.
    """
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: predictions are written as a pickle, give NAME.pkl')
    if args.metrics_out and not args.metrics_out.endswith('.json'):
        raise UserError(f'--metrics-out {args.metrics_out}: metrics are written as NAME.json')
    cfg = load_config(args)
    with distributed(cfg.launcher):
        apply_test_args(cfg, args)
        check_data_paths(cfg, ('test_dataloader',))
        with explained_errors(cfg):
            runner = build_runner(cfg)
            if args.out:
                runner.test_evaluator.metrics.append(_dump_results(cfg, args.out))
            with explained_data_errors(cfg.test_dataloader):
                runner.test_loop  # noqa: B018
            metrics = runner.test()
    if args.metrics_out and runner.rank == 0:
        dump({name: float(value) for name, value in metrics.items()}, args.metrics_out)
    return metrics


def build_runner(cfg: Config) -> Runner:
    """Builds the runner of a config, fit for CPU processes where there is no GPU."""
    prepare_for_cpu(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _dump_results(cfg: Config, path: str) -> DumpResults:
    if cfg.default_scope == 'mmdet':  # writes masks as RLE, not as full-size arrays
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults(out_file_path=path)
    return DumpResults(out_file_path=path)


def warn_learning_rate(runner: Runner) -> None:
    """Says what the learning rate should be when the batch is not the config's."""
    scale = runner.cfg.get('auto_scale_lr') or {}
    base, batch = scale.get('base_batch_size'), runner.cfg.train_dataloader.get('batch_size')
    if not base or not batch or scale.get('enable'):
        return
    total = batch * runner.world_size
    lr = runner.cfg.optim_wrapper.get('optimizer', {}).get('lr')
    if total != base and lr is not None:
        runner.logger.warning(
            f'the batch is {runner.world_size} x {batch} = {total}, but the learning rate {lr:g} '
            f'is for {base}: by the linear rule it should be {lr * total / base:g}; '
            '--auto-scale-lr sets it'
        )


@contextmanager
def explained_data_errors(loader: ConfigDict):
    """Annotations that cannot be read, or hold nothing, or folders that do, in one line."""
    dataset = innermost_dataset(loader.dataset)
    path = next(iter(data_paths(dataset)), dataset.get('data_root'))
    try:
        yield
    except URLError as error:  # mmpretrain fetches CIFAR itself
        raise UserError(
            f'the data is not in {path} and could not be downloaded ({error.reason}): put it '
            'there, or say where it is, MMSB_CIFAR100_ROOT=PATH'
        ) from error
    except (KeyError, ValueError, IndexError) as error:  # JSON's error is a ValueError
        if isinstance(error, UserError) or 'registry' in str(error):
            raise  # a misspelt name in the config is no matter of data
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        what = 'hold images, and beside them their annotations,'
        if dataset.get('ann_file'):
            what = 'be an annotation file, with at least one image that has an object,'
        raise UserError(
            f'no data could be read from {path} ({reason}): it must {what} in the layout of the '
            'real data set'
        ) from error
    except (AssertionError, RuntimeError) as error:  # mmpretrain's
        if found := re.search(r'(The number of|Found 0 files in) subfolders.*', str(error)):
            raise UserError(
                f'{path} must hold a folder of images for each class: {found[0]}'
            ) from error
        raise


@contextmanager
def explained_errors(cfg: Config):
    """What goes wrong with downloads, checkpoints and images, in one line each."""
    init_cfg = cfg.model.get('backbone', {}).get('init_cfg') or {}
    for path in (cfg.get('load_from'), 'checkpoint' in init_cfg and init_cfg['checkpoint']):
        if path:
            check_checkpoint_file(path)
    try:
        with safe_loading():
            yield
    except URLError as error:
        raise UserError(
            f'the pretrained weights could not be downloaded ({error.reason}): give a local file, '
            '--cfg-options model.backbone.init_cfg.checkpoint=FILE, or start from none, '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
    except pickle.UnpicklingError as error:
        unknown = re.search(r'Unsupported \w+:? (?:GLOBAL )?(\S+)', str(error))
        which = cfg.get('load_from') or 'of init_cfg or of the work directory'
        raise UserError(
            f'checkpoint {which} was refused: it holds more than '
            f'weights, pickled code{f" ({unknown[1]})" if unknown else ""}, or is damaged; files '
            'are read with weights_only=True'
        ) from error
    except AssertionError as error:
        # mmcv's loader, in a validation or test pipeline; last, since from a data-loading worker
        # the message is a traceback
        if found := re.findall(r'failed to load image: (.*)', str(error)):
            raise UserError(f'image {found[-1]} cannot be read: repair or remove it') from error
        raise
    except FileNotFoundError as error:
        pattern = r"No such file or directory: '(.*\.(?:jpe?g|png|bmp|tiff?))'"
        if found := re.findall(pattern, str(error), re.IGNORECASE):
            raise UserError(f'{found[-1]} does not exist, but is among the data') from error
        raise
