"""Stopped at any moment and resumed, a training ends as if it had never stopped."""

import errno
import importlib.util
import os
import random
import shutil
import signal
from pathlib import Path

import mmengine.runner.runner
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.fileio.backends.local_backend import LocalBackend
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS

from mmsb.engine import train
from mmsb.engine.arguments import parse_train_args
from mmsb.engine.checkpointing import latest_checkpoint
from mmsb.engine.config import find_resumed
from mmsb.engine.randomness import seed_generators, seeded
from mmsb.engine.resumable import ResumableRunner
from mmsb.engine.runner import check_resumed
from mmsb.engine.training_log import read_log
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_checkpoint_file
from tests.conftest import ROOT, assert_one_line

# ---------------------------------------------------------------- a training of milliseconds


class Noise(BaseDataset):
    """Samples that are a random number each time, from one of the three generators."""

    def __init__(self):
        super().__init__(serialize_data=False)  # which would take longer than the training

    def load_data_list(self):
        return [dict(number=number) for number in range(10)]

    def __getitem__(self, index):
        draws = random.random, np.random.rand, lambda: torch.rand(()).item()
        return torch.tensor([draws[index % 3](), float(index), 1.0])


class Toy(BaseModel):
    """A linear layer behind dropout."""

    steps_left = -1  # before the process ends

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, inputs, mode='tensor'):
        x = torch.stack(list(inputs))
        x = self.layer(torch.nn.functional.dropout(x, 0.3, self.training)) * random.uniform(0.9, 1)
        return dict(loss=(x - np.random.rand()).square().mean()) if mode == 'loss' else [x]

    def train_step(self, data, optim_wrapper):
        if self.steps_left == 0:
            os._exit(3)
        type(self).steps_left -= 1
        loss = self(self.data_preprocessor(data, True), 'loss')
        optim_wrapper.update_params(loss['loss'])
        return loss

    def val_step(self, data):
        return self(data, 'predict')


class Best(BaseMetric):
    """Better in every validation but the second."""

    def process(self, data_batch, data_samples):
        torch.rand(3), random.random(), np.random.rand()  # a validation that draws numbers
        self.results.append(float(data_samples[0].sum()))

    def compute_metrics(self, results):
        type(self).calls = getattr(self, 'calls', 0) + 1
        return dict(acc=sum(results))


def toy_config(work_dir, by_epoch=True, workers=0, **checkpoint) -> Config:
    loader = dict(
        dataset=dict(type='Noise'), batch_size=4, num_workers=workers,
        sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True),
    )  # fmt: skip
    hook = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='acc',
                rule='greater', by_epoch=by_epoch)  # fmt: skip
    length = dict(max_epochs=4, val_interval=1) if by_epoch else dict(max_iters=7, val_interval=3)
    return Config(
        dict(
            model=dict(type='Toy'),
            work_dir=str(work_dir),
            train_dataloader=loader,
            val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
            train_cfg=dict(by_epoch=by_epoch, **length),
            val_cfg=dict(),
            val_evaluator=dict(type='Best'),
            optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
            param_scheduler=dict(type='OneCycleLR', eta_max=0.1, total_steps=12, by_epoch=False),
            default_hooks=dict(checkpoint=dict(hook, **checkpoint), logger=dict(
                type='LoggerHook', interval=1, log_metric_by_epoch=by_epoch)),
            log_processor=dict(by_epoch=by_epoch),
            randomness=dict(seed=5),
            log_level='ERROR',
        )
    )  # fmt: skip


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    for registry, kind in ((DATASETS, Noise), (MODELS, Toy), (METRICS, Best)):
        monkeypatch.setitem(registry._module_dict, kind.__name__, kind)
    # slow, and of no consequence here; the forked processes find the modules imported
    monkeypatch.setattr(mmengine.runner.runner, 'collect_env', dict)
    monkeypatch.setattr(Config, 'pretty_text', 'cfg')
    for module in ('mmcv.ops', 'matplotlib.pyplot', 'torch._dynamo'):
        importlib.import_module(module)


def in_process(function) -> int:
    """Run a function in a forked process; return the exit code, or minus the signal."""
    pid = os.fork()
    if not pid:
        try:
            function()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)


def run_toy(cfg: Config, resume: str | None = None) -> int:
    """Train in a process of its own, as the tool does."""

    def run():
        find_resumed(cfg, resume)
        if cfg.get('resume'):
            check_resumed(cfg)
        ResumableRunner.from_cfg(cfg).train()

    return in_process(run)


def outcome(work_dir: Path) -> dict:
    """What must not depend on a kill: weights, optimizer, schedulers, metrics, files."""
    last = load_checkpoint_file(work_dir / (work_dir / 'last_checkpoint').read_text())
    # by step: within one second, mmengine logs a resumed run to the same file
    val = {line['step']: line['acc'] for line in read_log(work_dir).val}
    files = sorted(p.name for p in work_dir.iterdir() if p.is_file() and p.suffix != '.py')
    return dict(
        weights={k: v.tolist() for k, v in last['state_dict'].items()},
        optimizer=str(last['optimizer']),
        schedulers=last['param_schedulers'],
        val=val,
        files=files,
    )


# ---------------------------------------------------------------- killed


def test_killed_at_every_change_of_a_file(tmp_path, monkeypatch):
    """SIGKILL at each write, renaming and deletion of a checkpoint, one after the other."""

    def short_config(work_dir):
        cfg = toy_config(work_dir)
        cfg.train_cfg.max_epochs = 2
        return cfg

    assert run_toy(short_config(tmp_path / 'whole')) == 0
    whole = outcome(tmp_path / 'whole')
    assert len(whole['files']) == 4  # the last, the best, and which they are
    changes = 0

    def dies_at(number):
        """Count changes; die in the middle of that number."""
        left = [number]

        def wrap(owner, name):
            real = getattr(owner, name)

            def change(*args, **kwargs):
                left[0] -= 1
                if left[0] == 0:
                    if name == 'put':
                        Path(args[2]).write_bytes(args[1][: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            monkeypatch.setattr(owner, name, change)

        for owner, name in ((LocalBackend, 'put'), (LocalBackend, 'remove'), (os, 'replace')):
            wrap(owner, name)

    for number in range(1, 100):
        work_dir = tmp_path / str(number)
        with monkeypatch.context():
            before = LocalBackend.put, LocalBackend.remove, os.replace
            dies_at(number)
            code = run_toy(short_config(work_dir))
            LocalBackend.put, LocalBackend.remove, os.replace = before
        if code == 0:
            break
        assert code == -signal.SIGKILL
        changes += 1
        saved = latest_checkpoint(work_dir)
        assert saved or number < 3  # the first checkpoint was being written
        assert run_toy(short_config(work_dir), 'auto' if saved else None) == 0
        assert outcome(work_dir) == whole, number
    assert changes > 12


def test_killed_at_random_moments(tmp_path):
    """A small part of benchmarks/kills.py, with a real network."""
    pytest.importorskip('mmseg')
    spec = importlib.util.spec_from_file_location('kills', ROOT / 'benchmarks/kills.py')
    kills = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kills)
    row = kills.kill('longrange', 0, 1, tmp_path, random.Random(0))
    assert row['kills'] == row['equal'] > 0 and not row['first_difference'], row


@pytest.mark.parametrize('by_epoch', [True, False])
def test_workers_do_not_matter(tmp_path, monkeypatch, by_epoch):
    """Two workers, stopped and resumed, end as no workers that were never stopped."""
    assert run_toy(toy_config(tmp_path / 'whole', by_epoch)) == 0
    cfg = toy_config(tmp_path / 'part', by_epoch, workers=2)
    cfg.train_dataloader.persistent_workers = True
    with monkeypatch.context() as patch:
        patch.setattr(Toy, 'steps_left', 5)
        assert run_toy(cfg) == 3
    cfg.randomness.seed = None  # it is the run's own
    assert run_toy(cfg, 'auto') == 0
    assert outcome(tmp_path / 'part') == outcome(tmp_path / 'whole')


# ---------------------------------------------------------------- random numbers


def make_loader(workers=0, **kwargs):
    data = Noise()
    return seeded(torch.utils.data.DataLoader(data, num_workers=workers, **kwargs), (3, 0))


def test_samples_depend_on_their_position_only():
    states = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    loader = make_loader(batch_size=4)
    first, second = torch.cat(list(loader)), torch.cat(list(loader))
    assert states[:2] == [random.getstate(), np.random.get_state()[1].tolist()]
    assert not torch.equal(first, second)  # another pass, other numbers
    assert len(first[:, 0].unique()) == 10
    for workers in (0, 2):
        loader = make_loader(workers, batch_size=4)
        random.random(), np.random.rand(), torch.rand(1)
        assert loader.skip(4) == 1  # of the second pass, the first batch
        loader.position = 4
        assert torch.equal(torch.cat(list(loader)), second[4:])
        assert len(loader) == 3


def test_seeds_differ():
    drawn = set()
    for key in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0, 1), (0, 0, 0)):
        seed_generators(*key)
        drawn |= {random.random(), np.random.rand(), torch.rand((), dtype=torch.float64).item()}
    assert len(drawn) == 15


# ---------------------------------------------------------------- finding what to resume


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A work directory with three checkpoints."""
    folder = tmp_path_factory.mktemp('toy') / 'work'
    with pytest.MonkeyPatch.context() as patch:
        for registry, kind in ((DATASETS, Noise), (MODELS, Toy), (METRICS, Best)):
            patch.setitem(registry._module_dict, kind.__name__, kind)
        cfg = toy_config(folder, max_keep_ckpts=-1, save_best=None)
        cfg.train_cfg.max_epochs = 3
        assert run_toy(cfg) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it, elsewhere: a moved folder."""
    return shutil.copytree(trained, tmp_path / 'moved')


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(('break_it', 'found', 'line'), [
    (lambda f: None, 'epoch_3.pth', ''),
    (lambda f: cut(f / 'epoch_3.pth'), 'epoch_2.pth', 'epoch_3.pth is cut short'),
    (lambda f: (f / 'last_checkpoint').write_text(''), 'epoch_3.pth', 'last_checkpoint is empty'),
    (lambda f: (f / 'last_checkpoint').unlink(), 'epoch_3.pth', 'last_checkpoint is missing'),
    (lambda f: (f / 'epoch_3.pth').unlink(), 'epoch_2.pth', 'epoch_3.pth, which last_checkpoint'),
    # as mmengine writes it
    (lambda f: (f / 'last_checkpoint').write_text('/gone/epoch_2.pth'), 'epoch_2.pth', ''),
    (lambda f: [cut(p) for p in f.glob('*.pth')], None, ''),
])  # fmt: skip
def test_the_newest_whole_checkpoint_is_found(folder, caplog, monkeypatch, break_it, found, line):
    said = []
    monkeypatch.setattr('mmsb.engine.checkpointing.print_log', lambda text, *_: said.append(text))
    shutil.copy(folder / 'epoch_1.pth', folder / 'best_acc_epoch_9.pth')
    if found is None:
        (folder / 'best_acc_epoch_9.pth').unlink()
    break_it(folder)
    path = latest_checkpoint(folder)
    assert path == (found and str(folder / found))
    assert len(said) == bool(line) and all(line in text and '\n' not in text for text in said)


def test_restarted_processes_resume(folder, monkeypatch):
    cfg = toy_config(folder)
    find_resumed(cfg, None)
    assert not cfg.get('resume')
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    find_resumed(cfg, str(folder / 'epoch_1.pth'))  # what the first start resumed from
    assert cfg.resume and cfg.load_from == str(folder / 'epoch_3.pth')


def test_a_new_training_forgets_the_old_one(folder):
    cfg = toy_config(folder)
    cfg.train_cfg.max_epochs = 4
    cfg.default_hooks.checkpoint.interval = 9
    cfg.default_hooks.checkpoint.save_last = False
    cfg.default_hooks.checkpoint.save_best = None
    assert run_toy(cfg) == 0
    assert not (folder / 'last_checkpoint').exists() and (folder / 'epoch_3.pth').exists()


@pytest.mark.parametrize(('lost', 'message'), [
    (dict(save_optimizer=False), 'it lacks optimizer, so the schedule would start again'),
    (dict(save_param_scheduler=False), 'it lacks param_schedulers'),
    ('weights', 'it holds weights without the state of a training'),
])  # fmt: skip
def test_what_cannot_be_resumed_is_refused(tmp_path, trained, lost, message):
    cfg = toy_config(tmp_path / 'work', **(lost if isinstance(lost, dict) else {}))
    cfg.train_cfg.max_epochs = 1
    assert run_toy(cfg) == 0
    find_resumed(cfg, 'auto')
    check_resumed(cfg)  # nothing is left to train: only the validation may be due
    cfg.train_cfg.max_epochs = 2
    if lost == 'weights':
        weights = load_checkpoint_file(cfg.load_from)['state_dict']
        torch.save(dict(state_dict=weights), cfg.load_from)
    assert_one_line(lambda: check_resumed(cfg), message)


# ---------------------------------------------------------------- a full disk


def test_a_full_disk_is_one_line(root, tmp_path, monkeypatch):
    """The checkpoint that does not fit is not there, the one before is whole."""
    pytest.importorskip('mmseg')
    put, calls = LocalBackend.put, []

    def full(self, content, path):
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(content[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        put(self, content, path)

    monkeypatch.setattr(LocalBackend, 'put', full)
    config = root / 'configs/longrange/fcn_sb_r14_600_longrange-row.py'
    options = ['train_cfg.max_iters=3', 'train_dataloader.batch_size=2', 'param_scheduler=None',
               'default_hooks.checkpoint.interval=1',
               'default_hooks.checkpoint.max_keep_ckpts=1']  # fmt: skip
    args = parse_train_args([str(config), '--work-dir', str(tmp_path), '--no-validate',
                             '--cfg-options', *options])  # fmt: skip
    with pytest.raises(UserError, match=r'iter_2\.pth: No space left on device') as error:
        train(args)
    assert '\n' not in str(error.value)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_1.pth']
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'iter_1.pth')
    assert not list(tmp_path.glob('.*'))
