"""The flags of ``tools/train.py`` and ``tools/test.py``: the union of the three toolboxes'."""

import argparse
import os

from mmengine.config import DictAction

from mmsb.utils.errors import UserError


class _Settings(DictAction):
    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                raise UserError(f'--cfg-options {value}: give KEY=VALUE')
        super().__call__(parser, namespace, values, option_string)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--work-dir', help='logs and checkpoints; default work_dirs/<config name>')
    _overrides(parser, action=_Settings)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who started the processes; tools/dist_*.sh and slurm_*.sh set it',
    )
    # torch.distributed.launch of old gives it; torch.distributed.run sets the environment.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def _overrides(parser: argparse.ArgumentParser, **cfg_options) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=4; a list as '
        '"key=[a,b]" or key=a,b; None, True, False and numbers are read as such',
        **cfg_options,
    )
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='do not pin memory in data loaders'
    )
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help='start workers anew every epoch'
    )


def _optimization(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--amp', action='store_true', help='mixed precision (GPU)')
    parser.add_argument(
        '--amp-dtype',
        choices=['float16', 'bfloat16'],
        help="with --amp: the lower precision; default torch's, float16",
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the batch over the config's base batch",
    )


def _parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def parse_train_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the arguments of ``tools/train.py``.

    Args:
        argv: Arguments. Defaults to None, the process's own.

    Returns:
        The namespace that :func:`mmsb.engine.train` takes.
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
        help='go on from the latest checkpoint of the work directory, or from this one',
    )
    _optimization(parser)
    parser.add_argument('--seed', type=int, help='random seed; default a random one')
    parser.add_argument('--no-validate', action='store_true', help='no evaluation while training')
    _common(parser)
    return _parse(parser, argv)


def parse_test_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the arguments of ``tools/test.py``.

    Args:
        argv: Arguments. Defaults to None, the process's own.

    Returns:
        The namespace that :func:`mmsb.engine.test` takes.
    """
    parser = argparse.ArgumentParser(
        description='Test a detector, segmentor or classifier: its metrics and predictions.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='NAME.pkl', help='write the predictions')
    parser.add_argument('--metrics-out', metavar='NAME.json', help='write the metrics')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='draw predictions into this folder')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds that a window stays; default 2'
    )
    parser.add_argument('--interval', type=int, default=1, help='draw every n-th image; default 1')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--fuse-conv-bn', action='store_true', help='fold batch norms into convolutions: faster'
    )
    _common(parser)
    return _parse(parser, argv)


def parse_seeds_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the arguments of ``tools/train_seeds.py``.

    Args:
        argv: Arguments. Defaults to None, the process's own.

    Returns:
        The namespace; ``flags`` are those of ``tools/train.py`` to pass on.
    """
    parser = argparse.ArgumentParser(
        description='Train configs with several seeds; mean and standard deviation of the metrics.',
        epilog='Finished trainings are kept and stopped ones go on, so the same command continues.',
    )
    add = parser.add_argument
    add('configs', nargs='*', metavar='CONFIG', help='config file')
    add('--seeds', type=int, nargs='*', default=[0, 1, 2], metavar='SEED', help='default 0 1 2')
    add('--processes', type=int, default=1, metavar='N', help='of each training; default 1')
    add(
        '--work-dir',
        default='work_dirs/seeds',
        metavar='DIR',
        help='each training is in DIR/<config name>/seed_<SEED>; default work_dirs/seeds',
    )
    add('--out', metavar='NAME.json', help="write every training's figures, when all are done")
    add(
        '--summarize',
        action='store_true',
        help='train nothing: the table of what is finished in the work directory',
    )
    _optimization(parser)
    _overrides(parser)
    args = parser.parse_args(argv)
    switches = ('amp', 'auto_scale_lr', 'no_pin_memory', 'no_persistent_workers')
    args.flags = [f'--{name.replace("_", "-")}' for name in switches if getattr(args, name)]
    for name in ('amp_dtype', 'cfg_options'):
        value = getattr(args, name)
        if value:
            values = [value] if isinstance(value, str) else value
            args.flags += [f'--{name.replace("_", "-")}', *values]
    return args
