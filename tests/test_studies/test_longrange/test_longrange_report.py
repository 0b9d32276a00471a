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

from mmsb.studies.longrange.dataset import ORDER_POOLED, TASKS
from mmsb.studies.longrange.report import ABLATIONS, NETWORKS, write_longrange_report
from tests import readme
from tests.conftest import ROOT, assert_one_line

pytest.importorskip('mmseg.models')
RANGES = ('16-24px', '24-32px')
DOCS, REPRODUCE = ROOT / 'docs/longrange.md', ROOT / 'docs/reproduce.md'
SIZE_ON_CIFAR = {'sb_r14': 'sb_resnet65-s12-size10', 'sb_r14-size6': 'sb_resnet65-s12'}


def on_cifar(title, network):
    """The ResNet-65 of the paper's table that varies the same."""
    name = network.replace('sb_r14', 'sb_resnet65-s12').replace('sb_r11', 'sb_resnet65')
    name = re.sub('^r1[14]$', 'resnet65', name)
    return SIZE_ON_CIFAR.get(network, name) if title == 'Grid' else name


def made_up_run(work_dir, network, task, seed, accuracy, training=(33, 50, 60)):
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
    lines = [
        {'loss': 1, 'step': 50 * n, 'time': 9 if n == 1 else 0.25, 'decode.acc_seg': of_batches}
        for n, of_batches in enumerate(training, 1)
    ]
    last = dict(zip(('accuracy', *RANGES), (accuracy, accuracy + 1, accuracy - 1), strict=True))
    if task == 'order':
        last |= {f'{keys}-at-edge': accuracy + 2 * keys for keys in range(3)}
    lines.append(dict(last, step=150))
    (folder / '1/vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    record = dict(config=f'{config}.py', seed=seed, device='a machine', last=last)
    (folder / 'run.json').write_text(json.dumps(record))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Plain and SB on 'row', two seeds, SB on 'any' and 'order' too, ablations."""
    for seed, (plain, sb) in enumerate([(30.5, 90.0), (35.0, 97.25)]):
        made_up_run(tmp_path, 'r14', 'row', seed, plain)
        made_up_run(tmp_path, 'sb_r14', 'row', seed, sb, [(98.9, 99, 100), (99.5, 98, 99)][seed])
    made_up_run(tmp_path, 'sb_r14', 'any', 0, 80.0)
    for seed in range(2):
        made_up_run(tmp_path, 'sb_r14', 'order', seed, 10.0 + seed)
    made_up_run(tmp_path, 'sb_r14-size2', 'row', 0, 60.0)
    made_up_run(tmp_path, 'sb_r14-size2', 'row', 1, 70.0, (40, 50, 99.9))
    made_up_run(tmp_path, 'sb_r11-s3', 'row', 0, 50.0)
    own = made_up_run(tmp_path, 'sb_r14-add', 'row', 0, 40.0)
    (own / 'fcn_sb_r14-add_600_longrange-row.py').rename(own / 'fcn_mine_600_longrange-row.py')
    own.parent.rename(tmp_path / 'fcn_mine_600_longrange-row')
    return tmp_path


def rows_of(page):
    rows = [line.strip('| ').split(' | ') for line in page.splitlines() if line.startswith('|')]
    return {row[0]: row[1:] for row in rows}


def cell(*values, digits=1):
    """Mean ± sample standard deviation (number), by numpy."""
    spread = f' ± {np.std(values, ddof=1):.{digits}f}' if len(values) > 1 else ''
    return f'{np.mean(values):.{digits}f}{spread} ({len(values)})'


def sections_of(page, level):
    heading = '#' * level
    parts = re.findall(rf'^{heading} (.*?)\n(.*?)(?=^##|\Z)', page, re.MULTILINE | re.DOTALL)
    return dict(parts)


def measured(network, task):
    """The runs of the three seeds in benchmarks/results; none if they were not trained."""
    found = []
    for file in ('longrange.json', 'longrange_ablations.json'):
        found += json.loads((ROOT / 'benchmarks/results' / file).read_text())['runs']
    name = f'/fcn_{network}_600_longrange-{task}.py'
    of_seeds = {run['seed']: run for run in found if f'/{run["config"]}'.endswith(name)}
    assert sorted(of_seeds) in ([], [0, 1, 2])
    return list(of_seeds.values())


def test_figures_in_the_docs_are_the_measured_ones():
    rows = rows_of(sections_of(DOCS.read_text(), 2)['What we measured'])
    for network, (title, _) in NETWORKS.items():
        for column, task in enumerate(TASKS, 1):
            accuracies = [run['last']['accuracy'] for run in measured(network, task)]
            assert rows[title][column] == (cell(*accuracies) if accuracies else '–')


def test_keys_at_the_edge_in_the_docs():
    rows = rows_of(sections_of(DOCS.read_text(), 2)['Where spatial bias loses'])
    assert rows.popitem()[1] == [f'{bound:.1f}' for bound in ORDER_POOLED]
    trained = {title: measured(network, 'order') for network, (title, _) in NETWORKS.items()}
    trained = {title: [run['last'] for run in of_seeds] for title, of_seeds in trained.items()}
    names = [f'{keys}-at-edge' for keys in range(3)]
    found = {t: [cell(*(last[n] for last in of)) for n in names] for t, of in trained.items() if of}
    assert dict(list(rows.items())[2:]) == found


def test_times_in_the_docs_are_the_measured_ones():
    rows = rows_of(sections_of(DOCS.read_text(), 2)['What we measured'])
    file = ROOT / 'benchmarks/results/longrange_time.json'
    (timed,) = json.loads(file.read_text())['comparisons']
    seconds = {
        of['name']: np.array([sum(parts.values()) for parts in of['rounds']])
        for of in timed['networks']
    }
    plain, *_ = seconds.values()
    assert len(seconds) == len(NETWORKS)
    for network, (title, _) in NETWORKS.items():
        ours = seconds[f'fcn_{network}_600_longrange-row']
        speed = np.median(plain / ours)
        assert rows[title][-1] == f'{1000 * np.median(ours):.0f} ({speed:.2f})'


def test_ablations_in_the_docs_are_the_measured_ones():
    sections = sections_of(DOCS.read_text(), 3)
    paper = dict(re.findall(r'\[(\w*resnet65\S*)\].*?\| (\d+\.\d+)', REPRODUCE.read_text()))
    assert list(sections) == list(ABLATIONS)
    for title, networks in ABLATIONS.items():
        rows = rows_of(sections[title])
        assert list(rows)[2:] == [NETWORKS.get(name, (name,))[0] for name in networks]
        for network, row in zip(networks, list(rows.values())[2:], strict=True):
            of_seeds = measured(network, 'row')
            assert row[1] == cell(*(run['last']['accuracy'] for run in of_seeds))
            solved = [run['solved_at'] for run in of_seeds if run['solved_at']]
            assert row[2] == (cell(*solved, digits=0) if solved else '–')
            assert row[3] == paper.get(on_cifar(title, network), '–')


def test_page(runs):
    unfinished = runs / 'fcn_gc_r14_600_longrange-row/seed_0'
    unfinished.mkdir(parents=True)
    (unfinished / 'run.json').write_text('{"config": "c.py", "seed": 0}')
    path = write_longrange_report(runs)
    assert path == runs / 'report/report.html'
    page = path.with_name('report.md').read_text()
    sections = sections_of(page, 2)
    networks, differences = sections['Networks'].split('| difference')
    rows, compared = rows_of(networks), rows_of(differences)

    # 3 x 3 stem, four bottlenecks of 64 channels, 16 inside, with their norms, and the head
    first = 16 * 16 + 9 * 16 * 16 + 16 * 64 + 2 * (16 + 16 + 64) + (16 * 64 + 2 * 64)
    rest = 3 * (64 * 16 + 9 * 16 * 16 + 16 * 64 + 2 * (16 + 16 + 64))
    plain = 27 * 16 + 2 * 16 + first + rest + 64 * 3 + 3
    columns = [cell(80), '–', cell(90, 97.25), cell(100, 50, digits=0)]  # any, row: 99 % after
    columns += [cell(10, 11), '–']  # order
    assert rows['plain'] == [f'{plain:,}', '0.25', '–', '–', cell(30.5, 35), *['–'] * 3]
    assert rows['SB'][1:] == ['0.25', *columns]
    assert list(rows)[-2:] == ['plain', 'SB'] and 'a machine' in page

    # accuracies of seeds 0 and 1: 30.5, 35 and 90, 97.25; 12.706 * 1.9445 / sqrt(2) = 17.47
    difference = '+60.9 ± 1.9 (2 seeds; +43.4 to +78.3): higher'
    assert compared['SB'] == ['–', difference, '–']
    at_edge = rows_of(sections['Order: keys at the edge'])
    assert list(at_edge)[2:] == ['SB']
    assert at_edge['SB'] == [cell(10, 11), cell(12, 13), cell(14, 15)]
    assert 'at most 63.0, 77.8, 100.0.' in sections['Order: keys at the edge']

    grid = rows_of(sections['Grid'].split('| difference')[0])
    assert list(grid)[-3:] == ['plain', 'sb_r14-size2', 'SB']
    assert f'| SB | {difference} |' in sections['Grid'] and 'difference to plain' in page
    assert grid['sb_r14-size2'][2:] == [cell(60, 70), cell(150, digits=0)]
    assert list(rows_of(sections['Stages']))[-1] == 'sb_r11-s3'
    assert rows_of(sections['Others'])['mine'][2:] == [cell(40), '–']
    assert not {'Maps', 'Components'} & set(sections)  # nobody varied them

    found = json.loads(path.with_name('results.json').read_text())['runs']
    accuracies = {run['last']['accuracy']: run['solved_at'] for run in found}
    assert accuracies[97.25] == 50 and accuracies[70] == 150 and accuracies[60] is None
    assert sorted(accuracies) == [10, 11, 30.5, 35, 40, 50, 60, 70, 80, 90, 97.25]
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


def test_readme_commands_one_iteration_each(run_tool, run_here, tmp_path):
    _, tool, *given = shlex.split(readme.command('train long-range'))
    flags = given[given.index('--seeds') :]
    found = {path for pattern in given[: -len(flags)] for path in ROOT.glob(pattern)}
    name = 'configs/longrange/fcn_{}_600_longrange-{}.py'
    assert found == {ROOT / name.format(network, task) for network in NETWORKS for task in TASKS}
    configs = [name.format(network, 'row') for network in ('r14', 'sb_r14')]
    assert flags[:-1] == ['--seeds', '0', '1', '2', '--work-dir']
    short = ['train_cfg.max_iters=1', 'param_scheduler.total_steps=1']
    short += ['train_dataloader.batch_size=2', 'val_dataloader.dataset.num_images=4']
    short += ['default_hooks.logger.interval=1']
    flags = ['--seeds', '0', '--work-dir', tmp_path, '--cfg-options', *short]
    done = run_tool(sys.executable, tool, *configs, *flags)
    assert done.stdout.count('| last |') == 2 and ': one seed' in done.stdout
    _, tool, folder = shlex.split(readme.command('long-range report'))
    assert folder == shlex.split(readme.command('train long-range'))[-1]
    done = run_here('python', tool, tmp_path)
    assert re.search(r'plain +19,219 .*\(1\)', done.stdout)
    assert (tmp_path / 'report/report.html').is_file()
