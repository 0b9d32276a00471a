"""Several seeds of several configs: with a stand-in for the training, then with the real one."""

import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmsb
from mmsb.analysis.reports.seeds import seed_table
from mmsb.engine.arguments import parse_seeds_args, parse_train_args
from mmsb.engine.seeds import finished_runs, train_seeds
from mmsb.engine.training_log import read_log
from mmsb.utils.errors import UserError
from mmsb.utils.processes import locked
from tests import readme
from tests.conftest import MINI_SB, ROOT, TINY
from tests.test_engine.test_restarting import ended, wait_for

# Trains for three epochs, as far as a work directory shows: logs, checkpoints. STOP, as
# 'CONFIG SEED EPOCH WHERE': where a training ends with exit code 3. MEET: a training waits until
# this many are there. OUTLAST: the others wait until that one has stopped, and a little longer.
TRAIN = """
import argparse, json, os, time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument('config', type=Path)
for name in ('--work-dir', '--seed'):
    parser.add_argument(name, required=True)
parser.add_argument('--resume', action='store_true')
parser.add_argument('--cfg-options', nargs='+')
parser.add_argument('--amp', action='store_true')
parser.add_argument('--launcher')
args = parser.parse_args()
work_dir, seed, name = Path(args.work_dir), int(args.seed), args.config.stem
with open('calls', 'a') as calls:
    calls.write(f'{name} {seed}' + ' resumed' * args.resume + '\\n')
print(f'training {name} {seed}')
(work_dir / 'environment').write_text(json.dumps({**os.environ, 'launcher': args.launcher}))
Path(f'here_{name}_{seed}').touch()
deadline = time.monotonic() + 60
while len(list(Path().glob('here_*'))) < int(os.environ.get('MEET', 0)):
    assert time.monotonic() < deadline, 'alone'
    time.sleep(0.02)
last = work_dir / 'last_checkpoint'
start = int(last.read_text()) if args.resume else 0
folder = work_dir / f'2026010{len(list(work_dir.glob("2*"))) + 1}_000000' / 'vis_data'
folder.mkdir(parents=True)

def stop(epoch, where):
    if os.environ.get('STOP') == f'{name} {seed} {epoch} {where}':
        Path('stopped').touch()
        os._exit(3)

with open(folder / 'scalars.json', 'w', buffering=1) as file:
    for epoch in range(start + 1, 4):
        for step in (2 * epoch - 1, 2 * epoch):
            print(json.dumps({'lr': 1, 'loss': 1, 'epoch': epoch, 'step': step}), file=file)
        stop(epoch, 'train')
        last.write_text(str(epoch))
        stop(epoch, 'val')
        top1 = {1: 60, 2: 80, 3: 75}[epoch] + len(name) + seed**2 / 3
        line = {'accuracy/top1': top1, 'accuracy/top5': 90 + seed - epoch, 'data_time': 1}
        print(json.dumps(dict(line, time=1, step=epoch)), file=file)
if os.environ.get('OUTLAST'):
    while not Path('stopped').exists():
        time.sleep(0.02)
    time.sleep(1)
"""
CONFIG = """
train_dataloader = val_dataloader = dict(dataset=dict(type='D'))
val_evaluator = dict(type='M')
lr = 1
"""
SEEDS = [0, 1, 4]


def top1(config, seed, epoch):
    """What the stand-in logs."""
    return {2: 80, 3: 75}[epoch] + len(config) + seed**2 / 3


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder of two configs, and of tools that train at once; the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ('STOP', 'MEET', 'OUTLAST'):
        monkeypatch.delenv(name, raising=False)
    Path('tools').mkdir()
    Path('tools/train.py').write_text(TRAIN)
    Path('tools/dist_train.sh').write_text(
        '#!/bin/sh\nconfig=$1 n=$2; shift 2\necho "$n processes" >> calls\n'
        'exec "$PYTHON" tools/train.py "$config" "$@"\n'
    )
    Path('tools/dist_train.sh').chmod(0o755)
    for name in ('a.py', 'bb.py'):
        Path(name).write_text(CONFIG)
    return tmp_path


def train(configs=('a.py', 'bb.py'), seeds=SEEDS, flags=(), **kwargs):
    return train_seeds(configs, seeds, 'work', 'tools', flags=flags, **kwargs)


def calls():
    return Path('calls').read_text().splitlines() if Path('calls').exists() else []


def test_figures(fake):
    runs = train()
    assert calls() == [f'{name} {seed}' for seed in SEEDS for name in ('a', 'bb')]
    for run in runs:
        seed, name = run['seed'], Path(run['config']).stem
        assert (run['epochs'], run['best_epoch']) == (3, 2)
        assert run['last'] == {
            'accuracy/top1': top1(name, seed, 3), 'accuracy/top5': 87 + seed
        }  # fmt: skip
        assert run['best'] == {
            'accuracy/top1': top1(name, seed, 2), 'accuracy/top5': 88 + seed
        }  # fmt: skip
        assert run['device'].split() and run['versions'].keys() == {'mmsb', 'torch', 'torchvision'}
        assert run['versions']['mmsb'] == mmsb.__version__
    assert finished_runs(['a.py'], SEEDS, 'work') == runs[::2]
    row = next(line for line in seed_table(runs).splitlines() if '| bb | 3 | best' in line)
    errors = [100 - top1('bb', seed, 2) for seed in SEEDS]
    assert f'| {np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f} |' in row


@pytest.mark.parametrize('where', ['train', 'val'])
def test_a_stopped_run_goes_on(fake, monkeypatch, where):
    """Stopped in epoch 3 before or after its checkpoint; the curve is whole all the same."""
    monkeypatch.setenv('STOP', f'bb 1 2 {where}')
    with pytest.raises(UserError) as error:
        train()
    assert re.fullmatch(
        r'bb\.py, seed 1 stopped with exit code 3 .*run the same command again .*', str(error.value)
    )
    assert error.value.exit_code == 3
    assert calls()[-1] == 'bb 1'
    done = finished_runs(['a.py', 'bb.py'], SEEDS, 'work')
    assert [(run['config'], run['seed']) for run in done] == [
        ('a.py', 0),
        ('bb.py', 0),
        ('a.py', 1),
    ]

    monkeypatch.delenv('STOP')
    before = len(calls())
    run = train()[3]
    assert calls()[before:] == ['bb 1 resumed', 'a 4', 'bb 4']
    log = read_log(Path('work/bb/seed_1'))
    assert [line['step'] for line in log.train] == [1, 2, 3, 4, 5, 6]
    # The validation during which it was stopped was never logged.
    assert [line['step'] for line in log.val] == ([1, 2, 3] if where == 'train' else [1, 3])
    assert run['last']['accuracy/top1'] == top1('bb', 1, 3)
    assert run['best_epoch'] == (2 if where == 'train' else 3)


def test_a_second_call_trains_nothing(fake):
    runs = train()
    before = calls()
    assert train() == runs
    assert calls() == before


def test_a_run_without_a_checkpoint_starts_again(fake, monkeypatch):
    monkeypatch.setenv('STOP', 'a 0 1 train')
    with pytest.raises(UserError, match='exit code 3'):
        train()
    monkeypatch.delenv('STOP')
    # There is nothing to keep: a call with the mistake corrected is not refused.
    runs = train(['a.py'], flags=['--cfg-options', 'lr=2'])
    assert calls()[:2] == ['a 0', 'a 0']
    assert [line['step'] for line in read_log(Path('work/a/seed_0')).train] == [1, 2, 3, 4, 5, 6]
    assert runs[0]['flags'] == ['--cfg-options', 'lr=2']


def test_stopped_during_the_last_validation(fake, monkeypatch):
    monkeypatch.setenv('STOP', 'a 0 3 val')
    with pytest.raises(UserError, match='exit code 3'):
        train()
    for _ in range(2):
        with pytest.raises(UserError, match=r'a\.py, seed 0, in \S+/a/seed_0: .* no metrics after'):
            train()


def test_processes(fake):
    (run,) = train(['a.py'], [0], processes=3)
    assert calls() == ['3 processes', 'a 0']
    assert run['processes'] == 3


def test_iterations_and_the_mean_iou(fake):
    """A segmentor's log: iterations, and a first metric that is not the one to be best at."""
    lines = [
        *({'loss': 1, 'step': step, 'iter': step} for step in (50, 100)),
        {'aAcc': 90.0, 'mIoU': 30.0, 'mAcc': 40.0, 'time': 1, 'step': 100},
        *({'loss': 1, 'step': step, 'iter': step} for step in (150, 200)),
        {'aAcc': 91.0, 'mIoU': 29.0, 'mAcc': 41.0, 'time': 1, 'step': 200},
    ]
    logging(*lines)
    (run,) = train(['a.py'], [0])
    assert (run['iterations'], run['best_iteration']) == (200, 100)
    assert run['last'] == {'aAcc': 91.0, 'mIoU': 29.0, 'mAcc': 41.0}
    assert run['best'] == {'aAcc': 90.0, 'mIoU': 30.0, 'mAcc': 40.0}


def logging(*lines):
    """Makes the stand-in leave this log."""
    Path('tools/train.py').write_text(
        'import sys; from pathlib import Path\n'
        'folder = Path(sys.argv[sys.argv.index("--work-dir") + 1]) / "20260101/vis_data"\n'
        'folder.mkdir(parents=True)\n'
        f'(folder / "scalars.json").write_text({chr(10).join(map(json.dumps, lines))!r})\n'
    )


COCO_CONFIG = CONFIG.replace("'M'", "'mmdet.CocoMetric', metric=['bbox', 'segm']")


@pytest.mark.parametrize('prefix', ['coco', 'mine'])
def test_the_best_box_ap(fake, prefix):
    """The metrics of classes come first, and can be NaN."""
    Path('a.py').write_text(COCO_CONFIG)
    lines = []
    for epoch, (cat, box_ap) in enumerate([(0.4, 0.3), (float('nan'), 0.35), (0.9, 0.2)], 1):
        lines.append({'loss': 1, 'epoch': epoch, 'step': epoch})
        lines.append({f'{prefix}/cat_precision': cat, f'{prefix}/bbox_mAP': box_ap, 'step': epoch})
    logging(*lines)
    (run,) = train(['a.py'], [0])
    assert (run['best_epoch'], run['best'][f'{prefix}/bbox_mAP']) == (2, 0.35)
    assert run['last'] == {f'{prefix}/cat_precision': 0.9, f'{prefix}/bbox_mAP': 0.2}


def test_a_detector_without_boxes(fake, capfd):
    """mmdet logs no metrics for it: its AP is 0, and the other seeds train."""
    Path('a.py').write_text(COCO_CONFIG)
    logging({'loss': 1, 'epoch': 1, 'step': 1}, {'time': 1, 'data_time': 1, 'step': 1})
    runs = train(['a.py'], [0, 1])
    zeros = {f'coco/{kind}_mAP{of}': 0.0 for kind in ('bbox', 'segm') for of in ('', '_50', '_75')}
    assert [run['last'] for run in runs] == [run['best'] for run in runs] == [zeros] * 2
    assert 'a.py, seed 1' in capfd.readouterr().err and runs[0]['best_epoch'] == 1

    with pytest.raises(
        UserError, match=r'bb\.py.* its metric gave none; remove the folder to train'
    ):
        train(['bb.py'], [0])


def test_data_of_the_validation(fake):
    """Equal for configs that differ in how they read it, and otherwise."""
    pipeline = CONFIG.replace("type='D'", "type='D', pipeline=[dict(type='Resize')]")
    Path('a.py').write_text(CONFIG + 'batch = 2\n')
    Path('bb.py').write_text(pipeline)
    Path('c.py').write_text(CONFIG.replace("type='D'", "type='D', task='row'"))
    a, bb, c = (run['validation_sha256'] for run in train(['a.py', 'bb.py', 'c.py'], [0]))
    assert a == bb != c


def test_runs_that_are_no_mean_of_one_experiment(fake, monkeypatch, capfd):
    train(['a.py'], [0])
    train(['a.py'], [2], flags=['--cfg-options', 'lr=2'])  # not refused: seed 0 is not asked for
    message = (
        r'work: seeds 0 and 2 of a were trained with different settings \(flags, config_sha256\)'
    )
    with pytest.raises(UserError, match=message):
        finished_runs(['a.py'], [0, 2], 'work')
    monkeypatch.setenv('STOP', 'bb 0 2 val')
    with pytest.raises(UserError):
        train(['bb.py'], [0])
    capfd.readouterr()
    assert [run['seed'] for run in finished_runs(['a.py', 'bb.py'], [0, 1], 'work')] == [0]
    assert (
        capfd.readouterr().err
        == 'not finished, left out: bb.py, seed 0; a.py, seed 1; bb.py, seed 1\n'
    )


@pytest.mark.parametrize(('change', 'message'), [
    (dict(flags=['--amp']), r'holds a run of a\.py with other settings \(flags\)'),
    (dict(processes=2), r'other settings \(processes\)'),
    (dict(flags=['--cfg-options', 'lr=2']), r'other settings \(flags, config_sha256\)'),
    ('edited', r'other settings \(config_sha256\): give another --work-dir'),
    ('other config', r'holds a run of a\.py with other settings \(config_sha256\)'),
    ('foreign', r'work/a/seed_0 holds other files: give another --work-dir'),
    ('a file', r'work/a/seed_0 holds other files'),
    ('damaged', r'run\.json is damaged .*: remove \S+/a/seed_0'),
])  # fmt: skip
def test_folders_of_other_runs_are_refused(fake, change, message):
    folder, config = Path('work/a/seed_0'), 'a.py'
    if change in ('foreign', 'a file'):
        folder.parent.mkdir(parents=True)
        folder.mkdir() if change == 'foreign' else folder.write_text('')
        if change == 'foreign':
            (folder / 'epoch_1.pth').write_text('')
    else:
        train(['a.py'], [0])
    if change == 'edited':
        Path('a.py').write_text(CONFIG + 'more = 1\n')
    elif change == 'other config':
        Path('other').mkdir()
        config = 'other/a.py'
        Path(config).write_text(CONFIG.replace('lr = 1', 'lr = 3'))
    elif change == 'damaged':
        (folder / 'run.json').write_text('{"config"')
    before = calls()
    with pytest.raises(UserError, match=message) as error:
        # seed 1 could be trained, but nothing is before all is checked
        train([config], [1, 0], **(change if isinstance(change, dict) else {}))
    assert '\n' not in str(error.value)
    assert calls() == before


@pytest.mark.parametrize(('arguments', 'message'), [
    (['no.py'], r'config no\.py does not exist'),
    (['a.py', '--seeds'], 'give at least one seed'),
    ([], 'give at least one config'),
    (['a.py', '--seeds', '0', '-1'], 'seed -1: give 0 or more'),
    (['a.py', '--seeds', '3', '3'], 'seed 3 is given twice'),
    (['a.py', 'other/a.py'], 'config a is given twice'),
    (['a.py', '--processes', '0'], 'number of processes is 0'),
    (['a.py', '--jobs', '0'], 'number of jobs is 0'),
    (['a.py', '--slurm', 'gpu'], 'there is no srun on this machine'),
    (['a.py', '--baseline', 'bb.py'], '--baseline bb.py is not one of the configs'),
    (['a.py', '--out', 'figures.txt'], r'--out figures\.txt: metrics are written as NAME\.json'),
    (['a.py', '--summarize'], 'no run of these configs and seeds is finished in work_dirs/seeds'),
    (['a.py', '--summarize', '--out', 'x.json'], '--summarize writes no file'),
    (['a.py', '--cfg-options', 'lr'], '--cfg-options lr: give KEY=VALUE'),
    (['a.py', '--cfg-options', 'val_evaluator=None'], 'has no validation'),
    (['a.py', '--cfg-options', 'train_dataloader.dataset.ann_file=x'], 'x does not exist'),
])  # fmt: skip
def test_bad_input(fake, monkeypatch, capsys, arguments, message):
    import runpy

    monkeypatch.setattr(sys, 'argv', ['train_seeds.py', *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / 'tools/train_seeds.py'), run_name='__main__')
    assert stop.value.code == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith('error: ') and re.search(message, line)
    assert not printed.out and not Path('work_dirs').exists()


def test_flags_are_those_of_training():
    flags = ['--amp', '--auto-scale-lr', '--no-pin-memory', '--no-persistent-workers',
             '--amp-dtype', 'bfloat16', '--cfg-options', 'a=1', 'b=[1,2]']  # fmt: skip
    args = parse_seeds_args(['x.py', *flags, '--seeds', '7'])
    assert args.flags == flags and args.seeds == [7] and args.configs == ['x.py']
    passed = parse_train_args(['x.py', *args.flags])
    assert passed.amp and passed.amp_dtype == 'bfloat16' and passed.auto_scale_lr
    assert passed.no_pin_memory and passed.no_persistent_workers
    assert passed.cfg_options == dict(a=1, b=[1, 2])
    assert parse_seeds_args(['x.py']).flags == []


def test_one_call_at_a_time(fake):
    with locked('work', 'train_seeds.py'):
        with pytest.raises(UserError, match=r'another train_seeds\.py works in work: wait until'):
            train()
        assert not calls()
    assert train(['a.py'], [0])


def environment(name, seed):
    return json.loads(Path(f'work/{name}/seed_{seed}/environment').read_text())


def test_side_by_side(fake, monkeypatch, capfd):
    """Two meet, so neither waits for the other; the figures are those of one after the other."""
    monkeypatch.setenv('MEET', '2')
    runs = train(jobs=2)
    assert [(run['config'], run['seed']) for run in runs] == [
        (config, seed) for seed in SEEDS for config in ('a.py', 'bb.py')
    ]
    for run in runs:
        name, seed = Path(run['config']).stem, run['seed']
        assert run['last']['accuracy/top1'] == top1(name, seed, 3)
        output = Path(f'work/{name}/seed_{seed}/output.txt').read_text()
        assert output == f'training {name} {seed}\n'
    printed = capfd.readouterr()
    lines = printed.err.splitlines()
    for number, run in enumerate(runs, 1):
        start = f'[{number}/6] {run["config"]}, seed {run["seed"]}: '
        assert [line.removeprefix(start).split()[0] for line in lines if start in line] == [
            'starts', 'finished'
        ]  # fmt: skip
    assert len(lines) == 12 and not printed.out
    assert train() == runs  # how many at a time is no setting of a run


def test_a_failure_beside_another_training(fake, monkeypatch, capfd):
    """The other one ends well, and no third starts; then the rest continues, two at a time."""
    monkeypatch.setenv('STOP', 'a 0 2 val')
    monkeypatch.setenv('MEET', '2')
    monkeypatch.setenv('OUTLAST', '1')
    with pytest.raises(UserError) as error:
        train(seeds=[0, 1], jobs=2)
    assert re.fullmatch(
        r'a\.py, seed 0 stopped with exit code 3 \(its own message is in \S+/a/seed_0/output.txt\)'
        '; run the same command again to continue', str(error.value)
    )  # fmt: skip
    assert error.value.exit_code == 3
    assert sorted(calls()) == ['a 0', 'bb 0']
    (done,) = finished_runs(['a.py', 'bb.py'], [0, 1], 'work')
    assert done['config'] == 'bb.py'
    failed = '[1/4] a.py, seed 0: failed; no other run starts, 1 still train'
    assert failed in capfd.readouterr().err.splitlines()

    monkeypatch.delenv('STOP')
    monkeypatch.delenv('OUTLAST')
    runs = train(seeds=[0, 1], jobs=2)
    assert sorted(calls()[2:]) == ['a 0 resumed', 'a 1', 'bb 1']
    assert [run['last']['accuracy/top1'] for run in runs] == [
        top1(name, seed, 3) for seed in (0, 1) for name in ('a', 'bb')
    ]
    assert Path('work/a/seed_0/output.txt').read_text().count('training a 0') == 2


@pytest.mark.parametrize(('visible', 'wanted'), [
    (None, ['0,1', '2,3']), ('7,5,GPU-ab,2,1', ['7,5', 'GPU-ab,2']),
])  # fmt: skip
def test_jobs_use_different_gpus(fake, monkeypatch, visible, wanted):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 5)
    monkeypatch.setattr('mmsb.engine.seeds.device_name', lambda: 'a GPU')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    monkeypatch.setenv('MEET', '2')
    train(seeds=[0], jobs=2, processes=2)
    assert [environment(name, 0)['CUDA_VISIBLE_DEVICES'] for name in ('a', 'bb')] == wanted
    with pytest.raises(UserError, match=r'--jobs 3 with 2 .* needs 6 GPUs, but there are 5'):
        train(seeds=[1], jobs=3, processes=2)
    assert not Path('work/a/seed_1').exists()


def test_jobs_share_the_cores(fake, monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    monkeypatch.setattr('os.cpu_count', lambda: 12)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setenv('MKL_NUM_THREADS', '5')
    train(['a.py'], [0], jobs=2, processes=2)
    found = environment('a', 0)
    assert (found['OMP_NUM_THREADS'], found['MKL_NUM_THREADS']) == ('3', '5')


def test_slurm(fake, monkeypatch):
    """With the real slurm_train.sh and a fake srun: all jobs at a time, each with its port."""
    for name in ('slurm_train.sh', 'slurm.sh', 'environment.sh'):
        shutil.copy(ROOT / 'tools' / name, 'tools')
    Path('bin').mkdir()
    Path('bin/srun').write_text(
        '#!/bin/bash\necho "$@" >> srun.log\nwhile [[ "$1" != */python* ]]; do shift; done\n"$@"\n'
    )
    Path('bin/srun').chmod(0o755)
    monkeypatch.setenv('PATH', f'{fake / "bin"}:{os.environ["PATH"]}')
    monkeypatch.delenv('MASTER_PORT', raising=False)
    monkeypatch.setenv('GPUS', '99')
    monkeypatch.setenv('MEET', '4')
    runs = train(seeds=[0, 1], processes=2, partition='gpu')
    assert [run['last']['accuracy/top1'] for run in runs] == [
        top1(name, seed, 3) for seed in (0, 1) for name in ('a', 'bb')
    ]
    assert {run['device'] for run in runs} == {'CPU of Slurm partition gpu'}
    asked = re.findall(
        r'^-p gpu --job-name=(\S+) --gres=gpu:2 --ntasks=2 ', Path('srun.log').read_text(), re.M
    )
    assert sorted(asked) == ['a_0', 'a_1', 'bb_0', 'bb_1']
    found = [environment(name, seed) for name in ('a', 'bb') for seed in (0, 1)]
    assert {of['launcher'] for of in found} == {'slurm'}
    assert {of['MASTER_PORT'] for of in found} == {'29500', '29501', '29502', '29503'}
    assert Path('work/a/seed_0/output.txt').read_text() == 'training a 0\n'

    monkeypatch.setenv('MASTER_PORT', 'x')
    with pytest.raises(UserError, match='MASTER_PORT'):
        train(partition='gpu')


@pytest.mark.parametrize(
    ('how', 'jobs'), [(signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGKILL, 2)]
)
def test_no_training_is_left_behind(fake, how, jobs):
    Path('tools/train_seeds.py').write_text((ROOT / 'tools/train_seeds.py').read_text())
    Path('tools/train.py').write_text(
        'import os, time; open(f"{os.getpid()}.pid", "w"); time.sleep(600)'
    )
    process = subprocess.Popen(
        [sys.executable, 'tools/train_seeds.py', 'a.py', '--jobs', str(jobs)],
        # a shell's background jobs ignore Ctrl-C, and so do their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: len(list(Path().glob('*.pid'))) == jobs, process)
    pids = [int(path.stem) for path in Path().glob('*.pid')]
    process.send_signal(how)
    assert process.wait(timeout=60) == (-how if how == signal.SIGKILL else 130)
    wait_for(lambda: all(map(ended, pids)))
    with locked('work_dirs/seeds', 'train_seeds.py'):
        pass


def test_what_does_not_end_is_killed(fake, monkeypatch):
    """A training that ignores SIGTERM, and its worker, when the user stops the tool."""
    monkeypatch.setattr('mmsb.engine.seeds.END_SECONDS', 0.5)
    Path('tools/train.py').write_text(
        'import os, signal, time\n'
        'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        'os.fork()\n'
        'open(f"{os.getpid()}.pid", "w")\n'
        'time.sleep(600)\n'
    )

    def interrupt(_):
        if len(list(Path().glob('*.pid'))) == 4:
            patch.undo()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr('time.sleep', interrupt)
        train(seeds=[0], jobs=2)
    pids = [int(path.stem) for path in Path().glob('*.pid')]
    wait_for(lambda: all(map(ended, pids)))


def test_three_seeds(run_tool, mini_coco, tmp_path, monkeypatch):
    """README's command, with the mini detector and two seeds; called again, it trains nothing."""
    pytest.importorskip('mmdet')
    command = readme.command('three seeds').replace('python ', f'{sys.executable} ')
    command = re.sub(r'configs/\S+', MINI_SB, command).replace('--seeds 0 1 2', '--seeds 0 1')
    assert command.endswith(f'{MINI_SB} --seeds 0 1')
    work, out = tmp_path / 'work', tmp_path / 'out.json'
    options = shlex.join(['--work-dir', str(work), '--out', str(out), '--cfg-options', *TINY])
    done = run_tool('bash', '-c', f'{command} {options}')
    runs = json.loads(out.read_text())['runs']
    values = []
    for seed, run in enumerate(runs):
        assert (run['config'], run['seed'], run['epochs']) == (MINI_SB, seed, 1)
        folder = work / 'faster_rcnn_sb_r18_fpn_mini_coco' / f'seed_{seed}'
        log = next(folder.glob('*/*.log')).read_text()
        assert re.search(rf'^\s*seed: {seed}$', log, re.M)
        printed = re.findall(r'bbox_mAP_50: (\S+)', log)[-1]
        assert f'{run["last"]["coco/bbox_mAP_50"]:.4f}' == printed
        assert run['last'] == run['best'] and {'torch', 'torchvision'} < run['versions'].keys()
        values.append(run['last']['coco/bbox_mAP_50'])
    cell = f'{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}'
    assert cell in done.stdout and done.stdout.startswith('| config | seeds |')

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv('MMSB_COCO_ROOT', str(mini_coco))
    monkeypatch.setattr(subprocess, 'Popen', None)
    flags = ['--cfg-options', *TINY]
    assert train_seeds([MINI_SB], [0, 1], work, ROOT / 'tools', flags=flags) == runs
