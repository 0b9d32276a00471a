"""The page on make chain: its figures against numpy, from made-up logs."""

import json

import cv2
import numpy as np
import pytest

from mmsb.analysis.reports.chain import TASKS, write_chain_report
from mmsb.utils.errors import UserError

RUNS = dict(
    classification=('resnet', 'sb'),
    detection=('scratch', 'pretrained', 'grow'),
    segmentation=('scratch', 'pretrained', 'grow'),
)


@pytest.fixture
def chains(tmp_path):
    """Two seeds' folders, and the figures in them: {(task, run, metric): values}."""
    rng, figures = np.random.default_rng(0), {}
    for seed in range(2):
        for task, runs in RUNS.items():
            for run in runs:
                folder = tmp_path / f'seed_{seed}' / task / run
                (folder / '1/vis_data').mkdir(parents=True)
                top = 1 if task == 'detection' else 100
                metrics = {key: round(top * rng.random(), 3) for key in TASKS[task][1]}
                for key, value in metrics.items():
                    figures.setdefault((task, run, key), []).append(value)
                (folder / 'metrics.json').write_text(json.dumps(metrics))
                (folder / 'config.py').write_text(f'randomness = dict(seed={seed})\n')
                lines = [dict(loss=1.0, step=step, epoch=step) for step in (1, 2)]
                lines.append(dict(metrics, step=2))
                (folder / '1/vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    drawn = tmp_path / 'seed_0/detection/grow/drawn'
    drawn.mkdir()
    for i in range(6):
        cv2.imwrite(str(drawn / f'{i}.png'), np.full((50 + i, 40, 3), 40 * i, np.uint8))
    return [tmp_path / 'seed_0', tmp_path / 'seed_1'], figures


def test_page(chains, tmp_path):
    folders, figures = chains
    path = write_chain_report(tmp_path / 'out', folders)
    page = path.with_name('report.md').read_text()
    for (task, _, _), values in figures.items():
        digits = 3 if task == 'detection' else 1
        mean, spread = np.mean(values), np.std(values, ddof=1)
        assert f'| {mean:.{digits}f} ± {spread:.{digits}f} |' in page
    for task, run, baseline in (
        ('detection', 'grow', 'scratch'), ('classification', 'sb', 'resnet')
    ):  # fmt: skip
        key = next(iter(TASKS[task][1]))
        pairs = np.subtract(figures[task, run, key], figures[task, baseline, key])
        digits = 3 if task == 'detection' else 1
        assert f'| {pairs.mean():+.{digits}f} ± {pairs.std(ddof=1):.{digits}f} (2 seeds; ' in page
    found = json.loads(path.with_name('results.json').read_text())
    assert found['seeds'] == 2
    for (task, run, key), values in figures.items():
        assert [metrics[key] for metrics in found['metrics'][task][run]] == values
    assert 'mean ± standard deviation of 2 seeds' in path.read_text()
    # the first four pictures in a row, 200 high, the first black and the fourth of grey 120
    row = cv2.imread(str(path.with_name('detection_grow.png')))
    assert row.shape[0] == 200 and row[100, 0].max() == 0 and row[100, -1].tolist() == [120] * 3
    assert page.count('![') == 2  # the pictures of the one run that has some, and the curves


def test_one_seed(chains, tmp_path):
    page = write_chain_report(tmp_path / 'out', chains[0][:1]).read_text()
    assert 'one seed' in page and '±' not in page and 'One training of each' in page


def test_a_metric_that_one_seed_lacks(chains, tmp_path):
    """As of a detector without boxes: the table says how many seeds its figure has."""
    folders, figures = chains
    (folders[1] / 'detection/grow/metrics.json').write_text('{}')
    page = write_chain_report(tmp_path / 'out', folders).with_name('report.md').read_text()
    assert f'| {figures["detection", "grow", "coco/bbox_mAP"][0]:.3f} (1 of 2) |' in page


def test_the_same_seed(chains, tmp_path):
    (first, second), _ = chains
    with pytest.raises(UserError, match=r'seed_0 and .*seed_0 have the same seed'):
        write_chain_report(tmp_path / 'out', [first, first / '../seed_0'])
    for path in second.glob('*/*/config.py'):
        path.write_text('randomness = dict(seed=0)\n')
    with pytest.raises(UserError, match=r'seed_0 and .*seed_1 have the same seed, .* SEED=N'):
        write_chain_report(tmp_path / 'out', [first, second])
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('missing', 'message'),
    [
        ('segmentation', 'has no run of segmentation'),
        ('detection/grow/metrics.json', 'not finished'),
    ],
)
def test_unfinished(chains, tmp_path, missing, message):
    path = chains[0][0] / missing
    path.rename(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match=message):
        write_chain_report(tmp_path / 'out', chains[0])
    assert not (tmp_path / 'out/report.html').exists()


def test_no_chain(tmp_path):
    with pytest.raises(UserError, match='at least one'):
        write_chain_report(tmp_path / 'out', [])
