"""Tables, CSV and figures of a benchmark, beside the paper's values."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence

from matplotlib.figure import Figure

from mmsb.analysis.charts import new_figure, style_axes
from mmsb.analysis.reports.page import NONE
from mmsb.benchmark.results import Comparison, Measured
from mmsb.benchmark.workloads import NETWORKS, STOCK
from mmsb.studies.paper.printed import PRINTED, R50

# Row of a network in the paper's Tables 8 and 9: Top-1 and images per second.
PAPER = {row.same_as or (row.table, row.row): row for row in PRINTED if row.throughput}
PAPER_SHAPE = (224, 224)
GREY, BLUE, ORANGE = '#7f7f7f', '#1f77b4', '#d95f02'


def paper_ratio(name: str) -> float | None:
    """Get the paper's throughput of a network relative to ResNet-50; None if not printed."""
    row = PAPER.get(NETWORKS.get(name))
    return row.throughput / PAPER[R50].throughput if row else None


def table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Tabulate a comparison as head and rows of cells.

    Returns:
        Network, parameters in millions, median milliseconds per step and per part of it, images
        per second, throughput relative to the baseline (median and quartiles of the rounds) and
        to the toolbox's own ResNet if that is compared too, the paper's ratio if printed, and peak
        memory relative to the baseline if measured.
    """
    setting, networks = comparison.setting, comparison.networks
    parts = setting.parts if len(setting.parts) > 1 else ()
    stock = next((network for network in networks[1:] if STOCK in network.name.split()), None)
    printed = setting.mode == 'inference' and setting.shape == PAPER_SHAPE
    printed = printed and any(paper_ratio(network.name) for network in networks)
    memory = all(network.memory for network in networks)
    head = ['network', 'M params', 'ms', *parts]
    head += ['images/s', 'ratio', 'quartiles', *['to stock'] * bool(stock)]
    head += [*['paper'] * printed, *['MiB', 'memory'] * memory]
    rows = []
    for network in networks:
        seconds = statistics.median(network.seconds)
        ratios = comparison.ratios(network)
        row = [network.name, f'{network.params / 1e6:.2f}', milliseconds(seconds)]
        row += [milliseconds(network.part(part)) for part in parts]
        spread = quartiles(ratios) if network is not networks[0] else NONE
        row += [f'{setting.batch / seconds:.2f}', f'{statistics.median(ratios):.3f}', spread]
        if stock:
            row.append(f'{statistics.median(comparison.ratios(network, stock)):.3f}')
        if printed:
            ratio = paper_ratio(network.name)
            row.append(f'{ratio:.3f}' if ratio else NONE)
        if memory:
            row += [f'{network.memory / 2**20:.0f}', f'{network.memory / networks[0].memory:.3f}']
        rows.append(row)
    return head, rows


def milliseconds(seconds: float) -> str:
    """Format a time: three decimals below 10 ms, otherwise one."""
    value = seconds * 1e3
    return f'{value:.3f}' if value < 10 else f'{value:.1f}'


def operator_table(
    times: dict[str, dict[str, float]], launches: dict[str, int] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Tabulate operator times per network, starting with the largest differences.

    Args:
        times: Milliseconds by operator, by network; the first network is the baseline.
        launches: Number of kernels that a step launches, by network. Defaults to None (a CPU).

    Returns:
        Head and rows: operator, milliseconds of each network. At the end stand the sum of the
        operators that take less than 0.1 % in every network, the sum of all, and the launches.
    """
    total = [sum(operators.values()) for operators in times.values()]
    keys = dict.fromkeys(key for operators in times.values() for key in operators)
    rows = {key: [operators.get(key, 0.0) for operators in times.values()] for key in keys}
    shown = [
        key
        for key, row in rows.items()
        if any(t >= s / 1000 for t, s in zip(row, total, strict=True))
    ]
    shown.sort(key=lambda key: min(rows[key]) - max(rows[key]))
    rest = [t - sum(rows[key][n] for key in shown) for n, t in enumerate(total)]
    table = [*((key, rows[key]) for key in shown), ('others', rest), ('all', total)]
    rows = [[key[:80], *(f'{t:.2f}' for t in row)] for key, row in table]
    if launches:
        rows.append(['launches', *(f'{launches[network]}' for network in times)])
    return ['operator', *times], rows


def as_blocks(comparisons: Sequence[Comparison]) -> list[tuple]:
    """Convert comparisons to tables of a page (see :mod:`mmsb.analysis.reports.page`)."""
    blocks = []
    for comparison in comparisons:
        blocks += [('p', f'{comparison.setting}:'), ('table', *table(comparison))]
    return blocks


def quartiles(values: Sequence[float]) -> str:
    """Format the first and third quartile, e.g. 0.950-0.970; one value gives `NONE`."""
    if len(values) < 2:
        return NONE
    low, _, high = statistics.quantiles(values, n=4, method='inclusive')
    return f'{low:.3f}-{high:.3f}'


def as_csv(comparisons: Sequence[Comparison]) -> str:
    """Format all rounds of all networks as CSV, one per line."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(
        ['mode', 'batch', 'height', 'width', 'dtype', 'layout', 'fuse', 'compile', 'graph',
         'kernels', 'network', 'params', 'round', 'seconds', 'ratio', 'memory']
    )  # fmt: skip
    for comparison in comparisons:
        s = comparison.setting
        for network in comparison.networks:
            pairs = zip(network.seconds, comparison.ratios(network), strict=True)
            for number, (seconds, ratio) in enumerate(pairs, 1):
                writer.writerow(
                    [s.mode, s.batch, *s.shape, s.dtype, s.layout, s.fuse, s.compile, s.graph,
                     s.kernels, network.name, network.params, number, f'{seconds:.6f}',
                     f'{ratio:.4f}', network.memory or '']
                )  # fmt: skip
    return file.getvalue()


def draw(comparisons: Sequence[Comparison], device: str) -> Figure | None:
    """Draw a benchmark: like the paper's Fig. 1, or ratios over the settings.

    Returns:
        For one setting with networks of the paper: accuracy (as printed) and parameters against
        throughput. For several settings: relative throughput of each network. None if there is
        nothing to compare.
    """
    if len(comparisons[0].networks) < 2:
        return None
    if len(comparisons) > 1:
        return _draw_settings(comparisons, device)
    found = [n for n in comparisons[0].networks if paper_ratio(n.name)]
    return _draw_figure_1(comparisons[0], found, device) if len(found) > 2 else None


def _figure(width: float, panels: int):
    figure = new_figure((width, 4.6), 110)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        style_axes(axis)
    return figure, axes


def _colour(name: str) -> str:
    return BLUE if name.startswith('SB') else ORANGE if name == 'ResNet-50' else GREY


def _draw_figure_1(comparison: Comparison, found: Sequence[Measured], device: str) -> Figure:
    figure, (accuracy, params) = _figure(11, 2)
    for network in found:
        row = PAPER[NETWORKS[network.name]]
        ratio = statistics.median(comparison.ratios(network))
        colour = _colour(network.name)
        for axis, y in ((accuracy, float(row.top1)), (params, network.params / 1e6)):
            axis.plot([paper_ratio(network.name), ratio], [y, y], color=colour, lw=0.8, alpha=0.5)
            axis.plot(paper_ratio(network.name), y, 'o', color=colour, mfc='white', ms=6)
            axis.plot(ratio, y, 'o', color=colour, ms=6)
            axis.annotate(
                network.name, (ratio, y), (0, 6), textcoords='offset points', ha='center',
                fontsize=8, color=colour,
            )  # fmt: skip
    accuracy.set_ylabel('top-1 (%), as the paper prints it')
    params.set_ylabel('parameters (M)')
    for axis in (accuracy, params):
        axis.set_xlabel("throughput over ResNet-50's")
        axis.margins(0.08, 0.1)
    accuracy.plot([], [], 'o', color=GREY, label='measured')
    accuracy.plot([], [], 'o', color=GREY, mfc='white', label='the paper')
    accuracy.legend(frameon=False, loc='lower left')
    figure.suptitle(f'{comparison.setting}; {device}', fontsize=9)
    return figure


def _draw_settings(comparisons: Sequence[Comparison], device: str) -> Figure:
    figure, (axis,) = _figure(8, 1)
    labels = _differences(comparisons)
    names = [network.name for network in comparisons[0].networks]
    axis.axhline(1, color=ORANGE, lw=1.4, label=names[0])
    for index, name in enumerate(names[1:], 1):
        ratios = [sorted(c.ratios(c.networks[index])) for c in comparisons]
        middle = [statistics.median(values) for values in ratios]
        spread = [
            [m - v[len(v) // 4] for m, v in zip(middle, ratios, strict=True)],
            [v[-1 - len(v) // 4] - m for m, v in zip(middle, ratios, strict=True)],
        ]
        colour = None if len(names) > 5 else _colour(name)
        axis.errorbar(
            range(len(labels)),
            middle,
            spread,
            marker='o',
            lw=1.6,
            capsize=3,
            color=colour,
            label=name,
        )
    axis.set_xticks(range(len(labels)), labels)
    axis.set_ylabel(f"throughput over {names[0]}'s")
    axis.set_ylim(0, max(1.1, axis.get_ylim()[1]))
    axis.legend(frameon=False, loc='lower left')
    figure.suptitle(f'{device}; median and quartiles of the rounds', fontsize=9)
    return figure


def _differences(comparisons: Sequence[Comparison]) -> list[str]:
    """Label the settings by the values in which they differ."""
    pieces = [str(comparison.setting).split(', ') for comparison in comparisons]
    common = set(pieces[0]).intersection(*pieces)
    return [', '.join(p for p in piece if p not in common) or piece[0] for piece in pieces]
