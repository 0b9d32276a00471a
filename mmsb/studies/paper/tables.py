"""Reproduction of the paper's Tables 1-10: our Param and FLOPs beside the printed ones.

The networks are built on the meta device, where tensors have only shapes and nothing is computed.
"""

from __future__ import annotations

import copy
import csv
import functools
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mmsb.analysis.counting import Counts, count
from mmsb.analysis.reports.page import NONE, as_markdown, as_text
from mmsb.registry import MODELS
from mmsb.studies.paper.networks import paper_networks
from mmsb.studies.paper.printed import PRINTED, TITLES, Printed
from mmsb.utils.errors import UserError

EQUAL = 'equal'
UNITS = {'M': 1e6, 'G': 1e9}
EXPLANATION = (
    'Param is in millions. FLOPs follow the convention that reproduces Table 1: layers count as '
    "in thop 0.0.31, and spatial bias makes its maps after a block's stride "
    "(`resolution='strided'`). The authors' release makes them before the stride "
    "(`'released'`, the default here), which costs a little more. `--format csv` has both, and "
    'the multiply-accumulates of convolutions and linear layers.',
    '"Equal" means equal in every printed digit. "Off by" is our figure minus the printed one. '
    '"Quoted" marks a figure that the paper took from another paper. "Other reading" marks a '
    'network that fits the row as well, where the paper does not say enough.',
)


@dataclass(frozen=True)
class Row:
    """A row of the paper with the counts of our network.

    Attributes:
        printed: The row as the paper prints it.
        strided: The network's cost with spatial bias computed after the stride.
        released: The network's cost with spatial bias as in the authors' release.
    """

    printed: Printed
    strided: Counts
    released: Counts

    @property
    def unit(self) -> str:
        """'M' on CIFAR-100 and 'G' on ImageNet, as in the paper's FLOPs columns."""
        return 'M' if self.printed.table in ('T1', 'T2', 'T3', 'T4', 'T5') else 'G'

    @property
    def flops(self) -> float:
        """FLOPs in the paper's convention and unit."""
        products = 2 * self.strided.matmul_macs if self.printed.products else 0
        return (self.strided.thop + products) / UNITS[self.unit]

    @property
    def params_verdict(self) -> str:
        return _verdict(self.strided.params / 1e6, self.printed.params)

    @property
    def flops_verdict(self) -> str:
        """Verdict on the FLOPs cell; empty if the paper prints none."""
        if self.printed.flops is None:
            return ''
        if self.printed.quoted:
            return f'quoted: {self.printed.quoted}'
        return _verdict(self.flops, self.printed.flops)


def build_tables(tables: Iterable[str] = (), names: Iterable[str] = ()) -> list[Row]:
    """Build the paper's networks and count their parameters and operations.

    Args:
        tables: Tables to build, 'T1' to 'T10'. Defaults to empty: all.
        names: Rows to build. Defaults to empty: all.

    Returns:
        The rows, in the paper's order.

    Raises:
        UserError: A table is unknown, or a row is not in these tables.

    Example:
        >>> row, = build_tables(['T1'], ['R38 s()'])
        >>> row.strided.params, row.params_verdict, row.flops_verdict
        (428980, 'equal', 'equal')
    """
    tables = [_known(table, TITLES, 'table') for table in tables] or list(TITLES)
    printed = [row for row in PRINTED if row.table in tables]
    known = list(dict.fromkeys(row.row for row in printed))
    names = [_known(name, known, f'row in {", ".join(tables)}') for name in names] or known
    return [
        Row(row, *(_measure(row.same_as or (row.table, row.row), r) for r in RESOLUTIONS))
        for row in printed
        if row.row in names
    ]


RESOLUTIONS = ('strided', 'released')


def _known(name: str, known: Iterable[str], what: str) -> str:
    for candidate in known:
        if name.lower() == candidate.lower():
            return candidate
    raise UserError(f'no {what} is named {name!r}; there are {"; ".join(known)}')


def _measure(key: tuple[str, str], resolution: str) -> Counts:
    network = copy.deepcopy(paper_networks()[key])
    if network['backbone_cfg'].get('spatial_bias'):
        network['backbone_cfg']['spatial_bias']['resolution'] = resolution
    return _count_network(json.dumps(network))  # cached: some rows have the same network


@functools.cache
def _count_network(text: str) -> Counts:
    network = json.loads(text)
    with torch.device('meta'):
        backbone = MODELS.build(network['backbone_cfg'])
        image = torch.empty(1, 3, *network['input_size'])
        features = []
        counts = count(backbone, image, forward=lambda x: features.extend(backbone(x)))
        return counts + count(_head(features[-1], **network), features[-1])


def _head(features: torch.Tensor, num_classes: int, input_size: Sequence[int], **_) -> nn.Module:
    # CIFAR's ResNets pool with a fixed window, ImageNet's adaptively; thop counts them differently.
    _, channels, height, width = features.shape
    cifar = tuple(input_size) == (32, 32)
    pool = nn.AvgPool2d((height, width)) if cifar else nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(pool, nn.Flatten(), nn.Linear(channels, num_classes))


def _verdict(ours: float, printed: str) -> str:
    digits = len(printed.partition('.')[2])
    # Table 1 is rounded twice, as thop prints: 103.3516 to 103.35 to 103.3.
    if float(printed) in (round(ours, digits), round(round(ours, digits + 1), digits)):
        return EQUAL
    return f'off by {ours - float(printed):+.{digits + 1}f}'


# ---------------------------------------------------------------- formats


def to_text(rows: Sequence[Row]) -> str:
    """Format the tables for the terminal."""
    parts = []
    for title, head, cells, notes in _tables(rows):
        lines = [title, as_text(head, cells), *(f'  {note}' for note in notes)]
        parts.append('\n'.join(lines))
    return '\n\n'.join([*parts, summary(rows)]) + '\n'


def to_markdown(rows: Sequence[Row]) -> str:
    """Format the tables as a Markdown page."""
    blocks = [('h1', "The paper's tables"), *(('markdown', text) for text in EXPLANATION)]
    blocks += [('p', summary(rows)), ('markdown', GENERATED)]
    for title, head, cells, notes in _tables(rows):
        blocks += [('h2', title), ('table', head, cells)]
        if notes:
            blocks.append(('markdown', '\n'.join(f'- {note}' for note in notes)))
    return as_markdown(blocks)


GENERATED = (
    'This page is made by `python tools/analysis_tools/paper_tables.py --format markdown --out '
    'docs/paper_tables.md`. Do not edit it.'
)


def _tables(rows: Sequence[Row]) -> Iterable[tuple[str, list[str], list[list[str]], list[str]]]:
    for table, title in TITLES.items():
        found = [row for row in rows if row.printed.table == table]
        if not found:
            continue
        flops = f'{found[0].unit}FLOPs'
        head = ['network', 'Param', 'ours', 'verdict', flops, 'ours', 'verdict']
        notes = [f'{row.printed.row}: {row.printed.note}' for row in found if row.printed.note]
        yield f'Table {table[1:]}: {title}', head, [_cells(row) for row in found], notes


def _cells(row: Row) -> list[str]:
    printed = row.printed
    return [
        printed.row + ' (other reading)' * printed.other_reading,
        printed.params,
        f'{row.strided.params:,}',
        row.params_verdict,
        printed.flops or NONE,
        f'{row.flops:.{3 if row.unit == "M" else 4}f}',
        row.flops_verdict or NONE,
    ]


def to_csv(rows: Sequence[Row]) -> str:
    """Format the tables as CSV, with all counts as integers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator='\n')
    writer.writerow(CSV_HEAD)
    for row in rows:
        printed, strided, released = row.printed, row.strided, row.released
        writer.writerow(
            [
                *(printed.table, printed.row, printed.params, printed.flops or ''),
                *(strided.params, strided.macs, released.macs, strided.thop, released.thop),
                strided.matmul_macs,
                *(row.params_verdict, f'{row.flops:.6f}', row.unit, row.flops_verdict),
                *('other' if printed.other_reading else 'taken', printed.note),
            ]
        )
    return out.getvalue()


CSV_HEAD = (
    *('table', 'row', 'printed_params_m', 'printed_flops'),
    *('params', 'macs_strided', 'macs_released', 'thop_strided', 'thop_released'),
    'attention_matmul_macs',
    *('params_verdict', 'flops', 'flops_unit', 'flops_verdict', 'reading', 'note'),
)
FORMATS = {'text': to_text, 'markdown': to_markdown, 'csv': to_csv}


def summary(rows: Sequence[Row]) -> str:
    """Return a sentence on how many printed cells are equal; other readings do not count."""
    taken = [row for row in rows if not row.printed.other_reading]
    params = [row.params_verdict for row in taken]
    flops = [row.flops_verdict for row in taken if row.flops_verdict]
    quoted = sum(verdict.startswith('quoted') for verdict in flops)
    text = f'Of {len(params)} printed Param cells {params.count(EQUAL)} are equal'
    if flops:
        off = len(flops) - flops.count(EQUAL) - quoted
        text += (
            f'; of {len(flops)} FLOPs cells {flops.count(EQUAL)} are equal, {off} off and '
            f'{quoted} quoted from other papers'
        )
    return text + '.'
