"""``--track``: what it adds to a config, and what trackers hold after real runs.

Runs of several processes and of the three toolboxes' tests are in test_launching and
test_evaluation.
"""

import json
import sys

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook

import mmsb.engine.resumable
from mmsb.engine.arguments import parse_seeds_args, parse_test_args, parse_train_args
from mmsb.engine.tracking import TRACKERS, TrackTestHook, add_trackers, parse_trackers
from tests.conftest import ROOT, assert_one_line, tracked
from tests.test_engine.test_resuming import find_resumed, toy_config
from tests.test_engine.test_resuming import toys as toys  # a fixture for all tests

LOCAL = dict(type='LocalVisBackend')
TENSORBOARD = dict(type='TensorboardVisBackend')


def test_arguments():
    words = (
        'c.py --track tensorboard mlflow exp_name=sb --work-dir w --track wandb project=a tags=b,c'
    )
    args = parse_train_args(words.split())
    wandb = dict(project='a', tags=['b', 'c'])
    assert args.track == dict(tensorboard={}, mlflow=dict(exp_name='sb'), wandb=wandb)
    assert args.work_dir == 'w'
    assert parse_test_args(['c.py', 'x.pth']).track == parse_train_args(['c.py']).track == {}
    flags = parse_seeds_args(['c.py', '--track', 'wandb', 'project=a']).flags
    assert parse_train_args(['c.py', *flags]).track == dict(wandb=dict(project='a'))


@pytest.mark.parametrize(('words', 'message'), [
    ('tensorbord', "no such tracker, give some of tensorboard, wandb, mlflow, clearml; did you mean"
     " 'tensorboard'?"),
    ('c.py', 'no such tracker, give some of tensorboard'),
    ('project=a wandb', 'give the tracker before its options'),
    ('wandb api_key=1', "a secret would be saved with the config in every checkpoint; set the "
     "tracker's environment variable"),
])  # fmt: skip
def test_bad_words(words, message):
    assert_one_line(lambda: parse_trackers(words.split()), message)
    assert_one_line(lambda: parse_train_args(['--track', *words.split()]), message)


@pytest.mark.parametrize(('before', 'after'), [
    (dict(type='V', vis_backends=[LOCAL]), [LOCAL, TENSORBOARD]),
    (dict(type='V', vis_backends=LOCAL), [LOCAL, TENSORBOARD]),
    (dict(type='V', vis_backends=[TENSORBOARD]), [LOCAL, TENSORBOARD]),
    (dict(type='V', vis_backends=None), [LOCAL, TENSORBOARD]),
    (dict(type='V'), [LOCAL, TENSORBOARD]),
    (None, [LOCAL, TENSORBOARD]),
])  # fmt: skip
def test_the_local_log_is_kept(before, after):
    cfg = Config(dict(visualizer=before))
    add_trackers(cfg, dict(tensorboard={}))
    assert cfg.visualizer.vis_backends == after
    assert cfg.visualizer.type == (before or dict(type='Visualizer'))['type']
    add_trackers(cfg, dict(tensorboard={}))  # once is enough
    assert cfg.visualizer.vis_backends == after


@pytest.mark.parametrize('task', ['detection', 'segmentation', 'classification'])
def test_configs_of_all_tasks(task):
    cfg = Config.fromfile(ROOT / f'configs/_base_/runtimes/{task}.py')
    before = cfg.visualizer.to_dict()
    add_trackers(cfg, {})
    assert cfg.visualizer == before
    add_trackers(cfg, dict(tensorboard={}))
    assert cfg.visualizer == dict(before, vis_backends=[LOCAL, TENSORBOARD])


def test_options(monkeypatch):
    for module in ('wandb', 'clearml'):
        monkeypatch.setitem(sys.modules, module, ConfigDict())  # as if it were installed
    cfg = Config(dict(visualizer=dict(type='V', vis_backends=[LOCAL])))
    options = dict(project='sb', log_code_name='code')
    add_trackers(cfg, dict(wandb=options, clearml=dict(project_name='sb')))
    _, wandb, clearml = cfg.visualizer.vis_backends
    assert wandb.init_kwargs == dict(project='sb') and wandb.log_code_name == 'code'
    assert clearml == dict(type='ClearMLVisBackend', init_kwargs=dict(project_name='sb'))
    assert_one_line(
        lambda: add_trackers(cfg, dict(tensorboard=dict(project='sb'))),
        '--track tensorboard project=...: no such option, it has none',
    )


@pytest.mark.parametrize('name', TRACKERS)
def test_an_absent_package(name, monkeypatch):
    tracker = TRACKERS[name]
    monkeypatch.setitem(sys.modules, tracker.module, None)
    assert_one_line(
        lambda: add_trackers(Config(), {name: {}}),
        f'--track {name} needs a package that is not installed or does not import',
    )
    assert_one_line(lambda: add_trackers(Config(), {name: {}}), f'pip install {tracker.install}')


# ------------------------------------------------------------------- real trackers


class Stop(Hook):
    """Ends a training in the middle."""

    def after_train_epoch(self, runner):
        if runner.epoch == 1:  # the second one
            raise KeyboardInterrupt


def train_interrupted(tmp_path, trackers):
    """Train the toy, stopped after its second epoch and resumed; the logged lines."""
    for resume in (None, 'auto'):
        cfg = toy_config(tmp_path)
        cfg.timestamp = None
        add_trackers(cfg, trackers)
        cfg.visualizer.name = cfg.experiment_name = f'toy_{resume}'
        find_resumed(cfg, resume)
        runner = mmsb.engine.resumable.ResumableRunner.from_cfg(cfg)
        if resume is None:
            runner.register_hook(Stop())
            with pytest.raises(KeyboardInterrupt):
                runner.train()
            runner.visualizer.close()  # as the end of the process does
        else:
            runner.train()
    lines = [
        json.loads(line)
        for path in sorted(tmp_path.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    losses = {line['step']: line['loss'] for line in lines if 'loss' in line}
    assert set(losses) == set(range(1, 13))
    return runner, losses


def test_tensorboard(tmp_path):
    runner, losses = train_interrupted(tmp_path, dict(tensorboard={}))
    found = tracked(tmp_path)
    assert found['loss'] == {step: pytest.approx(loss) for step, loss in losses.items()}
    assert set(found['acc']) == {1, 2, 3, 4}

    TrackTestHook().after_test_epoch(runner, dict(best=0.5, classes=['a']))
    runner.visualizer.close()
    assert tracked(tmp_path)['best'] == {0: 0.5}


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip('mlflow')
    monkeypatch.setattr(Config, 'pretty_text', 'cfg')
    before = mlflow.get_tracking_uri()
    address = f'sqlite:///{tmp_path}/mlflow.db'
    mlflow.set_tracking_uri(address)
    try:
        _, losses = train_interrupted(tmp_path / 'work', dict(mlflow=dict(exp_name='sb')))
        client = mlflow.MlflowClient(address)
        experiment = client.get_experiment_by_name('sb')
        runs = client.search_runs([experiment.experiment_id])
        found = {}
        for run in runs:
            history = client.get_metric_history(run.info.run_id, 'loss')
            found.update({metric.step: metric.value for metric in history})
    finally:
        mlflow.set_tracking_uri(before)
    assert len(runs) == 2 and found == losses
