"""Differences between two configs that were trained with the same seeds, and how sure they are."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from mmsb.analysis.reports.page import NONE

# 97.5 % quantiles of Student's t distribution for 1 to 10 degrees of freedom
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
EXPLANATION = (
    'Differences are paired: mean ± standard deviation (n - 1) of the differences between runs of '
    'the same seed; in parentheses the number of seeds and the 95 % interval of the mean (Student '
    't). "higher" or "lower": the interval excludes zero. "no spread": all differences are equal, '
    'as those of rounded figures can be, and say nothing about chance. An interval holds for one '
    'comparison: of 20 networks equal to the baseline, one is expected to look different.'
)
ONE_SEED = (
    'One training of each: without a standard deviation over seeds, nothing here says whether a '
    'difference is more than chance.'
)


@dataclass(frozen=True)
class Difference:
    """A paired difference: each value minus the baseline's value with the same seed.

    Attributes:
        seeds: Number of seeds that both have.
        mean: Mean of the differences.
        deviation: Their sample standard deviation (n - 1); None for one seed.
        interval: 95 % confidence interval of the mean (Student's t); None for one seed.
    """

    seeds: int
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """Whether the interval excludes zero: 'higher', 'lower' or 'no difference shown'.

        Without an interval 'one seed'; if all differences are equal, but not zero, 'no spread'.
        """
        if self.interval is None:
            return 'one seed'
        low, high = self.interval
        if low == high != 0:
            return 'no spread'
        return 'higher' if low > 0 else 'lower' if high < 0 else 'no difference shown'


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float]
) -> Difference | None:
    """Compare two configs over the seeds for which both have a finite value.

    Args:
        values: Seed -> value.
        baseline: Seed -> value of the baseline.

    Returns:
        The difference, or None if no seed is shared.
    """
    shared = [(values[seed], baseline[seed]) for seed in values if seed in baseline]
    pairs = [value - of_baseline for value, of_baseline in shared]
    pairs = [pair for pair in pairs if math.isfinite(pair)]
    if not pairs:
        return None
    mean = statistics.mean(pairs)
    if len(pairs) == 1:
        return Difference(1, mean, None, None)
    # equal but for the rounding of the subtraction
    scale = max(abs(value) for pair in shared for value in pair if math.isfinite(value))
    if max(pairs) - min(pairs) <= 1e-12 * scale:
        mean = pairs[0] if abs(pairs[0]) > 1e-12 * scale else 0.0
        return Difference(len(pairs), mean, 0.0, (mean, mean))
    deviation = statistics.stdev(pairs)
    margin = t_quantile(len(pairs) - 1) * deviation / len(pairs) ** 0.5
    return Difference(len(pairs), mean, deviation, (mean - margin, mean + margin))


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution, to about 1e-4 of its value.

    Args:
        freedom: Degrees of freedom, 1 or more.
    """
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = statistics.NormalDist().inv_cdf(0.975)  # Cornish-Fisher expansion around the normal's
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def difference_cell(difference: Difference | None, digits: int) -> str:
    """Format a difference, e.g. ``+0.42 ± 0.11 (3 seeds; +0.15 to +0.69): higher``.

    Args:
        difference: See :func:`paired_difference`; None is shown as `NONE`.
        digits: Number of decimals; more, up to 9, where 'higher' or 'lower' would stand beside an
            interval that seems to include zero.
    """
    if difference is None:
        return NONE
    if difference.verdict in ('higher', 'lower'):
        near = min(map(abs, difference.interval))
        digits = next((n for n in range(digits, 9) if round(near, n)), 9)

    def signed(value):
        return f'{round(value, digits) + 0.0:+.{digits}f}'  # 0.0 makes +0.0 of -0.0

    mean = signed(difference.mean)
    if difference.interval is None:
        return f'{mean}: {difference.verdict}'
    low, high = map(signed, difference.interval)
    interval = '' if difference.verdict == 'no spread' else f'; {low} to {high}'
    spread = f'{difference.deviation:.{digits}f} ({difference.seeds} seeds{interval})'
    return f'{mean} ± {spread}: {difference.verdict}'


def difference_table(
    values: Mapping[str, Mapping[str, Mapping[int, float]]],
    baseline: str,
    columns: Mapping[str, tuple[str, int]],
    title: str = 'difference to {}',
) -> tuple[list[str], list[list[str]]]:
    """Tabulate the differences of all rows to one of them as head and rows of cells.

    Args:
        values: Row -> column -> seed -> value. Rows may lack columns, and columns seeds.
        baseline: The row that the others are compared with, which is left out of the table.
        columns: Column -> its title and number of decimals, in their order.
        title: Title of the first column, with ``{}`` for the baseline's name.
    """
    of_baseline = values.get(baseline, {})
    rows = []
    for row, found in values.items():
        if row != baseline:
            pairs = ((found.get(name, {}), of_baseline.get(name, {})) for name in columns)
            digits = (decimals for _, decimals in columns.values())
            cells = map(difference_cell, (paired_difference(*pair) for pair in pairs), digits)
            rows.append([row, *cells])
    return [title.format(baseline), *(title for title, _ in columns.values())], rows
