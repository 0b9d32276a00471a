"""Figures without a window, and the one style of their axes."""

import os

from mmsb.utils.files import replacing


def new_figure(size: tuple[float, float], dpi: int = 100, layout: str | None = 'constrained'):
    """An empty figure.

    Args:
        size: Width and height in inches.
        dpi: Pixels per inch. Defaults to 100.
        layout: matplotlib's layout engine; None where places are given. Defaults to 'constrained'.

    Returns:
        matplotlib.figure.Figure: The figure, which needs no display.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size, dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes, integers: bool = False) -> None:
    """Gives axes of curves a grey grid behind them and no frame above and at the right.

    Args:
        axes: matplotlib's axes.
        integers: Whether x counts something, as epochs. Defaults to False.
    """
    from matplotlib.ticker import MaxNLocator

    axes.grid(color='#dddddd', lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    if integers:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def save_figure(figure, path: str | os.PathLike, **options) -> None:
    """Writes a figure as PNG, whole or not at all.

    Args:
        figure: matplotlib's figure.
        path: The file.
        **options: Of ``savefig``.

    Raises:
        UserError: The file cannot be written.
    """
    with replacing(path) as part:
        figure.savefig(part, format='png', **options)
