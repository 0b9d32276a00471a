"""Training and testing any of our configs, whichever toolbox it belongs to."""

import os
import pickle
import re
from argparse import Namespace
from contextlib import contextmanager
from urllib.error import URLError

import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults
from mmengine.fileio import dump
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from mmsb.engine.config import (
    apply_test_args,
    apply_train_args,
    check_data_paths,
    data_paths,
    innermost_dataset,
    load_config,
)
from mmsb.engine.distributed import distributed, prepare_for_cpu
from mmsb.models import SpatialBias, fuse_spatial_bias
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import (
    check_checkpoint_file,
    checkpoint_keys,
    pretrained_files,
    refusal,
    safe_loading,
)


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
        refuse_plain_resume(runner)
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
            if args.fuse_conv_bn:
                runner.load_or_resume()
                model = runner.model
                fuse_spatial_bias((model.module if is_model_wrapper(model) else model).eval())
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
    return (_DumpMaps if cfg.default_scope == 'mmseg' else DumpResults)(out_file_path=path)


class _DumpMaps(DumpResults):
    """Dumps segmentation maps alone: mmseg's logits would take 600 bytes a pixel."""

    def process(self, data_batch, predictions):
        keys = ('img_path', 'ori_shape')
        maps = [
            dict(
                {key: sample[key] for key in keys if key in sample},
                pred_sem_seg=sample['pred_sem_seg']['data'].to(torch.int16),
            )
            for sample in predictions
        ]
        super().process(data_batch, maps)


def refuse_plain_resume(runner: Runner) -> None:
    """Refuses to go on from a plain ResNet's checkpoint with spatial bias.

    Its optimizer state does not fit: with wider and new parameters that is another training.
    """
    biased = any(isinstance(module, SpatialBias) for module in runner.model.modules())
    if not runner.cfg.get('resume') or not biased:
        return
    path = runner.cfg.get('load_from') or find_latest_checkpoint(runner.work_dir) or ''
    if os.path.isfile(path) and not any('spatial_bias.' in k for k in checkpoint_keys(path)):
        raise UserError(
            f'{path} cannot be resumed: it is of a network without spatial bias, whose optimizer '
            'state does not fit; to start a new training from its weights, leave --resume out and '
            f'give --cfg-options load_from={path}'
        )


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
    checkpoints = pretrained_files(cfg.model.get('backbone', {}).get('init_cfg'))
    if cfg.get('load_from'):
        checkpoints.insert(0, cfg.load_from)
    for path in checkpoints:
        check_checkpoint_file(path)
    which = ' or '.join(checkpoints) or 'of the work directory'
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
        raise refusal(which, error) from error
    except (EOFError, RuntimeError) as error:
        # torch's older format, which is no zip archive, and mmengine's loader
        if isinstance(error, EOFError) or re.search(
            'unexpected EOF|PytorchStreamReader|No state_dict found', str(error)
        ):
            raise UserError(
                f'checkpoint {which} is damaged, cut short or holds no weights '
                f'({str(error).splitlines()[0]}): copy or download it again'
            ) from error
        raise
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
