"""Networks to explain with class activation maps, and their layers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import nn

from mmsb.analysis.pictures.spatial_bias_maps import spatial_bias_blocks
from mmsb.engine.config import read_model_config, use_weights
from mmsb.engine.explaining import explained_errors
from mmsb.inference.loading import load_model
from mmsb.utils.errors import UserError


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        name: Its name on the sheet.
        cfg: Its config.
        model: Its model, in evaluation mode.
        classes: Class names; empty if the checkpoint has none.
    """

    name: str
    cfg: Config
    model: nn.Module
    classes: Sequence[str] = ()

    def class_name(self, index: int) -> str:
        """Name of a class, the first of several synonyms; e.g. 'class 7' if it has no name."""
        known = index < len(self.classes)
        return self.classes[index].split(',')[0] if known else f'class {index}'

    def class_index(self, category: str) -> int:
        """Find the index of a class, given by its name or index.

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
    """A module whose output is explained.

    Attributes:
        title: Its name on the sheet.
        module: The module.
    """

    title: str
    module: nn.Module


def load_network(name: str, config: str, checkpoint: str) -> Network:
    """Load a trained network, onto a GPU if there is one.

    Args:
        name: Its name on the sheet.
        config: Config of a classifier, detector or segmentor.
        checkpoint: Checkpoint with all of its weights.

    Returns:
        The network; its weights do not require gradients.

    Raises:
        UserError: A file is missing, or the checkpoint belongs to another model than the config.
    """
    cfg = read_model_config(config)
    init_default_scope(cfg.default_scope)
    use_weights(cfg, checkpoint)
    with explained_errors(cfg):
        model, classes = load_model(cfg, checkpoint)
    for module in model.modules():
        if getattr(module, 'with_cp', False):  # checkpointing would run layers twice
            module.with_cp = False
    return Network(name, cfg, model.to(get_device()).requires_grad_(False), classes or ())


def find_layers(
    network: Network, names: Sequence[str] = (), spatial_bias: bool = False
) -> list[Layer]:
    """Find the layers to explain.

    Args:
        network: The network.
        names: Names of modules. Defaults to the last stage that the backbone outputs.
        spatial_bias: Whether ``names`` are blocks with spatial bias (default: the last such block
            of each stage). Each gives the two parts that it concatenates, before their common
            norm (paper, Eq. 1): the convolution's output and the maps. Defaults to False.

    Returns:
        The layers, two per block with ``spatial_bias``.

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
    """List the backbone's blocks, or its children if it is not a ResNet."""
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
