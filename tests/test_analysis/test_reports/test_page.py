"""Names in pages and charts are shown as they are, whatever they hold."""

import html
import re

import pytest
from markdown_it import MarkdownIt

from mmsb.analysis.charts import new_figure, save_figure, style_axes
from mmsb.analysis.reports.detection_pictures import _Sheet
from mmsb.analysis.reports.page import as_markdown

NAMES = ['a|b', 'run_1', '__init__', '*x*', '<img src=x onerror=y>', '[a](http://b)', 'a\\b', '`c`',
         '&amp;', 'two\nlines', '10 ± 0.5']  # fmt: skip


@pytest.mark.parametrize('name', NAMES)
def test_markdown_shows_names_as_they_are(name):
    page = as_markdown(
        [('h1', name), ('p', f'of {name}.'), ('table', ['run', name], [[name, '1']])]
    )
    page = MarkdownIt('commonmark').enable('table').render(page)
    assert not re.search(r'<(img|a|em|strong|code)\b', page)
    shown = html.unescape(re.sub(r'<[^>]+>', '\n', page)).split('\n')
    shown = [line for line in shown if line.strip()]
    name = name.replace('\n', ' ')
    assert shown == [name, f'of {name}.', 'run', name, name, '1']


def test_dollars_in_a_name_are_no_formula(tmp_path):
    figure = new_figure((2, 2))
    axes = figure.subplots()
    axes.plot([1, 1000], [0, 1], label=r'cost $\frac{1$ of $')
    axes.set_xscale('log')
    axes.legend()
    style_axes(axes)
    save_figure(figure, tmp_path / 'a.png')
    assert axes.xaxis.get_ticklabels()[0].get_parse_math()  # powers of ten are formulas
    sheet = _Sheet(100, 100)
    drawn = sheet.text(0, 0, r'$\frac{1$')
    assert drawn.get_window_extent(sheet.renderer).width > 20
