"""Training and testing with any config, whichever toolbox it belongs to."""

import logging
import os
from argparse import Namespace

from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmsb.checkpoints.fitting import check_pretrained, unwrapped
from mmsb.engine.checking import check_built, check_data
from mmsb.engine.config import (
    apply_test_args,
    apply_train_args,
    check_data_paths,
    load_config,
    name_files_in_errors,
)
from mmsb.engine.distributed import distributed, prepare_for_cpu
from mmsb.engine.explaining import (
    explained_building,
    explained_data_errors,
    explained_errors,
    explained_running,
)
from mmsb.engine.loading import CheckpointContentHook
from mmsb.engine.resumable import ResumableRunner
from mmsb.engine.tracking import TrackTestHook
from mmsb.models import SpatialBias, fuse_spatial_bias
from mmsb.toolboxes import toolbox_of
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import checkpoint_keys, load_checkpoint_file


def train(args: Namespace) -> None:
    """Train with ``args`` from :func:`mmsb.engine.arguments.parse_train_args`.

    Raises:
        UserError: An error that the user can fix, in paths, flags, data or checkpoints.
    """
    cfg = load_config(args)
    with distributed(cfg.launcher):
        apply_train_args(cfg, args)
        loaders = ('train_dataloader', 'val_dataloader')
        lines = prepare_data(cfg, loaders)
        names = [name for name in loaders if cfg.get(name)]
        _train(cfg, names, lines, args.allow_partial)


def prepare_data(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """Check a config's data; let it read mended copies, and name files in errors.

    Returns:
        Lines for the log: what was filled in or left out.
    """
    toolbox_of(cfg).check_settings(cfg)
    check_data_paths(cfg, loaders)
    lines = check_data(cfg, loaders)
    name_files_in_errors(cfg)
    return lines


def build_data(runner: Runner, loaders: list[str], lines: list[str]) -> None:
    """Build and check a runner's data sets, and log what the checks found."""
    for line in lines:
        runner.logger.warning(line)
    for name in loaders:
        with explained_data_errors(runner.cfg, name):
            getattr(runner, name.replace('dataloader', 'loop'))  # a property that builds
        check_built(runner, name)


def _train(cfg: Config, loaders: list[str], lines: list[str], allow_partial: bool) -> None:
    with explained_errors(cfg):
        if cfg.get('resume'):
            check_resumed(cfg)
        with explained_building(cfg):
            runner = build_runner(cfg, allow_partial=allow_partial)
        refuse_plain_resume(runner)
        if not cfg.get('resume'):
            check_pretrained(runner.model, allow_partial)
        warn_learning_rate(runner)
        build_data(runner, loaders, lines)
        with explained_running(cfg, runner):
            runner.train()


def test(args: Namespace) -> dict[str, float]:
    """Test with ``args`` from :func:`mmsb.engine.arguments.parse_test_args`.

    Returns:
        The metrics.

    Raises:
        UserError: An error that the user can fix, in paths, flags, data or checkpoints.
    """
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: predictions are written as a pickle, give NAME.pkl')
    if args.metrics_out and not args.metrics_out.endswith('.json'):
        raise UserError(f'--metrics-out {args.metrics_out}: metrics are written as NAME.json')
    cfg = load_config(args)
    with distributed(cfg.launcher):
        apply_test_args(cfg, args)
        lines = prepare_data(cfg, ('test_dataloader',))
        with explained_errors(cfg):
            with explained_building(cfg):
                runner = build_runner(cfg, whole=True, allow_partial=args.allow_partial)
            if args.track:
                runner.register_hook(TrackTestHook())
            if args.out:
                runner.test_evaluator.metrics.append(toolbox_of(cfg).dump(args.out))
            build_data(runner, ['test_dataloader'], lines)
            if args.fuse_conv_bn:
                runner.load_or_resume()
                fuse_spatial_bias(unwrapped(runner.model).eval())
            with explained_running(cfg, runner):
                metrics = runner.test()
    if args.metrics_out and runner.rank == 0:
        dump({name: float(value) for name, value in metrics.items()}, args.metrics_out)
    return metrics


def build_runner(cfg: Config, whole: bool = False, allow_partial: bool = False) -> Runner:
    """Build a config's runner; without a GPU, adapt the config to CPU processes first.

    Args:
        cfg: The config.
        whole: Whether a checkpoint must hold all weights of the model. Defaults to False.
        allow_partial: Accept checkpoints without all needed weights. Defaults to False.
    """
    prepare_for_cpu(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else ResumableRunner.from_cfg(cfg)
    runner.register_hook(CheckpointContentHook(whole, allow_partial))
    return runner


def check_resumed(cfg: Config) -> None:
    """Take the seed from the checkpoint to resume from, and check that it can be resumed.

    mmengine takes the seed too late, when the data is in another order already, and starts the
    schedule again if the checkpoint does not hold its state.

    Raises:
        UserError: The checkpoint lacks the state of a training that is not finished.
    """
    path = cfg.get('load_from') or ''
    if not os.path.isfile(path):
        return
    content = load_checkpoint_file(path, mmap=True)
    meta = content.get('meta') if isinstance(content, dict) else None
    if not isinstance(meta, dict) or not {'epoch', 'iter'} <= meta.keys():
        raise UserError(
            f'{path} cannot be resumed: it holds weights without the state of a training; to start '
            f'from its weights, leave --resume out and give --cfg-options load_from={path}'
        )
    unit = 'epoch' if cfg.train_cfg.get('max_epochs') else 'iter'
    unfinished = meta[unit] < cfg.train_cfg.get(f'max_{unit}s', 0)
    needed = dict(optimizer='save_optimizer', param_schedulers='save_param_scheduler')
    if not cfg.get('param_scheduler'):
        del needed['param_schedulers']
    if missing := [name for name in needed if unfinished and not content.get(name)]:
        raise UserError(
            f'{path} cannot be resumed: it lacks {" and ".join(missing)}, so the schedule would '
            'start again; resume from a checkpoint that has them (best_*.pth do not; '
            f'default_hooks.checkpoint.{needed[missing[0]]}=False writes none), or start from its '
            f'weights with --cfg-options load_from={path}, without --resume'
        )
    seed, wanted = meta.get('seed'), (cfg.get('randomness') or {}).get('seed')
    if seed is not None:
        if wanted not in (None, seed):
            print_log(
                f'seed {wanted} is not used: {path} resumes with its own, {seed}',
                'current',
                logging.WARNING,
            )
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)


def refuse_plain_resume(runner: Runner) -> None:
    """Raise an error if a network with spatial bias is to resume from a plain ResNet's checkpoint.

    The optimizer state does not fit, as spatial bias widens parameters and adds new ones.
    """
    biased = any(isinstance(module, SpatialBias) for module in runner.model.modules())
    if not runner.cfg.get('resume') or not biased:
        return
    path = runner.cfg.get('load_from') or ''
    if os.path.isfile(path) and not any('spatial_bias.' in k for k in checkpoint_keys(path)):
        raise UserError(
            f'{path} cannot be resumed: it is from a network without spatial bias, whose optimizer '
            'state does not fit; to start a new training from its weights, leave --resume out and '
            f'give --cfg-options load_from={path}'
        )


def warn_learning_rate(runner: Runner) -> None:
    """Log the learning rate to use if the total batch size is not the config's."""
    scale = runner.cfg.get('auto_scale_lr') or {}
    base, batch = scale.get('base_batch_size'), runner.cfg.train_dataloader.get('batch_size')
    if not base or not isinstance(batch, int) or scale.get('enable'):
        return
    total = batch * runner.world_size
    lr = (runner.cfg.optim_wrapper.get('optimizer') or {}).get('lr')
    if total != base and isinstance(lr, int | float):
        runner.logger.warning(
            f'the batch is {runner.world_size} x {batch} = {total}, but the learning rate {lr:g} '
            f'is for {base}: by the linear rule use {lr * total / base:g}, as --auto-scale-lr does'
        )
