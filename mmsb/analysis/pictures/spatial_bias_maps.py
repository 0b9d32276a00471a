"""The maps of spatial bias, drawn over the image that they are made from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from mmsb.analysis.charts import new_figure, save_figure
from mmsb.inference.images import load_inputs
from mmsb.inference.loading import load_backbone
from mmsb.models.backbones.residual_block import ResidualBlock
from mmsb.utils.errors import UserError
from mmsb.utils.files import find_images, output_paths

PANEL = 2.2  # inches, the longer side
GREY = np.array([0.299, 0.587, 0.114])
LEGEND = 'red: above 0\nblue: below 0\neach map to its own\nlargest value'


def draw_images(
    paths: Sequence[str],
    config: str,
    checkpoint: str,
    out_dir: str | Path = 'spatial_bias',
    blocks: Sequence[str] | None = None,
) -> Iterator[tuple[Path, Path, str]]:
    """Draws the maps of spatial bias for images, which go through the config's test pipeline.

    Args:
        paths: Image files and folders.
        config: A config of any of the three tasks.
        checkpoint: Its weights.
        out_dir: Folder for the sheets, NAME.png each. Defaults to 'spatial_bias'.
        blocks: Names as 'layer1.0'. Defaults to None, all that have spatial bias.

    Yields:
        For each image its path, that of its sheet, and a line that says what is on it.

    Raises:
        UserError: The config, the checkpoint or an image is missing, cannot be read or does not
            fit, or there is no spatial bias, or none in such a block.
    """
    images = find_images(paths)
    cfg, model = load_backbone(config, checkpoint)
    blocks = list(blocks_with_maps(model.backbone, blocks))
    outs = output_paths(images, out_dir)
    for path in track(images, description='drawing', disable=not sys.stderr.isatty()):
        inputs = load_inputs(cfg, model, path)
        maps = compute_maps(model.backbone, inputs.tensor, blocks)
        save_figure(sheet(inputs.picture, inputs.tensor.shape[2:], maps), outs[path])
        yield path, outs[path], f'maps of {", ".join(maps)}'


def spatial_bias_blocks(network: nn.Module) -> dict[str, ResidualBlock]:
    """The blocks of a backbone or a whole model that have spatial bias, by their names in it."""
    return {
        name: block
        for name, block in network.named_modules()
        if isinstance(block, ResidualBlock) and block.spatial_bias_at
    }


def blocks_with_maps(
    backbone: nn.Module, names: Sequence[str] | None = None
) -> dict[str, ResidualBlock]:
    """The blocks of a backbone that have spatial bias, by name.

    Args:
        backbone: The backbone.
        names: The ones to take, in the network's order. Defaults to None, all.

    Raises:
        UserError: There is none, or none of such a name.
    """
    found = spatial_bias_blocks(backbone)
    if not found:
        raise UserError(
            f'this {type(backbone).__name__} has no spatial bias: give a config that has, '
            'as configs/sb_resnet50_step-90e_in1k.py'
        )
    for name in names or ():
        if name not in found:
            raise UserError(
                f'there is no block {name!r} with spatial bias: those are {", ".join(found)}'
            )
    return {name: block for name, block in found.items() if names is None or name in names}


def compute_maps(
    backbone: nn.Module, images: Tensor, blocks: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """The maps as the norm hands them on, each normalised by its own statistics.

    Concatenated maps share a batch norm with the convolution's features, and pass a ReLU before
    the next convolution: of what is shown, it sees the positive part. Where no norm is theirs
    (``fusion='add'``, SB-SK with ``norm='none'``) they are shown as spatial bias makes them.

    Args:
        backbone: The backbone, in eval mode.
        images: Normalised images, (B, 3, H, W).
        blocks: Their names. Defaults to None, all that have spatial bias.

    Returns:
        For each block (B, num_channels, h, w), as large as its features.

    Raises:
        UserError: As :func:`blocks_with_maps`.
    """
    maps = {}

    def keep(name: str, number: int):
        # a copy: the ReLU that follows works in place
        return lambda _, __, out: maps.update({name: out[:, -number:].numpy(force=True).copy()})

    hooks = []
    for name, block in blocks_with_maps(backbone, blocks).items():
        norm = block.widened_layers[0]
        source = block.spatial_bias if norm is None or block.fusion == 'add' else norm
        source = getattr(block, source) if isinstance(source, str) else source
        hooks.append(source.register_forward_hook(keep(name, block.spatial_bias.num_channels)))
    try:
        with torch.no_grad():
            backbone(images)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def sheet(picture: np.ndarray, size: Sequence[int], maps: dict[str, np.ndarray]):
    """One image with its maps: the image, then a row a block and a column a map.

    Red is positive and blue negative, the stronger the farther from 0; 0 is the bare image in
    grey. Each map has its own scale, to its largest value of either sign; its range is printed.

    Args:
        picture: What the network sees, RGB, uint8, (h, w, 3).
        size: Height and width of the network's input, which is padded at the right and bottom.
        maps: For each block (1, num_channels, h', w'), over the whole input.

    Returns:
        The matplotlib ``Figure``.
    """
    shape = (len(maps) + 1, max(values.shape[1] for values in maps.values()))
    height, width = picture.shape[:2]
    panel = PANEL * min(1, width / height), PANEL * min(1, height / width) + 0.3
    figure = new_figure((max(panel[0], 1.7) * shape[1], panel[1] * shape[0]), 90)
    axes = figure.subplots(*shape, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].imshow(picture)
    axes[0, 0].set_title(f'image, {height} x {width}', fontsize=8)
    if shape[1] > 1:
        axes[0, 1].text(0, 0.5, LEGEND, fontsize=8, va='center', transform=axes[0, 1].transAxes)
    paper = np.repeat(picture @ GREY * 0.4 + 0.6 * 255, 3).reshape(picture.shape).astype(np.uint8)
    for row, (name, values) in zip(axes[1:], maps.items(), strict=True):
        for number, (axis, one) in enumerate(zip(row, values[0], strict=False), 1):
            largest = float(np.abs(one).max()) or 1.0
            axis.imshow(paper)
            axis.imshow(
                one, cmap='RdBu_r', vmin=-largest, vmax=largest, interpolation='nearest',
                alpha=0.8 * np.minimum(np.abs(one) / largest * 1.5, 1),
                extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5),
            )  # fmt: skip
            axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            low, high = (f'{value:.2g}'.replace('-', '−') for value in (one.min(), one.max()))
            axis.set_title(f'{name}, map {number}\n{low} to {high}', fontsize=8)
    return figure
