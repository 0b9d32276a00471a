"""``--track``: experiment trackers beside the local log, through mmengine's visualizer backends."""

import importlib
import inspect
import os
from dataclasses import dataclass
from numbers import Real

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization.vis_backend import WandbVisBackend, force_init_env

from mmsb.registry import VISBACKENDS
from mmsb.utils.errors import UserError, reason_of
from mmsb.utils.names import listed, nearest

LOCAL = 'LocalVisBackend'  # writes scalars.json, which mmsb's reports read


@dataclass(frozen=True)
class Tracker:
    """An experiment tracker.

    Attributes:
        backend: mmengine's class.
        module: What must import.
        install: What to install with pip.
    """

    backend: str
    module: str
    install: str


TRACKERS = dict(
    tensorboard=Tracker('TensorboardVisBackend', 'torch.utils.tensorboard', 'tensorboard'),
    wandb=Tracker('mmsb.WandbBackend', 'wandb', 'wandb'),
    mlflow=Tracker('MLflowVisBackend', 'mlflow', 'mlflow'),
    clearml=Tracker('ClearMLVisBackend', 'clearml', 'clearml'),
)


def parse_trackers(words: list[str]) -> dict[str, dict]:
    """Return the options of each tracker in the words after ``--track``.

    Args:
        words: Names of trackers, each followed by its options, KEY=VALUE.

    Raises:
        UserError: There is no such tracker, or an option belongs to none or is a secret.
    """
    found, options = {}, None
    for word in words:
        name, equals, value = word.partition('=')
        if not equals:
            if name not in TRACKERS:
                close = nearest(name, TRACKERS)
                hint = f'; did you mean {close!r}?' if close else ''
                raise UserError(
                    f'--track {name}: no such tracker, give some of {listed(TRACKERS)}{hint}'
                )
            options = found.setdefault(name, {})
        elif options is None:
            raise UserError(f'--track {word}: give the tracker before its options')
        elif any(part in name.lower() for part in ('token', 'api_key', 'password')):
            raise UserError(
                f'--track {name}=...: a secret would be saved with the config in every checkpoint; '
                "set the tracker's environment variable"
            )
        else:
            options[name] = DictAction._parse_iterable(value)
    return found


def add_trackers(cfg: Config, trackers: dict[str, dict]) -> None:
    """Let a config's visualizer write to trackers too, in place; the local log is kept.

    Args:
        cfg: The config.
        trackers: From :func:`parse_trackers`.

    Raises:
        UserError: A tracker is not installed or has no such option.
    """
    if not trackers:
        return
    visualizer = cfg.get('visualizer') or ConfigDict(type='Visualizer')
    backends = visualizer.get('vis_backends') or []
    backends = [backends] if isinstance(backends, dict) else list(backends)
    if not any(_kind(backend) == LOCAL for backend in backends):
        backends.insert(0, ConfigDict(type=LOCAL))
    for name, options in trackers.items():
        tracker = TRACKERS[name]
        _check_installed(name, tracker)
        kind = tracker.backend.removeprefix('mmsb.')
        backend = next((b for b in backends if _kind(b) == kind), None)
        if backend is None:
            backend = ConfigDict(type=tracker.backend, **_DEFAULTS.get(name, dict)())
            backends.append(backend)
        _set_options(name, backend, options)
    visualizer['vis_backends'] = backends
    cfg.visualizer = visualizer


def _kind(backend: dict) -> str:
    """Return the type of a backend without its scope, also if it is a class."""
    return getattr(backend['type'], '__name__', str(backend['type'])).rpartition('.')[2]


def _check_installed(name: str, tracker: Tracker) -> None:
    try:
        importlib.import_module(tracker.module)
    except ImportError as error:
        raise UserError(
            f'--track {name} needs a package that is not installed or does not import '
            f'({reason_of(error)}): pip install {tracker.install}'
        ) from error


def _set_options(name: str, backend: ConfigDict, options: dict) -> None:
    """Set a tracker's options: mmengine's arguments, or those of the package's start function."""
    parameters = set(inspect.signature(VISBACKENDS.get(backend['type'])).parameters)
    known = parameters - {'save_dir', 'init_kwargs'}
    for key, value in options.items():
        if key in known:
            backend[key] = value
        elif 'init_kwargs' in parameters:
            backend['init_kwargs'] = dict(backend.get('init_kwargs') or {}, **{key: value})
        else:
            what = f'it has {listed(sorted(known))}' if known else 'it has none'
            raise UserError(f'--track {name} {key}=...: no such option, {what}')


def _mlflow() -> dict:
    """Use the store that ``mlflow ui`` shows: MLFLOW_TRACKING_URI, or mlflow's default."""
    import mlflow

    found = dict(tracking_uri=mlflow.get_tracking_uri(), artifact_suffix=('.log', '.json', '.py'))
    if experiment := os.environ.get('MLFLOW_EXPERIMENT_NAME'):
        found['exp_name'] = experiment
    return found


_DEFAULTS = dict(
    mlflow=_mlflow,
    # mmengine does not pass on the step, and a resumed run would start at 0 again
    wandb=lambda: dict(define_metric_cfg=[dict(name='*', step_metric='iter')]),
)


@VISBACKENDS.register_module()
class WandbBackend(WandbVisBackend):
    """mmengine's backend, but it does not upload the code of the current folder.

    That would be every Python file under it, a virtual environment in a clone included. A resumed
    run may change the config.
    """

    @force_init_env
    def add_config(self, config: Config, **kwargs) -> None:
        """Record the config."""
        self._wandb.config.update(config.to_dict(), allow_val_change=True)


class TrackTestHook(Hook):
    """Write the metrics of a test to the trackers; mmengine does so in training only."""

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Write the metrics that are numbers."""
        # Real: mmseg's metrics are of numpy's types, too
        numbers = {k: float(v) for k, v in (metrics or {}).items() if isinstance(v, Real)}
        runner.visualizer.add_scalars(numbers, step=0)
