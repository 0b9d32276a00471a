"""The page on the long-range tasks: from made-up logs, then from real trainings of an iteration."""

import json
import re
import shlex
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmsb.analysis.longrange_report import NETWORKS, write_longrange_report
from tests import readme
from tests.conftest import ROOT, assert_one_line

pytest.importorskip('mmseg.models')
RANGES = ('16-24px', '24-32px')


def made_up_run(work_dir, network, task, seed, accuracy):
    """What a training leaves, its weights untrained; it took 0.25 s an iteration but the first."""
    config = f'fcn_{network}_600_longrange-{task}'
    folder = work_dir / config / f'seed_{seed}'
    (folder / '1/vis_data').mkdir(parents=True)
    cfg = Config.fromfile(ROOT / f'configs/longrange/{config}.py')
    cfg.dump(folder / f'{config}.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'iter_600.pth')
    (folder / 'last_checkpoint').write_text('/where/it/was/trained/iter_600.pth')
    lines = [dict(loss=1, step=50 * n, time=9 if n == 1 else 0.25) for n in (1, 2, 3)]
    last = dict(zip(('accuracy', *RANGES), (accuracy, accuracy + 1, accuracy - 1), strict=True))
    lines.append(dict(last, step=150))
    (folder / '1/vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    record = dict(config=f'{config}.py', seed=seed, device='a machine', last=last)
    (folder / 'run.json').write_text(json.dumps(record))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Plain and SB on 'row', two seeds, SB on 'any' too, one ablation."""
    for seed, (plain, sb) in enumerate([(30.5, 90.0), (35.0, 97.25)]):
        made_up_run(tmp_path, 'r14', 'row', seed, plain)
        made_up_run(tmp_path, 'sb_r14', 'row', seed, sb)
    made_up_run(tmp_path, 'sb_r14', 'any', 0, 80.0)
    made_up_run(tmp_path, 'sb_r14-size2', 'row', 0, 60.0)
    return tmp_path


def rows_of(page):
    rows = [line.strip('| ').split(' | ') for line in page.splitlines() if line.startswith('|')]
    return {row[0]: row[1:] for row in rows}


def cell(*values):
    """Mean ± sample standard deviation (number), by numpy."""
    spread = f' ± {np.std(values, ddof=1):.1f}' if len(values) > 1 else ''
    return f'{np.mean(values):.1f}{spread} ({len(values)})'


def test_figures_in_the_docs_are_the_measured_ones():
    found = json.loads((ROOT / 'benchmarks/results/longrange.json').read_text())['runs']
    rows = rows_of((ROOT / 'docs/longrange.md').read_text())
    for network, (title, _) in NETWORKS.items():
        for column, task in enumerate(('any', 'row'), 2):
            name = f'fcn_{network}_600_longrange-{task}.py'
            of_seeds = [run for run in found if run['config'].endswith(name)]
            assert sorted(run['seed'] for run in of_seeds) == [0, 1, 2]
            assert rows[title][column] == cell(*(run['last']['accuracy'] for run in of_seeds))


def test_page(runs):
    unfinished = runs / 'fcn_gc_r14_600_longrange-row/seed_0'
    unfinished.mkdir(parents=True)
    (unfinished / 'run.json').write_text('{"config": "c.py", "seed": 0}')
    path = write_longrange_report(runs)
    assert path == runs / 'report/report.html'
    page = path.with_name('report.md').read_text()
    rows = rows_of(page)

    # 3 x 3 stem, four bottlenecks of 64 channels, 16 inside, with their norms, and the head
    first = 16 * 16 + 9 * 16 * 16 + 16 * 64 + 2 * (16 + 16 + 64) + (16 * 64 + 2 * 64)
    rest = 3 * (64 * 16 + 9 * 16 * 16 + 16 * 64 + 2 * (16 + 16 + 64))
    plain = 27 * 16 + 2 * 16 + first + rest + 64 * 3 + 3
    assert rows['plain'] == [f'{plain:,}', '0.25', '–', cell(30.5, 35)]
    assert rows['SB'][1:] == ['0.25', cell(80), cell(90, 97.25)]
    assert rows['sb_r14-size2'][3] == cell(60)
    assert list(rows).index('plain') < list(rows).index('SB')
    assert 'GC' not in rows and 'a machine' in page
    found = json.loads(path.with_name('results.json').read_text())['runs']
    assert sorted(run['last']['accuracy'] for run in found) == [30.5, 35, 60, 80, 90, 97.25]
    for name in ('distance.png', 'scenes.png'):
        assert f'({name})' in page
        assert cv2.imread(str(path.with_name(name))).std() > 10


def test_nothing_to_report(tmp_path):
    (tmp_path / 'other/seed_0').mkdir(parents=True)
    (tmp_path / 'other/seed_0/run.json').write_text('{"last": {}}')
    assert_one_line(
        lambda: write_longrange_report(tmp_path), 'no finished run of configs/longrange'
    )
    assert not (tmp_path / 'report').exists()


@pytest.mark.parametrize('name', ['run.json', 'last_checkpoint', 'iter_600.pth'])
def test_damaged(runs, name):
    path = runs / 'fcn_r14_600_longrange-row/seed_0' / name
    path.write_text('{') if name == 'run.json' else path.unlink()
    assert_one_line(lambda: write_longrange_report(runs), 'fcn_r14_600_longrange-row/seed_0')
    assert not (runs / 'report/report.html').exists()


def test_readme_commands_one_iteration_each(run_tool, tmp_path):
    _, tool, pattern, *flags = shlex.split(readme.command('train long-range'))
    assert len(list(ROOT.glob(pattern))) == 12
    configs = [f'configs/longrange/fcn_{name}_600_longrange-row.py' for name in ('r14', 'sb_r14')]
    assert {ROOT / config for config in configs} < set(ROOT.glob(pattern))
    assert flags[:-1] == ['--seeds', '0', '1', '2', '--work-dir']
    short = ['train_cfg.max_iters=1', 'param_scheduler.total_steps=1']
    short += ['train_dataloader.batch_size=2', 'val_dataloader.dataset.num_images=4']
    short += ['default_hooks.logger.interval=1']
    flags = ['--seeds', '0', '--work-dir', tmp_path, '--cfg-options', *short]
    done = run_tool(sys.executable, tool, *configs, *flags)
    assert done.stdout.count('| last |') == 2
    _, tool, folder = shlex.split(readme.command('long-range report'))
    assert folder == shlex.split(readme.command('train long-range'))[-1]
    done = run_tool(sys.executable, tool, tmp_path)
    assert re.search(r'plain +19,219 .*\(1\)', done.stdout)
    assert (tmp_path / 'report/report.html').is_file()
