"""The flags of ``tools/train.py`` and ``tools/test.py``: all that the three toolboxes have."""

import argparse
import os

from mmengine.config import DictAction

from mmsb.engine.tracking import TRACKERS, parse_trackers
from mmsb.utils.errors import UserError


class _Settings(DictAction):
    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                raise UserError(f'--cfg-options {value}: give KEY=VALUE')
        super().__call__(parser, namespace, values, option_string)


class _Trackers(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        found = dict(getattr(namespace, self.dest) or {})
        found.update(parse_trackers(values))
        setattr(namespace, self.dest, found)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--work-dir', help='logs and checkpoints; default work_dirs/<config name>')
    _overrides(parser, action=_Settings)
    _tracking(parser, action=_Trackers, default={})
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes; tools/dist_*.sh and slurm_*.sh set it',
    )
    # The old torch.distributed.launch passes it; torch.distributed.run sets the environment.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def _overrides(parser: argparse.ArgumentParser, **cfg_options) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=4; write a list as '
        '"key=[a,b]" or key=a,b; None, True, False and numbers are converted',
        **cfg_options,
    )
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='do not pin memory in data loaders'
    )
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help='restart workers every epoch'
    )
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='load checkpoints that lack a part of the weights; the part keeps random values',
    )


def _tracking(parser: argparse.ArgumentParser, **track) -> None:
    parser.add_argument(
        '--track',
        nargs='+',
        metavar=('TRACKER', 'KEY=VALUE'),
        help=f'write losses and metrics to {", ".join(TRACKERS)} too, each with its options, '
        'e.g. --track tensorboard wandb project=sb',
        **track,
    )


def _optimization(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--amp', action='store_true', help='use mixed precision (GPU only)')
    parser.add_argument(
        '--amp-dtype',
        choices=['float16', 'bfloat16'],
        help='the lower precision of --amp; default float16',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the total batch size over the config's base_batch_size",
    )


def _parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def parse_train_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of ``tools/train.py``.

    Args:
        argv: The arguments. Defaults to None: those of this process.

    Returns:
        The argument of :func:`mmsb.engine.train`.
    """
    parser = argparse.ArgumentParser(
        description='Train a detector, segmentor or classifier from its config.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from CHECKPOINT; default the latest checkpoint in the work directory',
    )
    _optimization(parser)
    parser.add_argument('--seed', type=int, help='default a random seed')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    _common(parser)
    return _parse(parser, argv)


def parse_test_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of ``tools/test.py``.

    Args:
        argv: The arguments. Defaults to None: those of this process.

    Returns:
        The argument of :func:`mmsb.engine.test`.
    """
    parser = argparse.ArgumentParser(
        description='Test a detector, segmentor or classifier; write its metrics and predictions.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='NAME.pkl', help='write the predictions')
    parser.add_argument('--metrics-out', metavar='NAME.json', help='write the metrics')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='draw predictions into this folder')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds to show each window; default 2'
    )
    parser.add_argument('--interval', type=int, default=1, help='draw every n-th image; default 1')
    parser.add_argument('--tta', action='store_true', help='use test-time augmentation')
    parser.add_argument('--amp', action='store_true', help='use mixed precision')
    parser.add_argument(
        '--fuse-conv-bn', action='store_true', help='fold batch norms into convolutions, for speed'
    )
    _common(parser)
    return _parse(parser, argv)


def parse_seeds_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of ``tools/train_seeds.py``.

    Args:
        argv: The arguments. Defaults to None: those of this process.

    Returns:
        The namespace; ``flags`` lists the flags to pass on to ``tools/train.py``.
    """
    parser = argparse.ArgumentParser(
        description='Train configs with several seeds; print the mean and standard deviation of '
        'the metrics.',
        epilog='Run the same command again to continue: it keeps finished trainings and resumes '
        'stopped ones.',
    )
    add = parser.add_argument
    add('configs', nargs='*', metavar='CONFIG', help='config file')
    add('--seeds', type=int, nargs='*', default=[0, 1, 2], metavar='SEED', help='default 0 1 2')
    add('--processes', type=int, default=1, metavar='N', help='processes per training; default 1')
    add(
        '--jobs',
        type=int,
        metavar='N',
        help='trainings at the same time, on different GPUs; default 1, in Slurm all. Each writes '
        'what it prints to output.txt in its folder',
    )
    add(
        '--slurm',
        metavar='PARTITION',
        help='train each run as a Slurm job in this partition, and wait for all of them',
    )
    add(
        '--baseline',
        metavar='CONFIG',
        help='one of the configs, which the others are compared with; default the first',
    )
    add(
        '--work-dir',
        default='work_dirs/seeds',
        metavar='DIR',
        help='write to DIR/<config name>/seed_<SEED>; default work_dirs/seeds',
    )
    add('--out', metavar='NAME.json', help="write every training's metrics when all have finished")
    add(
        '--summarize',
        action='store_true',
        help='do not train; print the table of the finished trainings in the work directory',
    )
    _optimization(parser)
    _overrides(parser)
    _tracking(parser)
    args = parser.parse_args(argv)
    switches = (
        *('amp', 'auto_scale_lr', 'no_pin_memory', 'no_persistent_workers'),
        'allow_partial',
    )
    args.flags = [f'--{name.replace("_", "-")}' for name in switches if getattr(args, name)]
    for name in ('amp_dtype', 'cfg_options', 'track'):
        value = getattr(args, name)
        if value:
            values = [value] if isinstance(value, str) else value
            args.flags += [f'--{name.replace("_", "-")}', *values]
    return args
