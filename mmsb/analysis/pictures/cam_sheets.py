"""Sheets of class activation maps with networks side by side."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from mmsb.analysis.charts import new_figure, save_figure
from mmsb.analysis.pictures.cam import Explanation, explain, method_class
from mmsb.analysis.pictures.cam_layers import Layer, Network, find_layers, load_network
from mmsb.inference.images import load_inputs
from mmsb.toolboxes import NothingToExplainError
from mmsb.utils.errors import UserError
from mmsb.utils.files import find_images, output_paths

PANEL, FONT, DPI = 2.8, 8, 110  # width of a panel in inches, font size in points, dots per inch
OTHERS = 'give a lower --score, another --category, other --layers or --method eigencam'


def explain_images(
    images: Sequence[str],
    networks: Sequence[tuple[str, str, str]],
    out_dir: str = 'cams',
    method: str | None = None,
    layers: Sequence[str] = (),
    category: str | None = None,
    min_score: float = 0.3,
    spatial_bias: bool = False,
) -> Iterator[tuple[Path, Path | None, str]]:
    """Draw one sheet per image with the class activation maps of all networks side by side.

    Args:
        images: Image files and folders.
        networks: Name, config and checkpoint of each network; tasks may differ.
        out_dir: Folder for the sheets, written as NAME.png. Defaults to 'cams'.
        method: See :func:`explain`.
        layers: See :func:`find_layers`; one row per layer. Defaults to the last stage.
        category: See :func:`explain`.
        min_score: See :func:`explain`.
        spatial_bias: Whether ``layers`` are blocks, shown as the maps of the convolution beside
            those of spatial bias. Defaults to False.

    Yields:
        For each image its path, the path of its sheet (None if there is nothing to explain) and a
        line that says what each network found.

    Raises:
        UserError: An argument is invalid, a file cannot be read, or no image has anything to
            explain.
    """
    method_class(method or 'gradcam')  # before anything is loaded
    paths = find_images(images)
    loaded = [load_network(*network) for network in networks]
    columns = [(network, find_layers(network, layers, spatial_bias)) for network in loaded]
    written = False
    outs = output_paths(paths, out_dir)
    for path in track(paths, description='explaining', disable=not sys.stderr.isatty()):
        found = [
            _explain_or_say(network, path, parts, method, category, min_score)
            for network, parts in columns
        ]
        line = '; '.join(f'{net.name}: {e.text}' for net, e in zip(loaded, found, strict=True))
        explained = any(m is not None for explanation in found for m in explanation.maps)
        if explained:
            figure = draw_sheet(path.name, columns, found, 2 if spatial_bias else 1)
            save_figure(figure, outs[path], dpi=DPI)
        elif len(paths) == 1:
            raise UserError(f'{line}; {OTHERS}')
        written |= explained
        yield path, outs[path] if explained else None, line
    if not written:
        raise UserError(f'nothing to explain in any of the {len(paths)} images; {OTHERS}')


def _explain_or_say(network, path, layers, method, category, min_score) -> Explanation:
    inputs = load_inputs(network.cfg, network.model, path)
    try:
        return explain(network, inputs, layers, method, category, min_score)
    except NothingToExplainError as error:
        return Explanation(inputs.picture, [None] * len(layers), str(error))


def draw_sheet(
    title: str,
    columns: Sequence[tuple[Network, Sequence[Layer]]],
    found: Sequence[Explanation],
    layers_a_row: int = 1,
):
    """Draw a sheet: the image, then each network's maps over its input.

    Args:
        title: Title of the image.
        columns: The networks and their layers.
        found: One explanation per network.
        layers_a_row: Number of a network's layers per row. Defaults to 1.

    Returns:
        matplotlib.figure.Figure: The sheet. Colours range from 0 to each map's own peak; the title
        of a panel gives the :func:`spread` of its map.
    """
    rows = max(len(layers) for _, layers in columns) // layers_a_row
    width = 1 + len(columns) * layers_a_row
    aspect = max(e.picture.shape[0] / e.picture.shape[1] for e in found)
    size = PANEL * width, (PANEL * aspect + 0.35) * rows + 0.35
    figure = new_figure(size)
    panels = figure.subplots(rows, width, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    panels[0, 0].imshow(found[0].picture, interpolation='bilinear')
    panels[0, 0].set_title(title, fontsize=FONT)
    for i, ((network, layers), explanation) in enumerate(zip(columns, found, strict=True)):
        for j, (layer, heat) in enumerate(zip(layers, explanation.maps, strict=True)):
            row, column = divmod(j, layers_a_row)
            axes = panels[row, 1 + i * layers_a_row + column]
            _draw_map(axes, explanation, heat)
            far = 'no map' if heat is None else f'spread {spread(heat):.2f}'
            lines = [f'{layer.title}, {far}']
            if j == 0:
                lines.insert(0, textwrap.fill(f'{network.name}: {explanation.text}', 44))
            axes.set_title('\n'.join(lines), fontsize=FONT)
    return figure


def spread(heat: np.ndarray) -> float:
    """Spread of a map: RMS distance from its centre of mass, relative to a constant map.

    Args:
        heat: A non-negative map, (h, w).

    Returns:
        0 for a single point, 1 for a constant map, more than 1 for opposite corners.
    """
    height, width = heat.shape
    y, x = np.mgrid[:height, :width]
    share = heat / heat.sum(dtype=np.float64)
    variance = sum((share * (z - (share * z).sum()) ** 2).sum() for z in (y, x))
    return float(np.sqrt(variance / ((height**2 + width**2 - 2) / 12)))


def _draw_map(axes, explanation: Explanation, heat: np.ndarray | None) -> None:
    from matplotlib.patches import Rectangle
    from pytorch_grad_cam.utils.image import show_cam_on_image

    picture = explanation.picture
    if heat is not None:
        picture = show_cam_on_image(
            np.float32(picture) / 255, heat, use_rgb=True, colormap=cv2.COLORMAP_TURBO
        )
    axes.imshow(picture, interpolation='bilinear')
    if explanation.mask is not None:
        axes.contour(explanation.mask, [0.5], colors='white', linewidths=1)
    for x1, y1, x2, y2 in () if explanation.boxes is None else explanation.boxes:
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color='white', lw=1))
