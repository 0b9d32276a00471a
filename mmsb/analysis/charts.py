"""matplotlib figures that need no display, and their common style."""

import os

from mmsb.utils.files import replacing


def new_figure(size: tuple[float, float], dpi: int = 100, layout: str | None = 'constrained'):
    """Make an empty figure.

    Args:
        size: Width and height in inches.
        dpi: Pixels per inch. Defaults to 100.
        layout: matplotlib's layout engine; None to place axes by hand. Defaults to 'constrained'.

    Returns:
        matplotlib.figure.Figure: The figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size, dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes, integers: bool = False) -> None:
    """Style the axes of curves: a grey grid behind them, no frame at the top and right.

    Args:
        axes: A matplotlib ``Axes``.
        integers: Whether x takes only integer ticks, e.g. for epochs. Defaults to False.
    """
    from matplotlib.ticker import MaxNLocator

    axes.grid(color='#dddddd', lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    if integers:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def save_figure(figure, path: str | os.PathLike, **options) -> None:
    """Write a figure as PNG; a failure leaves no partial file.

    Args:
        figure: A matplotlib ``Figure``.
        path: The file to write.
        **options: Passed to ``savefig``.

    Raises:
        UserError: The file cannot be written.
    """
    from matplotlib.text import Text

    numbers = {  # a logarithmic axis writes its numbers as formulas
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for label in axis.get_ticklabels(which='both')
    }
    for text in figure.findobj(Text):  # a name with two dollars is a name, not a formula
        if text not in numbers:
            text.set_parse_math(False)
    with replacing(path) as part:
        figure.savefig(part, format='png', **options)
