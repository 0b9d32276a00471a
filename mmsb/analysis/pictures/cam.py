"""Class activation maps: what in an image a network's answer comes from (paper, Figs. 2 and 4).

The maps are grad-cam's. This module says what they explain in each of the three tasks, and finds
the layers, convolution and spatial bias of a block apart.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from rich.progress import track
from torch import Tensor, nn

from mmsb.analysis.pictures.spatial_bias_maps import spatial_bias_blocks
from mmsb.engine.config import use_weights
from mmsb.engine.explaining import explained_errors
from mmsb.inference.images import Inputs, load_inputs
from mmsb.inference.loading import load_model, read_config
from mmsb.utils.errors import UserError
from mmsb.utils.files import find_images, output_paths, replacing

# grad-cam's classes that need one forward and at most one backward pass. Left out: those that run
# the network once a channel (ScoreCAM, AblationCAM), that keep the graph of the gradient
# (ShapleyCAM), that are for classifiers alone (FinerCAM), whose maps are of the whole network
# (FullGrad) or of chance (RandomCAM).
METHODS = {
    'gradcam': 'GradCAM',
    'gradcam++': 'GradCAMPlusPlus',
    'xgradcam': 'XGradCAM',
    'layercam': 'LayerCAM',
    'hirescam': 'HiResCAM',
    'gradcamelementwise': 'GradCAMElementWise',
    'eigencam': 'EigenCAM',
    'eigengradcam': 'EigenGradCAM',
    'segeigencam': 'SegEigenCAM',
    'kpcacam': 'KPCA_CAM',
    'fem': 'FEM',
}
# They decompose a matrix of all positions by all positions: 10,000 take 400 MB and minutes.
OF_ALL_POSITIONS = ('eigencam', 'eigengradcam', 'segeigencam', 'kpcacam')
MOST_POSITIONS = 10_000


PANEL, FONT, DPI = 2.8, 8, 110  # a sheet's panel is so many inches wide, its titles in points
OTHERS = 'give a lower --score, another --category, other --layers or --method eigencam'


class NothingToExplainError(UserError):
    """The network finds nothing of what was asked for in this image."""


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        name: What to call it.
        cfg: Its config.
        model: Its model, in evaluation mode.
        classes: Their names; empty where the checkpoint has none.
    """

    name: str
    cfg: Config
    model: nn.Module
    classes: Sequence[str] = ()

    def class_name(self, index: int) -> str:
        """The class' name, the first of several; 'class 7' where there is none."""
        known = index < len(self.classes)
        return self.classes[index].split(',')[0] if known else f'class {index}'

    def class_index(self, category: str) -> int:
        """Finds a class by its name or index.

        Raises:
            UserError: There is no such class.
        """
        names = [name.split(',')[0].lower() for name in self.classes]
        if category.lower() in names:
            return names.index(category.lower())
        if category.isdecimal() and (not names or int(category) < len(names)):
            return int(category)
        close = difflib.get_close_matches(category.lower(), names, n=3)
        hint = f'did you mean {" or ".join(close)}? ' if close else ''
        known = f'a name or an index from 0 to {len(names) - 1}' if names else 'an index'
        raise UserError(f'{self.name} has no class {category!r}: {hint}Give {known}')


@dataclass(frozen=True, eq=False)
class Layer:
    """A module whose output is laid over the picture.

    Attributes:
        title: What to call it.
        module: The module.
    """

    title: str
    module: nn.Module


@dataclass(frozen=True)
class Aim:
    """What is explained.

    Attributes:
        value: The number whose gradient is taken.
        text: Says what it is.
        boxes: Detections, (N, 4), as x1, y1, x2, y2 in pixels of the input.
        mask: Pixels of a segment, (H, W), of the input.
    """

    value: Tensor
    text: str
    boxes: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Explanation:
    """A network's answer and where it comes from.

    Attributes:
        picture: What the network saw, RGB, uint8, (h, w, 3).
        maps: Of each layer, (h, w), from 0 to 1 over the input; None where it is the same all over.
        text: What is explained, or why nothing is.
        boxes: See :class:`Aim`.
        mask: See :class:`Aim`.
    """

    picture: np.ndarray
    maps: list[np.ndarray | None]
    text: str
    boxes: np.ndarray | None = None
    mask: np.ndarray | None = None


# ------------------------------------------------------------- what is explained, task by task


def _run_classifier(model: nn.Module, x: Tensor, samples: list) -> Tensor:
    return model(x, mode='tensor')


def _aim_at_class(logits: Tensor, network: Network, category: str | None, min_score: float) -> Aim:
    """A class' logit: by default the class predicted."""
    index = int(logits.argmax()) if category is None else network.class_index(category)
    if index >= len(logits):
        raise UserError(f'{network.name} has {len(logits)} classes, 0 to {len(logits) - 1}')
    score = logits.softmax(0)[index].item()
    return Aim(logits[index], f'{network.class_name(index)} {score:.2f}')


def _run_segmentor(model: nn.Module, x: Tensor, samples: list) -> Tensor:
    return model.encode_decode(x, [dict(img_shape=x.shape[2:])])


def _aim_at_segment(
    logits: Tensor, network: Network, category: str | None, min_score: float
) -> Aim:
    """The sum of a class' logits over the pixels predicted as it: by default the most frequent."""
    labels = logits.argmax(0)
    counts = labels.flatten().bincount(minlength=len(logits))
    if category is not None:
        index = network.class_index(category)
    else:
        foreground = counts.clone()
        for i, name in enumerate(network.classes[: len(counts)]):
            foreground[i] *= name.lower() != 'background'
        index = int(foreground.argmax())
    if index >= len(counts) or not counts[index]:
        raise NothingToExplainError(f'no pixel is predicted as {network.class_name(index)}')
    mask = labels == index
    text = f'{network.class_name(index)}, {mask.float().mean():.0%} of the pixels'
    return Aim(logits[index][mask].sum(), text, mask=mask.cpu().numpy())


def _run_detector(model: nn.Module, x: Tensor, samples: list) -> list:
    return [sample.pred_instances for sample in model.predict(x, samples, rescale=False)]


def _aim_at_boxes(found, network: Network, category: str | None, min_score: float) -> Aim:
    """The sum of the log-odds of the boxes' scores.

    Not of the scores: the surer a box is, the smaller is the gradient of its probability, and the
    map would be of the doubtful boxes. What leads to a box's place is not explained.
    """
    kept = found.scores >= min_score
    wanted = 'detection'
    if category is not None:
        index = network.class_index(category)
        kept &= found.labels == index
        wanted = f'{network.class_name(index)} detected'
    if not kept.any():
        raise NothingToExplainError(f'no {wanted} of score {min_score:g} or more')
    scores = found.scores[kept]
    counts = Counter(network.class_name(label) for label in found.labels[kept].tolist())
    text = ', '.join(f'{count} {name}' for name, count in counts.most_common(3))
    text += ',\xa0...' if len(counts) > 3 else ''
    value = scores.logit(eps=torch.finfo(scores.dtype).eps).sum()
    return Aim(value, text, boxes=found.bboxes[kept].detach().cpu().numpy())


# of a toolbox: how its models run on an input, and what of one image's output is explained
TASKS = dict(
    mmpretrain=(_run_classifier, _aim_at_class, 'gradcam'),
    mmseg=(_run_segmentor, _aim_at_segment, 'gradcam'),
    # A box hangs on one place; Grad-CAM, which weights a channel everywhere alike, misses it.
    mmdet=(_run_detector, _aim_at_boxes, 'layercam'),
)


# --------------------------------------------------------------------------------- the layers


def find_layers(
    network: Network, names: Sequence[str] = (), spatial_bias: bool = False
) -> list[Layer]:
    """Finds the features to explain.

    Args:
        network: The network.
        names: Names of modules. Of none, the last stage that the backbone hands on.
        spatial_bias: The names are of blocks with spatial bias, of each of which the two parts that
            it concatenates are found, before the norm that they share (the paper's Eq. 1): the
            convolution's output and the maps. Of no names, the last such block of each stage.

    Returns:
        The layers, two a block with ``spatial_bias``.

    Raises:
        UserError: There is no such layer, or the network has no spatial bias.
    """
    if spatial_bias:
        return _spatial_bias_parts(network, names)
    modules = dict(network.model.named_modules())
    if not names:
        backbone = network.model.backbone
        if not hasattr(backbone, 'res_layers'):
            raise UserError(
                f'{network.name}: which layer of a {type(backbone).__name__} to explain is not '
                f'known; give --layers, as of {_known_layers(network)}'
            )
        names = [f'backbone.{backbone.res_layers[max(backbone.out_indices)]}']
    for name in names:
        if not name or name not in modules:
            close = difflib.get_close_matches(name, modules, n=1)
            hint = f'did you mean {close[0]}? ' if close else ''
            raise UserError(
                f'{network.name} has no layer {name!r}: {hint}It has {_known_layers(network)}, and '
                'what is in them'
            )
    return [Layer(name.removeprefix('backbone.'), modules[name]) for name in names]


def _known_layers(network: Network) -> str:
    """The backbone's stages with their blocks, or what else it has."""
    backbone = network.model.backbone
    stages = getattr(backbone, 'res_layers', None)
    if stages is None:
        return ', '.join(f'backbone.{name}' for name, _ in backbone.named_children())
    return ', '.join(
        f'backbone.{stage}.{block}'
        for stage in stages
        for block in range(len(backbone.get_submodule(stage)))
    )


def _spatial_bias_parts(network: Network, names: Sequence[str]) -> list[Layer]:
    blocks = spatial_bias_blocks(network.model)
    if not blocks:
        raise UserError(
            f'{network.name} has no spatial bias: leave --spatial-bias out or give another network'
        )
    for name in names:
        if name not in blocks:
            raise UserError(
                f'{network.name} has no block {name!r} with spatial bias, but {", ".join(blocks)}'
            )
    layers = []
    for name in names or {name.rpartition('.')[0]: name for name in blocks}.values():
        block, conv = blocks[name], f'conv{blocks[name].spatial_bias_at}'
        layers.append(Layer(f'{name.removeprefix("backbone.")}.{conv}', getattr(block, conv)))
        layers.append(Layer('spatial bias', block.spatial_bias))
    return layers


class _Recorder:
    """Features and their gradients, in the place of grad-cam's ``ActivationsAndGradients``.

    That one pairs them by the order in which they come, which mixes layers up where one gets no
    gradient or they are not named in the network's order, and it sees what an in-place ReLU has
    made of a layer's output. This one keeps them by layer, and hands a copy on.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer], most: int | None = None):
        self.model, self.layers, self.most = model, layers, most
        self.found = {}
        self.handles = [
            layer.module.register_forward_hook(
                lambda module, args, output, layer=layer: self._keep(layer, output)
            )
            for layer in layers
        ]

    def _keep(self, layer: Layer, features) -> Tensor:
        if not isinstance(features, Tensor) or features.ndim != 4:
            shape = ' x '.join(map(str, getattr(features, 'shape', ())))
            what = shape or f'a {type(features).__name__}'
            raise UserError(
                f'{layer.title} gives {what}, not a map of batch x channels x height x width: give '
                'another of --layers'
            )
        if self.most and features[0, 0].numel() > self.most:
            raise UserError(
                f'{layer.title} has {features[0, 0].numel():,} positions, and this method compares '
                f'each with each: give --layers of up to {self.most:,}, later ones'
            )
        if layer in self.found:
            raise UserError(
                f'{layer.title} runs more than once an image: give --layers that run once'
            )
        self.found[layer] = features
        if features.requires_grad:
            features.retain_grad()
        return features.clone()

    def __call__(self, x: Tensor):
        self.found = {}
        output = self.model(x)
        for layer in self.layers:
            if layer not in self.found:
                raise UserError(f'{layer.title} does not run in this network: give other --layers')
        return output

    @property
    def activations(self) -> list[Tensor]:
        return [self.found[layer] for layer in self.layers]

    @property
    def gradients(self) -> list[Tensor]:
        return [torch.zeros_like(x) if x.grad is None else x.grad for x in self.activations]

    def release(self) -> None:
        self.found = {}
        for handle in self.handles:
            handle.remove()


# ----------------------------------------------------------------------------------- the maps


class _OnSamples(nn.Module):
    """A network as grad-cam calls it, on the input alone."""

    def __init__(self, network: Network, samples: list):
        super().__init__()
        self.run = TASKS[network.cfg.default_scope][0]
        self.model, self.samples = network.model, samples

    def forward(self, x: Tensor):
        return self.run(self.model, x, self.samples)


def explain(
    network: Network,
    inputs: Inputs,
    layers: Sequence[Layer],
    method: str | None = None,
    category: str | None = None,
    min_score: float = 0.3,
) -> Explanation:
    """Maps what a network's answer to an image comes from, all layers in one pass.

    Of a classifier the class' logit is explained, of a segmentor the sum of the class' logits over
    the pixels predicted as it, of a detector the sum of the log-odds of its boxes' scores.

    Args:
        network: The network.
        inputs: The image, by :func:`mmsb.inference.images.load_inputs`.
        layers: Its layers, by :func:`find_layers`.
        method: A key of `METHODS`; those of eigencam, kpcacam and fem see features alone.
            Defaults to None: gradcam, and for a detector layercam.
        category: A class by name or index. Defaults to None: the predicted one, in segmentation
            the most frequent but background, in detection all.
        min_score: Lowest score of a detection. Defaults to 0.3.

    Returns:
        The maps, each from 0 to 1, its own peak.

    Raises:
        NothingToExplainError: The network finds nothing of it, or no map has a peak.
        UserError: There is no such class, or a layer makes no map.
    """
    _, find_aim, default = TASKS[network.cfg.default_scope]
    method = method or default
    cam = method_class(method)(_OnSamples(network, inputs.samples), [])
    most = MOST_POSITIONS if method in OF_ALL_POSITIONS else None
    recorder = cam.activations_and_grads = _Recorder(cam.model, layers, most)
    cam.target_layers = layers
    scale = cam.aggregate_multi_layers
    cam.aggregate_multi_layers = lambda maps: [scale([heat]) for heat in maps]  # not their mean
    aims = []

    def aim(output) -> Tensor:
        aims.append(find_aim(output, network, category, min_score))
        if not aims[0].value.requires_grad:
            raise UserError(
                f'{network.name}: no gradient reaches its answer, give --method eigencam'
            )
        return aims[0].value

    # The input needs a gradient, or frozen stages would have none.
    x = inputs.tensor.detach().clone().requires_grad_(cam.uses_gradients)
    try:
        with torch.set_grad_enabled(cam.uses_gradients):
            maps = cam(x, [aim])
    finally:
        recorder.release()
    if not cam.uses_gradients:  # the map is there, whether or not there is an answer
        try:
            aims.append(find_aim(cam.outputs[0], network, category, min_score))
        except NothingToExplainError as error:
            aims.append(Aim(x, str(error)))
    height, width = inputs.picture.shape[:2]
    maps = [heat[0, :height, :width] for heat in maps]
    maps = [heat if heat.max() > heat.min() else None for heat in maps]
    if all(heat is None for heat in maps):
        raise NothingToExplainError(
            f'{aims[0].text}: the map is the same all over, nothing in '
            f'{", ".join(layer.title for layer in layers)} speaks for it'
        )
    mask = None if aims[0].mask is None else aims[0].mask[:height, :width]
    return Explanation(inputs.picture, maps, aims[0].text, aims[0].boxes, mask)


def method_class(name: str) -> type:
    """grad-cam's class of a method.

    Raises:
        UserError: There is no such method here, or grad-cam is not installed.
    """
    if name not in METHODS:
        raise UserError(f'there is no method {name!r}: give {", ".join(METHODS)}')
    if importlib.util.find_spec('pytorch_grad_cam') is None:
        raise UserError(
            'class activation maps need grad-cam, which is not installed: '
            'pip install "mmsb[visualization]", in a clone pip install -e ".[visualization]"'
        )
    import pytorch_grad_cam

    return getattr(pytorch_grad_cam, METHODS[name])


def load_network(name: str, config: str, checkpoint: str) -> Network:
    """Loads a trained network, on a GPU where there is one.

    Args:
        name: What to call it.
        config: A config of any of the three tasks.
        checkpoint: Its weights, all of them.

    Returns:
        The network; no weight of it takes a gradient.

    Raises:
        UserError: A file is missing, or the checkpoint is of another model than the config.
    """
    cfg = read_config(config)
    init_default_scope(cfg.default_scope)
    use_weights(cfg, checkpoint)
    with explained_errors(cfg):
        model, classes = load_model(cfg, checkpoint)
    for module in model.modules():
        if getattr(module, 'with_cp', False):  # it would run layers again for their gradient
            module.with_cp = False
    return Network(name, cfg, model.to(get_device()).requires_grad_(False), classes or ())


# -------------------------------------------------------------------------------- the sheets


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
    """Draws for each image a sheet of networks' class activation maps, side by side.

    Args:
        images: Image files and folders.
        networks: Of each network what to call it, its config and its checkpoint; of any task.
        out_dir: Folder for the sheets, NAME.png each. Defaults to 'cams'.
        method: See :func:`explain`.
        layers: See :func:`find_layers`, a row each. Defaults to the last stage.
        category: See :func:`explain`.
        min_score: See :func:`explain`.
        spatial_bias: In blocks, the convolution's channels beside spatial bias's. Defaults to
            False.

    Yields:
        For each image its path, that of its sheet, None where there is nothing to explain, and a
        line that says what each network found.

    Raises:
        UserError: Something the user can set right; also if there is nothing to explain in any of
            the images.
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
            with replacing(outs[path]) as part:
                figure.savefig(part, format='png', dpi=DPI)
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
    """Draws a sheet: the picture, and to its right the networks' maps over what each saw.

    Args:
        title: Of the picture.
        columns: The networks and their layers.
        found: Each network's explanation of them.
        layers_a_row: How many of a network's layers stand side by side. Defaults to 1.

    Returns:
        matplotlib.figure.Figure: The sheet. Colours are from 0 to a map's own peak; a panel's title
        says how far its map spreads, by :func:`spread`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(len(layers) for _, layers in columns) // layers_a_row
    width = 1 + len(columns) * layers_a_row
    aspect = max(e.picture.shape[0] / e.picture.shape[1] for e in found)
    size = PANEL * width, (PANEL * aspect + 0.35) * rows + 0.35
    figure = Figure(size, layout='constrained')
    FigureCanvasAgg(figure)
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
    """How far a map reaches: the RMS distance from its centre of mass, over that of a flat map.

    Args:
        heat: A map, (h, w), nowhere negative.

    Returns:
        0 for a single point, 1 for the same value all over, more for opposite corners.
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
