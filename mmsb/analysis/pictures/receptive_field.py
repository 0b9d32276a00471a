"""Effective receptive fields of the stages of a backbone (Luo et al., 2016)."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from rich.progress import track
from torch import Tensor, nn

from mmsb.analysis.charts import new_figure, save_figure
from mmsb.analysis.reports.page import NONE
from mmsb.engine.config import innermost_dataset, input_shape
from mmsb.inference.images import read_image
from mmsb.inference.loading import load_backbone
from mmsb.utils.errors import UserError
from mmsb.utils.files import find_images, replacing

SHARES = (0.2, 0.5, 0.99)  # of the contribution
STEP = 32  # multiples of it are divisible by every stride of common networks
NOISE_IMAGES = 16


@dataclass(frozen=True)
class Field:
    """Effective receptive field of one stage of a network.

    Attributes:
        network: The network's name.
        stage: Number of the stage, from 1.
        contribution: Contribution per pixel from :func:`effective_fields`, (S, S), float64.
        centre: Row and column of the pixel that the unit lies over.
        convolutions: Side of the convolutions' receptive field in pixels (:func:`conv_field`);
            None if unknown.
        box: First and one past the last pixel of that field inside the image; None if unknown.
    """

    network: str
    stage: int
    contribution: np.ndarray
    centre: int
    convolutions: int | None
    box: tuple[int, int] | None

    @property
    def nonzero(self) -> float:
        """Share of the image's pixels with a contribution above 0."""
        return float((self.contribution > 0).mean())

    @property
    def outside(self) -> float | None:
        """Share of the contribution from pixels outside the convolutions' receptive field."""
        total = self.contribution.sum()
        if self.box is None or total == 0:
            return None
        inside = slice(*self.box)
        rest = self.contribution.copy()
        rest[inside, inside] = 0
        return float(rest.sum() / total)

    def square(self, share: float) -> tuple[int, float] | None:
        """Find the smallest centred square with this share, by :func:`smallest_square`."""
        return smallest_square(self.contribution, self.centre, share)


def receptive_fields(
    networks: Sequence[Sequence[str]],
    images: Sequence[str] = (),
    size: int | None = None,
    stages: Sequence[int] | None = None,
    out: str | Path = 'work_dirs/receptive_field',
    seed: int = 0,
    cfg_options: dict | None = None,
) -> list[Field]:
    """Measure and draw the effective receptive fields of configs' backbones.

    Batch norms use the statistics of the checkpoint, or mean 0 and variance 1 if untrained.
    Writes ``receptive_field.csv`` and ``receptive_field.png`` with one row per network and one
    column per stage.

    Args:
        networks: Config and checkpoint of each network; without a checkpoint weights are random.
        images: Image files and folders. Each image is resized so that its shorter side is
            ``size``, centre-cropped, and normalised by each config's data preprocessor. Defaults
            to none: 16 images of Gaussian noise.
        size: Side of the images in pixels, a multiple of every stage's stride. Defaults to None,
            the shorter side of the first config's test images, rounded up to a multiple of 32.
        stages: Stages to measure, from 1. Defaults to None, all.
        out: Folder for the files. Defaults to 'work_dirs/receptive_field'.
        seed: Seed of the random weights, noise and signs. Defaults to 0.
        cfg_options: Settings to override in all configs. Defaults to None.

    Returns:
        The fields, network by network, stage by stage.

    Raises:
        UserError: A config, checkpoint or image is missing, cannot be read or does not fit, or a
            network has no such stage.
    """
    loaded = []
    for config, *checkpoint in networks:
        cfg, model = load_backbone(config, *checkpoint[:1], cfg_options=cfg_options, seed=seed)
        if size is None:
            size = math.ceil(min(input_shape(cfg)) / STEP) * STEP
        weights = '/'.join(Path(checkpoint[0]).with_suffix('').parts[-2:]) if checkpoint else ''
        loaded.append((f'{Path(config).stem}, {weights or "untrained"}', cfg, model))
        _stage_modules(model.backbone, stages)
    if size < 1:
        raise UserError(f'--size {size}: give the side of the images in pixels')
    noise = torch.randn(NOISE_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(seed))
    pictures = [_square_image(path, size) for path in find_images(images)]
    fields = []
    for name, cfg, model in loaded:
        inputs = [normalised(cfg, model, picture) for picture in pictures] or noise.split(1)
        inputs = track(inputs, description=name, disable=not sys.stderr.isatty())
        found = effective_fields(model.backbone, inputs, stages, seed=seed)
        for stage, (contribution, centre) in found.items():
            reach = conv_field(model.backbone, stage, size, centre)
            fields.append(Field(name, stage, contribution, centre, *reach or (None, None)))
    with replacing(Path(out) / 'receptive_field.csv') as part:
        part.write_text(as_csv(fields), encoding='utf-8')
    save_figure(draw(fields), Path(out) / 'receptive_field.png')
    return fields


def effective_fields(
    backbone: nn.Module,
    images: Iterable[Tensor],
    stages: Sequence[int] | None = None,
    seed: int = 0,
) -> dict[int, tuple[np.ndarray, int]]:
    """Compute each pixel's contribution to the features at the centre of each stage's map.

    Luo et al. (2016, section 4) take the gradient of one unit with respect to the input. Here the
    unit is the sum over the channels at the centre of the map (row h // 2, column w // 2). Each
    channel has a random sign, sampled per image, so that similar channels do not cancel or add up
    in every image. The features are taken after the stage's last ReLU, the gradient is with
    respect to the normalised image. Its absolute value is summed over the colours and averaged
    over the images.

    Args:
        backbone: A network with stages named in ``res_layers``, in eval mode.
        images: Normalised images, (1, 3, S, S), all of one size, of the network's dtype.
        stages: Stages to measure, from 1. Defaults to None, all.
        seed: Seed of the random signs. Defaults to 0.

    Returns:
        For each stage the contributions, (S, S), float64, and the row and column of the pixel
        that the unit lies over.

    Raises:
        UserError: A stage does not exist, or its stride does not divide the size.
    """
    modules = _stage_modules(backbone, stages)
    signs = torch.Generator().manual_seed(seed)
    features, sums, centres, number = {}, {}, {}, 0
    hooks = [
        module.register_forward_hook(lambda _, __, out, stage=stage: features.update({stage: out}))
        for stage, module in modules.items()
    ]
    try:
        for image in images:
            number += 1
            image = image.detach().requires_grad_()
            backbone(image)
            for stage in modules:
                maps, side = features[stage], image.shape[-1]
                stride, rest = divmod(side, maps.shape[-1])
                if rest:
                    raise UserError(
                        f'--size {side}: the map of stage {stage} is {maps.shape[-1]} pixels wide, '
                        f'which does not divide it; give {math.ceil(side / STEP) * STEP}'
                    )
                middle = maps.shape[-1] // 2
                centres[stage] = middle * stride
                unit = maps[0, :, middle, middle]
                sign = torch.randint(2, unit.shape, generator=signs).to(unit) * 2 - 1
                (grad,) = torch.autograd.grad(unit @ sign, image, retain_graph=True)
                sums[stage] = sums.get(stage, 0) + grad[0].double().abs().sum(0)
            features.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return {stage: ((sums[stage] / number).numpy(), centres[stage]) for stage in modules}


def conv_field(
    backbone: nn.Module, stage: int, size: int, centre: int
) -> tuple[int, tuple[int, int]] | None:
    """Compute the theoretical receptive field of a ResNet's convolutions alone.

    Convolutions and pooling of the stem and of the blocks' main path count; shortcuts do not
    extend it. Spatial bias and plugins are excluded: any contribution from outside this field is
    due to them.

    Args:
        backbone: A ResNet of this package or a toolbox.
        stage: Number of the stage, from 1.
        size: Side of the image in pixels.
        centre: Row and column of the pixel that the unit lies over.

    Returns:
        Its side in pixels, and its first and one past its last pixel in the image; None if a
        convolution has no fixed kernel positions (deformable convolution).
    """
    last = backbone.res_layers[stage - 1]
    layers = []
    for name, module in backbone.named_modules():
        if not re.fullmatch(r'stem\.\d+|conv1|maxpool|layer\d+\.\d+\.conv\d', name):
            continue
        if name.startswith('layer') and name.split('.')[0] > last:
            break
        if hasattr(module, 'paths'):  # a selective kernel: take the widest path
            module = module.paths[-1].conv
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            sides = (module.kernel_size, module.stride, module.padding, module.dilation)
            layers.append([s if isinstance(s, int) else s[0] for s in sides])
        elif name != 'stem' and 'conv' in name:
            return None
    side, stride, sizes = 1, 1, [size]
    for kernel, step, padding, dilation in layers:
        reach = (kernel - 1) * dilation
        side += reach * stride
        stride *= step
        sizes.append((sizes[-1] + 2 * padding - reach - 1) // step + 1)
    low = high = centre // stride
    for (kernel, step, padding, dilation), length in zip(layers[::-1], sizes[-2::-1], strict=True):
        low = max(low * step - padding, 0)
        high = min(high * step - padding + (kernel - 1) * dilation, length - 1)
    return side, (low, high + 1)


def smallest_square(
    contribution: np.ndarray, centre: int, share: float
) -> tuple[int, float] | None:
    """Find the smallest square around a pixel that holds a share of the contribution.

    RepLKNet (Ding et al., 2022, Table 10) measures this on the logarithm of sums over images,
    which depends on the number of images and the gradient's scale. This function measures it on
    the contributions themselves.

    Args:
        contribution: Non-negative contribution per pixel, (S, S).
        centre: Row and column of the pixel.
        share: Share of the sum, from 0 to 1.

    Returns:
        The square's side in pixels (odd), and the area of its part inside the image relative to
        the image's area; None if nothing contributes.
    """
    away = np.abs(np.arange(len(contribution)) - centre)
    rings = np.maximum(away[:, None], away)
    held = np.bincount(rings.ravel(), contribution.ravel()).cumsum()
    if held[-1] == 0:
        return None
    radius = int(np.searchsorted(held, share * held[-1]))
    return 2 * radius + 1, float((rings <= radius).mean())


def table(fields: Sequence[Field]) -> tuple[list[str], list[list[str]]]:
    """Tabulate the fields as head and rows of cells.

    Returns:
        Network, stage; side of the convolutions' receptive field in pixels; area of the smallest
        centred square with 20, 50 and 99 % of the contribution, in % of the image; contribution
        from outside the convolutions' receptive field and pixels that contribute, in %.
    """
    head = ['network', 'stage', 'convs reach', *(f'{share:.0%} in' for share in SHARES)]
    rows = []
    for field in fields:
        squares = [field.square(share) for share in SHARES]
        cells = [_percent(square and square[1]) for square in squares]
        reach = f'{field.convolutions} px' if field.convolutions else NONE
        rows.append(
            [field.network, str(field.stage), reach, *cells, _percent(field.outside),
             _percent(field.nonzero)]
        )  # fmt: skip
    return [*head, 'from outside', 'pixels seen'], rows


def as_csv(fields: Sequence[Field]) -> str:
    """Format the figures of :func:`table` as CSV: fractions of 1, and square sides in pixels."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    names = [f'{what}_{share:.0%}'.rstrip('%') for share in SHARES for what in ('side', 'area')]
    head = ['network', 'stage', 'size', 'convolutions', *names, 'outside', 'nonzero']
    writer.writerow(head)
    for field in fields:
        squares = [x for share in SHARES for x in field.square(share) or (None, None)]
        row = [field.network, field.stage, len(field.contribution), field.convolutions, *squares]
        writer.writerow([*row, field.outside, field.nonzero])
    return file.getvalue()


def draw(fields: Sequence[Field]):
    """Draw the fields as heat maps, one row per network, one column per stage, one log scale.

    If there is only one stage, the networks are placed side by side instead.
    Each map is relative to its own largest contribution; pixels that contribute nothing are grey.
    The dashed box is the convolutions' receptive field, the dotted one holds 99 % of the total.

    Returns:
        The matplotlib ``Figure``.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    networks = list(dict.fromkeys(field.network for field in fields))
    stages = sorted({field.stage for field in fields})
    abreast = len(stages) == 1
    shape = (1, len(networks)) if abreast else (len(networks), len(stages))
    figure = new_figure((2.5 * shape[1] + 1.2, 2.75 * shape[0] + 0.4))
    grid = figure.subplots(*shape, squeeze=False)
    axes = grid.T if abreast else grid
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    relative = [field.contribution / (field.contribution.max() or 1) for field in fields]
    lows = [np.quantile(values[values > 0], 0.01) for values in relative if values.any()]
    norm = LogNorm(10 ** math.floor(math.log10(max(min(lows, default=0.1), 1e-8))), 1)
    colours = colormaps['magma'].with_extremes(bad='#bdbdbd')
    for field, values in zip(fields, relative, strict=True):
        axis = axes[networks.index(field.network), stages.index(field.stage)]
        shown = np.where(values > 0, np.maximum(values, norm.vmin), np.nan)
        picture = axis.imshow(shown, norm=norm, cmap=colours, interpolation='nearest')
        boxes = [(field.box, '--', '#4cc9f0')]
        if square := field.square(SHARES[-1]):
            radius = square[0] // 2
            boxes.append(((field.centre - radius, field.centre + radius + 1), ':', 'white'))
        for box, style, colour in boxes:
            if box is not None:
                low, high = max(box[0], 0), min(box[1], len(values))
                axis.add_patch(
                    Rectangle((low - 0.5, low - 0.5), high - low, high - low, fill=False,
                              ls=style, lw=1.2, ec=colour)
                )  # fmt: skip
        line = f'99 % in {_percent(square and square[1])}, sees {_percent(field.nonzero)}'
        axis.set_xlabel(line, fontsize=8)
    for axis, name in zip(axes[:, 0], networks, strict=True):
        write = axis.set_title if abreast else axis.set_ylabel
        write(name.replace(', ', '\n'), fontsize=9)
    if not abreast:
        for axis, stage in zip(axes[0], stages, strict=True):
            axis.set_title(f'stage {stage}', fontsize=10)
    bar = figure.colorbar(picture, ax=grid, shrink=0.8, pad=0.01)
    bar.set_label('contribution, over the largest', fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _percent(share: float | None) -> str:
    return NONE if share is None else f'{100 * share:.3g} %'


def _stage_modules(backbone: nn.Module, stages: Sequence[int] | None) -> dict[int, nn.Module]:
    names = getattr(backbone, 'res_layers', None)
    if not names:
        raise UserError(f'{type(backbone).__name__} has no stages as a ResNet has (res_layers)')
    for stage in stages or ():
        if not 1 <= stage <= len(names):
            raise UserError(f'stage {stage} does not exist: the stages are 1 to {len(names)}')
    chosen = sorted(set(stages or range(1, len(names) + 1)))
    return {stage: backbone.get_submodule(names[stage - 1]) for stage in chosen}


def _square_image(path: Path, size: int) -> np.ndarray:
    """Load an image, resize and centre-crop it: BGR, (size, size, 3)."""
    picture = read_image(path)
    scale = size / min(picture.shape[:2])
    height, width = (max(size, round(side * scale)) for side in picture.shape[:2])
    picture = mmcv.imresize(picture, (width, height))
    top, left = (height - size) // 2, (width - size) // 2
    return picture[top : top + size, left : left + size]


def normalised(cfg: Config, model: nn.Module, picture: np.ndarray) -> Tensor:
    """Normalise a BGR image (H, W, 3) as the model expects: (1, 3, H, W)."""
    steps = innermost_dataset(cfg.test_dataloader.dataset).pipeline
    if not any('LoadImage' in step['type'] for step in steps):
        picture = picture[..., ::-1]  # the CIFAR data set and its models use RGB
    image = torch.from_numpy(picture.transpose(2, 0, 1).copy())
    return model.data_preprocessor(dict(inputs=[image], data_samples=None), False)['inputs']
