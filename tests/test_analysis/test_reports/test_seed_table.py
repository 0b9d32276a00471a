"""The table over seeds, beside numpy; the figures that are printed elsewhere."""

import json

import numpy as np
import pytest

from mmsb.analysis.reports.seeds import seed_table
from tests.conftest import ROOT


def tables_of(runs, baseline=None):
    """The rows of cells of each table, the head first."""
    blocks = seed_table(runs, baseline).split('\n\n')
    tables = [block.splitlines() for block in blocks if block.startswith('|')]
    return [
        [[cell.strip() for cell in line.strip('|').split('|')] for line in (table[0], *table[2:])]
        for table in tables
    ]


def rows_of(runs):
    """The cells of each row of the first table, by config and validation."""
    head, *rows = tables_of(runs)[0]
    return {(row[0], row[2]): dict(zip(head, row, strict=True)) for row in rows}


def test_errors_of_a_classifier():
    top1 = [76.02, 75.79, 77.4]
    runs = [
        dict(config='configs/c.py', seed=s, last={'accuracy/top1': v, 'accuracy/top5': 95.0})
        for s, v in enumerate(top1)
    ]
    row = rows_of(runs)['c', 'last']
    assert row['Top-1 error (%)'] == f'{100 - np.mean(top1):.2f} ± {np.std(top1, ddof=1):.2f}'
    assert row['Top-5 error (%)'] == '5.00 ± 0.00'
    assert row['seeds'] == '3'


def test_one_seed_has_no_deviation():
    runs = [dict(config='c.py', seed=0, last={'coco/bbox_mAP': 0.3125, 'mIoU': 40.0})]
    assert rows_of(runs) == {
        ('c', 'last'): dict(
            config='c', seeds='1', validation='last', bbox_mAP='0.312', mIoU='40.00'
        )
    }


def test_configs_of_different_metrics_and_paths():
    runs = [
        dict(config='x/a.py', seed=0, last={'m/p': 0.5}, best={'m/p': 0.75}),
        dict(config='b.py', seed=0, last={'q': 0.25}, best={'q': 0.25}),
        dict(config='/home/x/a.py', seed=1, last={'m/p': 0.25}, best={'m/p': 0.25}),
    ]
    rows = rows_of(runs)
    assert list(rows) == [('a', 'last'), ('a', 'best'), ('b', 'last'), ('b', 'best')]
    assert rows['a', 'best']['p'] == '0.500 ± 0.354'  # 0.5 / sqrt(2)
    assert rows['a', 'best']['q'] == rows['b', 'last']['p'] == '–'


def three_configs():
    """Top-1 accuracies of three seeds, whose errors are 25, 24, 23; 24, 23, 22; and 26, 23, 23."""
    top1 = dict(plain=(75, 76, 77), sb=(76, 77, 78), other=(74, 77, 77))
    return [
        dict(config=f'c/{name}.py', seed=seed, last={'accuracy/top1': value},
             best={'accuracy/top1': value + (name == 'sb')})
        for name, values in top1.items() for seed, value in enumerate(values)
    ]  # fmt: skip


def test_differences_to_the_baseline():
    _, last, best = tables_of(three_configs())
    assert last[0] == ['last validation, difference to plain', 'Top-1 error (%)']
    assert last[1] == ['sb', '-1.00 ± 0.00 (3 seeds): no spread']
    # differences 1, -1, 0: their deviation is 1, and 4.303 / sqrt(3) = 2.484
    other = '+0.00 ± 1.00 (3 seeds; -2.48 to +2.48): no difference shown'
    assert last[2] == best[2] == ['other', other]
    assert best[1] == ['sb', '-2.00 ± 0.00 (3 seeds): no spread']


def test_another_baseline():
    _, last, _ = tables_of(three_configs(), 'somewhere/sb.py')
    assert last[0][0].endswith('difference to sb')
    assert [row[0] for row in last[1:]] == ['plain', 'other']
    assert last[1][1].startswith('+1.00 ± 0.00 (3 seeds)')


def test_nothing_to_compare_with():
    runs = three_configs()
    assert len(tables_of(runs[:3])) == 1 and 'ifference' not in seed_table(runs[:3])
    page = seed_table(runs[3:], 'plain.py')
    assert 'no run of the baseline, plain, is finished' in page and page.count('---:') == 2


def test_other_validation_data():
    """Configs validated on other data are not compared, unless a run does not record its data."""
    runs = three_configs()
    for run in runs[3:6]:
        run['validation_sha256'] = 'x'
    assert len(tables_of(runs)) == 3  # unknown for the others
    for run in runs[:3]:
        run['validation_sha256'] = 'y'
    _, last, best = tables_of(runs)
    assert [row[0] for row in last[1:]] == [row[0] for row in best[1:]] == ['other']
    assert 'Not compared, as validated on other data than plain: sb.' in seed_table(runs)
    assert len(tables_of(runs[:6])) == 1 and 'paired' not in seed_table(runs[:6])


@pytest.mark.parametrize('small', ['coco/bbox_mAP_s', 'mine/segm_mAP_s_cat', 'coco/AR_s@1000'])
def test_no_measurement(small):
    """COCO's -1, of a size without objects, and NaN, of a class without objects."""
    nan, aps = float('nan'), ('coco/bbox_mAP', small, 'coco/cat_precision', 'loss')
    runs = [
        dict(config=config, seed=seed, last=dict(zip(aps, values, strict=True)))
        for config, seed, values in (
            ('a.py', 0, (0.25, -1.0, nan, -1)), ('a.py', 1, (0.75, -1.0, 0.5, -1)),
            ('b.py', 0, (0.5, -1.0, 0.5, -1)), ('b.py', 1, (0.5, -1.0, 0.75, -1)),
        )
    ]  # fmt: skip
    table, last = tables_of(runs)
    assert table[1][3:] == ['0.500 ± 0.354', '–', '0.500 (1 of 2)', '-1.000 ± 0.000']
    assert last[1][1].startswith('+0.000 ± 0.354 (2 seeds;')
    assert last[1][2:4] == ['–', '+0.250: one seed']
    del runs[0]['last']['loss']  # one seed lacks it
    assert tables_of(runs)[0][1][-1] == '-1.000 (1 of 2)'


def test_figures_in_the_page_are_the_measured_ones():
    text = (ROOT / 'benchmarks/README.md').read_text()
    runs = json.loads((ROOT / 'benchmarks/results/mini_coco.json').read_text())['runs']
    rows = rows_of(runs)
    assert {row['seeds'] for row in rows.values()} == {'3'}
    for config, name in (('r18', 'ResNet-18'), ('sb_r18', 'SB-ResNet-18')):
        row = rows[f'faster_rcnn_{config}_fpn_mini_coco', 'last']
        cells = [row[f'bbox_mAP{suffix}'] for suffix in ('', '_50', '_75')]
        assert f'| {name} | {" | ".join(cells)} |' in text
    assert tables_of(runs)[1][1][1] in ' '.join(text.split('\n'))  # the difference in AP


def difference(ours, theirs, digits):
    """The printed difference of three seeds, from the raw figures by numpy; its lower end."""
    pairs = np.subtract(ours, theirs)
    margin = 4.3027 * pairs.std(ddof=1) / 3**0.5
    figures = [pairs.mean(), pairs.std(ddof=1), pairs.mean() - margin, pairs.mean() + margin]
    mean, spread, low, high = (f'{figure:+.{digits}f}' for figure in figures)
    return f'{mean} ± {spread[1:]} (3 seeds; {low} to {high})', figures[2]


def test_regnet_in_the_pages_is_as_measured():
    page, other = (
        (ROOT / name).read_text() for name in ('benchmarks/README.md', 'docs/other-frameworks.md')
    )
    runs = json.loads((ROOT / 'benchmarks/results/mini_regnet.json').read_text())['runs']
    found = {}
    for title, name in (('RegNetX', 'regnet'), ('RegNetX with spatial bias', 'sb_regnet')):
        of_seeds = {r['seed']: r['last'] for r in runs if f'/{name}_mini' in r['config']}
        ranks = np.array([[of_seeds[n][f'accuracy/top{k}'] for k in (1, 5)] for n in (0, 1, 2)])
        pairs = zip(ranks.mean(0), ranks.std(0, ddof=1), strict=True)
        cells = [f'{mean:.1f} ± {spread:.1f}' for mean, spread in pairs]
        (row,) = (line for line in page.splitlines() if line.startswith(f'| {title} | '))
        assert row.endswith(f' | {" | ".join(cells)} |')
        assert f'{cells[0]} %' in other
        found[name] = ranks[:, 0]
    text, low = difference(found['sb_regnet'], found['regnet'], 1)
    assert low < 0 < found['sb_regnet'].mean() - found['regnet'].mean()
    for text_of in (page, other):
        assert f'{text}: no difference shown' in ' '.join(text_of.split())


def test_differences_in_the_page_are_the_measured_ones():
    """Those of make chain, from the raw figures by numpy."""
    text = (ROOT / 'benchmarks/README.md').read_text()
    found = json.loads((ROOT / 'benchmarks/results/mini_chain.json').read_text())['metrics']

    def of_chain(task, run, baseline, metric, digits):
        ours, theirs = (np.array([of[metric] for of in found[task][r]]) for r in (run, baseline))
        assert task == 'classification' or (ours - theirs).min() > 0  # as the page says
        printed, low = difference(ours, theirs, digits)
        assert (low > 0) == ((task, run) == ('detection', 'grow'))
        return printed

    for run in ('pretrained', 'grow'):
        for task, metric, digits in (
            ('detection', 'coco/bbox_mAP', 3),
            ('segmentation', 'mIoU', 1),
        ):
            assert of_chain(task, run, 'scratch', metric, digits) in text
    assert of_chain('classification', 'sb', 'resnet', 'accuracy/top1', 1) in text
