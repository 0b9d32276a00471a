"""Paired differences and their intervals, beside SciPy."""

import numpy as np
import pytest

from mmsb.analysis.reports.differences import (
    difference_cell,
    difference_table,
    paired_difference,
    t_quantile,
)
from mmsb.analysis.reports.page import NONE, mean_and_spread

EQUAL = '+0.000 ± 0.000 (2 seeds; +0.000 to +0.000): no difference shown'


def test_quantiles():
    stats = pytest.importorskip('scipy.stats')
    for freedom in range(1, 400):
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=3e-4)


@pytest.mark.parametrize('number', [2, 3, 5, 30])
@pytest.mark.parametrize('shift', [0, 0.7, -30])
def test_beside_scipys_paired_test(number, shift):
    stats = pytest.importorskip('scipy.stats')
    rng = np.random.default_rng(number)
    # the seeds' effects are larger than those of the config, as pairing is for
    seeds = 20 * rng.standard_normal(number)
    ours, theirs = seeds + rng.standard_normal(number) + shift, seeds + rng.standard_normal(number)
    found = paired_difference(
        dict(enumerate(ours.tolist())), dict(reversed(list(enumerate(theirs.tolist()))))
    )
    test = stats.ttest_rel(ours, theirs)
    low, high = test.confidence_interval(0.95)
    assert found.seeds == number
    assert found.mean == pytest.approx(np.mean(ours - theirs))
    assert found.deviation == pytest.approx(np.std(ours - theirs, ddof=1))
    assert found.interval == pytest.approx((low, high), rel=1e-3, abs=1e-3)
    side = 'higher' if found.mean > 0 else 'lower'
    assert found.verdict == (side if test.pvalue < 0.05 else 'no difference shown')


def test_only_shared_seeds_are_compared():
    found = paired_difference({0: 1.0, 4: 5.0, 7: 9.0}, {7: 8.0, 1: 100.0, 0: 0.5})
    # differences 0.5 and 1: 0.75 ± 0.3536, and 12.706 * 0.3536 / sqrt(2) = 3.1765
    assert (
        difference_cell(found, 2) == '+0.75 ± 0.35 (2 seeds; -2.43 to +3.93): no difference shown'
    )
    assert difference_cell(paired_difference({0: 1.0}, {1: 1.0}), 2) == NONE
    one = paired_difference({0: 1.0}, {0: 1.5, 1: 1.0})
    assert difference_cell(one, 1) == '-0.5: one seed'
    assert difference_cell(paired_difference({0: 1.0}, {0: 1.001}), 2) == '+0.00: one seed'


@pytest.mark.parametrize(
    ('values', 'baseline', 'cell'),
    [
        # the rounding of the subtraction is no spread: 0.382 - 0.381 is not 0.381 - 0.38
        ((0.382, 0.381), (0.381, 0.38), '+0.001 ± 0.000 (2 seeds): no spread'),
        ((99.0, 98.0), (100.0, 99.0), '-1.000 ± 0.000 (2 seeds): no spread'),
        ((100.0, 7.0), (100.0, 7.0), EQUAL),
        ((0.1 + 0.2, 0.7), (0.3, 0.7), EQUAL),
    ],
)  # fmt: skip
def test_without_any_spread(values, baseline, cell):
    found = paired_difference(dict(enumerate(values)), dict(enumerate(baseline)))
    assert difference_cell(found, 3) == cell


@pytest.mark.parametrize(('values', 'cell'), [
    # deviation 0.005, half width 4.303 * 0.005 / sqrt(3) = 0.0124
    ((99.98, 99.99, 99.985), '-0.015 ± 0.005 (3 seeds; -0.027 to -0.003): lower'),
    ((100.02, 100.01, 100.015), '+0.015 ± 0.005 (3 seeds; +0.003 to +0.027): higher'),
    ((100.02, 100.01, 99.985), '+0.0 ± 0.0 (3 seeds; +0.0 to +0.0): no difference shown'),
])  # fmt: skip
def test_a_small_difference_is_visible(values, cell):
    found = paired_difference(dict(enumerate(values)), dict.fromkeys(range(3), 100.0))
    assert difference_cell(found, 1) == cell


def test_what_is_not_finite_is_left_out():
    nan = float('nan')
    values, baseline = {0: nan, 1: 2.0, 2: 3.0, 3: 5.0}, {0: 1.0, 1: 1.0, 2: nan, 3: 2.0}
    assert paired_difference(values, baseline) == paired_difference({1: 2.0, 3: 5.0}, baseline)
    assert paired_difference({0: nan}, {0: nan}) is None
    assert mean_and_spread([nan, 1.0, 3.0], 1) == '2.0 ± 1.4 (2 of 3)'
    assert mean_and_spread([nan, 1.0], 1) == '1.0 (1 of 2)'
    assert mean_and_spread([nan, nan], 1) == NONE


def test_table():
    values = dict(
        plain={'a': {0: 1.0, 1: 2.0}},
        other={'a': {0: 2.0, 1: 3.0}, 'b': {0: 1.0}},
        empty={},
    )
    head, rows = difference_table(values, 'plain', dict(a=('A', 1), b=('B', 1)))
    assert head == ['difference to plain', 'A', 'B']
    assert rows == [
        ['other', '+1.0 ± 0.0 (2 seeds): no spread', NONE],
        ['empty', NONE, NONE],
    ]
