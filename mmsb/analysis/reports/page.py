"""Pages of text, tables and pictures as HTML, Markdown or terminal text.

A page is a list of blocks: ``('h1' | 'h2' | 'p', text)``, ``('img', file, description)`` or
``('table', head, rows)`` with strings in the cells; columns of numbers are right-aligned. All
strings are shown as they are; a Markdown page may also have ``('markdown', text)``.
"""

import html
import math
import os
import re
import statistics
from pathlib import Path

from mmsb.utils.files import replacing

NONE = '–'  # shown in an empty cell


def mean_and_spread(values: list[float], digits: int) -> str:
    """Format mean ± sample standard deviation (n - 1); one value alone; no values as `NONE`.

    Values that are not finite are left out. Their presence shows: ``0.42 ± 0.01 (2 of 3)``.
    """
    number = len(values)
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return NONE
    spread = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    count = f' ({len(values)} of {number})' if len(values) < number else ''
    return f'{statistics.mean(values):.{digits}f}{spread}{count}'


def as_text(head: list[str], rows: list[list[str]]) -> str:
    """Format a table in columns for the terminal."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return '\n'.join(
        '  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in (head, *rows)
    )


def as_markdown(blocks: list[tuple]) -> str:
    """Format a page as Markdown."""

    def row(cells):
        return '| ' + ' | '.join(map(_escaped, cells)) + ' |'

    parts = []
    for kind, *rest in blocks:
        if kind == 'table':
            head, rows = rest
            ruler = ['---:' if right else '---' for right in _right(rows)]
            parts.append('\n'.join(map(row, (head, ruler, *rows))))
        elif kind == 'markdown':
            parts.append(rest[0])
        elif kind == 'img':
            parts.append(f'![{_escaped(rest[1])}]({rest[0]})')
        else:
            parts.append({'h1': '# ', 'h2': '## ', 'p': ''}[kind] + _escaped(rest[0]))
    return '\n\n'.join(parts) + '\n'


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, e.g. the name of a run or of a class."""
    text = ' '.join(text.split('\n'))
    text = text.replace('&', '&amp;').replace('<', '&lt;')
    return re.sub(r'([\\`*\[\]|]|(?<![^\W_])_|_(?![^\W_]))', r'\\\1', text)


def _right(rows: list[list[str]]) -> list[bool]:
    return [
        n > 0 and all(cell == NONE or cell[:1].isdigit() for cell in column)
        for n, column in enumerate(zip(*rows, strict=True))
    ]


CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 1232px; margin: 2em auto 4em; padding: 0 20px; }
h1 { margin: 0 0 .2em; }
h2 { margin: 2em 0 .6em; padding-top: .8em; border-top: 1px solid #ddd; }
img { display: block; max-width: calc(100% + 32px); height: auto; margin: .5em -16px; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .9em; border-bottom: 1px solid #e4e4e4; text-align: left; }
thead th { border-bottom: 2px solid #888; }
tbody tr:hover { background: #f4f7fa; }
.right { text-align: right; }
"""


def as_html(blocks: list[tuple]) -> str:
    """Format a page as HTML without scripts or remote files; pictures lie beside it."""
    title = next(text for kind, text, *_ in blocks if kind == 'h1')
    lines = [
        '<!DOCTYPE html>',
        '<html lang="en">',
        '<head>',
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{html.escape(title)}</title>',
        f'<style>{CSS}</style>',
        '</head>',
        '<body>',
    ]
    for kind, *rest in blocks:
        if kind == 'table':
            lines += _html_table(*rest)
        elif kind == 'img':
            name, alt = map(html.escape, rest)
            lines.append(f'<a href="{name}"><img src="{name}" alt="{alt}"></a>')
        else:
            lines.append(f'<{kind}>{html.escape(rest[0])}</{kind}>')
    return '\n'.join([*lines, '</body>', '</html>', ''])


def _html_table(head: list[str], rows: list[list[str]]) -> list[str]:
    right = _right(rows)

    def row(cells, tags):
        return '<tr>{}</tr>'.format(
            ''.join(
                f'<{tag}{" class=right" * side}>{html.escape(cell)}</{tag}>'
                for cell, side, tag in zip(cells, right, tags, strict=True)
            )
        )

    tags = ['th', *['td'] * (len(head) - 1)]
    body = [row(cells, tags) for cells in rows]
    return [
        '<table>',
        f'<thead>{row(head, ["th"] * len(head))}</thead>',
        '<tbody>',
        *body,
        '</tbody>',
        '</table>',
    ]


def write_page(out_dir: str | os.PathLike, blocks: list[tuple]) -> Path:
    """Write a page as ``report.md`` and ``report.html``.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: The folder cannot be written.
    """
    for name, page in (('report.md', as_markdown(blocks)), ('report.html', as_html(blocks))):
        path = Path(out_dir) / name
        with replacing(path) as part:
            part.write_text(page, encoding='utf-8')
    return path
