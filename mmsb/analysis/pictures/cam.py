"""Class activation maps: image regions that a prediction depends on (paper, Figs. 2 and 4).

The grad-cam package computes the maps. Each toolbox defines the explained value in
:meth:`mmsb.toolboxes.Toolbox.target`; ``cam_layers`` finds the layers, ``cam_sheets`` draws.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmsb.analysis.pictures.cam_layers import Layer, Network
from mmsb.inference.images import Inputs
from mmsb.toolboxes import NothingToExplainError, Target, toolbox_of
from mmsb.utils.errors import UserError

# grad-cam's classes that need one forward and at most one backward pass. Excluded are methods that
# run the network once per channel (ScoreCAM, AblationCAM), need second derivatives (ShapleyCAM),
# support only classifiers (FinerCAM), map the whole network (FullGrad) or are random (RandomCAM).
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
# These decompose a matrix of positions by positions: 10,000 take 400 MB and minutes.
OF_ALL_POSITIONS = ('eigencam', 'eigengradcam', 'segeigencam', 'kpcacam')
MOST_POSITIONS = 10_000


@dataclass(frozen=True)
class Explanation:
    """A prediction and the class activation maps that explain it.

    Attributes:
        picture: The network's input as an image, RGB, uint8, (h, w, 3).
        maps: One map per layer, (h, w), from 0 to 1 over the input; None if it is constant.
        text: Says what is explained, or why nothing is.
        boxes: See :class:`mmsb.toolboxes.Target`.
        mask: See :class:`mmsb.toolboxes.Target`.
    """

    picture: np.ndarray
    maps: list[np.ndarray | None]
    text: str
    boxes: np.ndarray | None = None
    mask: np.ndarray | None = None


class _Recorder:
    """Features and their gradients; replaces grad-cam's ``ActivationsAndGradients``.

    grad-cam pairs them by order of arrival. This mixes up layers if one gets no gradient or they
    are not listed in the network's order, and a following in-place ReLU changes the features. This
    class keeps them by layer and passes on a copy.
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
    """A network wrapped for grad-cam, which passes only the input tensor."""

    def __init__(self, network: Network, samples: list):
        super().__init__()
        self.answer = toolbox_of(network.cfg).answer
        self.model, self.samples = network.model, samples

    def forward(self, x: Tensor):
        return self.answer(self.model, x, self.samples)


def explain(
    network: Network,
    inputs: Inputs,
    layers: Sequence[Layer],
    method: str | None = None,
    category: str | None = None,
    min_score: float = 0.3,
) -> Explanation:
    """Compute class activation maps of an image, for all layers in one pass.

    The explained value is the class logit (classifier), the sum of the class logits over the
    pixels predicted as the class (segmentor) or the sum of the boxes' score log-odds (detector).

    Args:
        network: The network.
        inputs: The image, from :func:`mmsb.inference.images.load_inputs`.
        layers: Layers of the network, from :func:`find_layers`.
        method: A key of `METHODS`; eigencam, kpcacam and fem use features but no gradients.
            Defaults to None: gradcam, and layercam for a detector.
        category: A class by name or index. Defaults to None: the predicted class, in
            segmentation the most frequent one except background, in detection all classes.
        min_score: Lowest score of a detection. Defaults to 0.3.

    Returns:
        The maps, each scaled from 0 to 1 at its own peak.

    Raises:
        NothingToExplainError: The network finds no such class or box, or every map is constant.
        UserError: There is no such class, or a layer makes no map.
    """
    toolbox = toolbox_of(network.cfg)
    method = method or toolbox.cam_method
    cam = method_class(method)(_OnSamples(network, inputs.samples), [])
    most = MOST_POSITIONS if method in OF_ALL_POSITIONS else None
    recorder = cam.activations_and_grads = _Recorder(cam.model, layers, most)
    cam.target_layers = layers
    scale = cam.aggregate_multi_layers
    cam.aggregate_multi_layers = lambda maps: [scale([heat]) for heat in maps]  # no mean
    targets = []

    def target(output) -> Tensor:
        targets.append(toolbox.target(output, network, category, min_score))
        if not targets[0].value.requires_grad:
            raise UserError(
                f'{network.name}: no gradient reaches its answer, give --method eigencam'
            )
        return targets[0].value

    # The input must require a gradient, otherwise frozen stages get none.
    x = inputs.tensor.detach().clone().requires_grad_(cam.uses_gradients)
    try:
        with torch.set_grad_enabled(cam.uses_gradients):
            maps = cam(x, [target])
    finally:
        recorder.release()
    if not cam.uses_gradients:  # these methods make a map even without a prediction
        try:
            targets.append(toolbox.target(cam.outputs[0], network, category, min_score))
        except NothingToExplainError as error:
            targets.append(Target(x, str(error)))
    height, width = inputs.picture.shape[:2]
    maps = [heat[0, :height, :width] for heat in maps]
    maps = [heat if heat.max() > heat.min() else None for heat in maps]
    if all(heat is None for heat in maps):
        raise NothingToExplainError(
            f'{targets[0].text}: the map is the same all over, nothing in '
            f'{", ".join(layer.title for layer in layers)} speaks for it'
        )
    mask = None if targets[0].mask is None else targets[0].mask[:height, :width]
    return Explanation(inputs.picture, maps, targets[0].text, targets[0].boxes, mask)


def method_class(name: str) -> type:
    """Get the grad-cam class of a method.

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
