"""Spatial bias maps, drawn over their input image."""

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

PANEL = 2.2  # longer side of a panel in inches
GREY = np.array([0.299, 0.587, 0.114])
LEGEND = 'red: above 0\nblue: below 0\neach map to its own\nlargest value'


def draw_images(
    paths: Sequence[str],
    config: str,
    checkpoint: str,
    out_dir: str | Path = 'spatial_bias',
    blocks: Sequence[str] | None = None,
) -> Iterator[tuple[Path, Path, str]]:
    """Draw the spatial bias maps of images, loaded with the config's test pipeline.

    Args:
        paths: Image files and folders.
        config: Config of a classifier, detector or segmentor.
        checkpoint: Checkpoint with its weights.
        out_dir: Folder for the sheets, written as NAME.png. Defaults to 'spatial_bias'.
        blocks: Block names such as 'layer1.0'. Defaults to None, all with spatial bias.

    Yields:
        For each image its path, the path of its sheet, and a line that names the blocks on it.

    Raises:
        UserError: The config, the checkpoint or an image is missing, cannot be read or does not
            fit, or the network or a named block has no spatial bias.
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
    """Find the blocks with spatial bias in a backbone or a whole model, by module name."""
    return {
        name: block
        for name, block in network.named_modules()
        if isinstance(block, ResidualBlock) and block.spatial_bias_at
    }


def blocks_with_maps(
    backbone: nn.Module, names: Sequence[str] | None = None
) -> dict[str, ResidualBlock]:
    """Select the blocks of a backbone that have spatial bias, by name.

    Args:
        backbone: The backbone.
        names: Blocks to select. The result keeps the network's order. Defaults to None, all.

    Raises:
        UserError: The backbone or a named block has no spatial bias.
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
    """Compute the maps after the batch norm, which normalises each map separately.

    Concatenated maps share a batch norm with the convolution's features. A ReLU follows, so the
    next convolution sees only the positive part of these maps. Without a norm (``fusion='add'``,
    SB-SK with ``norm='none'``) the output of spatial bias itself is returned.

    Args:
        backbone: The backbone, in eval mode.
        images: Normalised images, (B, 3, H, W).
        blocks: Block names. Defaults to None, all with spatial bias.

    Returns:
        For each block (B, num_channels, h, w), of the size of the block's features.

    Raises:
        UserError: As :func:`blocks_with_maps`.
    """
    maps = {}

    def keep(name: str, number: int):
        # copy, because the following ReLU works in place
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
    """Draw one image and its maps: the image, then one row per block and one column per map.

    Red is positive, blue negative, stronger for larger values; at 0 only the grey image shows.
    Each map has its own scale, set by its largest absolute value; its range is printed.

    Args:
        picture: The network's input as an image, RGB, uint8, (h, w, 3).
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
