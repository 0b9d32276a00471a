"""Converting checkpoints between layouts: the same numbers under other names.

Three layouts are written:

- ``torchvision``: ``conv1.weight``, ``layer1.0.conv1.weight``, ..., ``fc.weight``. For a ResNet
  without spatial bias.
- ``release``: the authors' release of the paper: torchvision's names plus ``layer1.0.SB.*``.
- ``mmsb``: a ``state_dict`` whose keys begin with ``backbone.``, plus mmpretrain's ``head.fc``.

These are also read, and so are ResNets from the toolboxes, timm (including ResNet-C and -D),
Detectron2 and transformers, and files from their training programs (see
:mod:`mmsb.models.finding`). Each key and shape is compared with the network that
mmsb builds; anything but an exact match is refused. Settings that leave no trace in keys and
shapes cannot be detected: strides ('caffe' style), anti-aliasing, another activation.
"""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature

import torch
from torch import Tensor

from mmsb.checkpoints.publishing import save_checkpoint
from mmsb.models import SBResNet, SBResNet_CIFAR
from mmsb.models.backbones.residual_block import Bottleneck
from mmsb.models.finding import find_resnet
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_checkpoint_source

LAYOUTS = ('torchvision', 'release', 'mmsb')
# key parts of a block's spatial bias: the release's -> ours
SPATIAL_BIAS = {
    '.SB.feature_reduction.0.': '.spatial_bias.reduction.conv.',
    '.SB.feature_reduction.1.': '.spatial_bias.reduction.bn.',
    '.SB.sb_conv.': '.spatial_bias.mixing.',
}


@dataclass
class Weights:
    """The tensors of a network, under mmsb's names.

    Attributes:
        layout: The layout of the source: one of `LAYOUTS`, 'openmmlab' for a toolbox's plain
            ResNet, or another way of naming (see :class:`mmsb.models.finding.FoundResNet`).
        backbone: The backbone's tensors; keys without ``backbone.``.
        head: ``weight`` and ``bias`` of the classifier's last layer; may be empty.
        others: All other tensors of a toolbox's network, e.g. its neck.
    """

    layout: str
    backbone: dict[str, Tensor]
    head: dict[str, Tensor]
    others: dict[str, Tensor]


def convert_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    to: str,
    ema: bool = False,
    force: bool = False,
    log: Callable[[str], None] | None = None,
    prefix: str | None = None,
) -> None:
    """Convert a checkpoint file.

    Args:
        source: The file to read, or an address such as ``torchvision://resnet50``.
        target: The file to write. mmsb's layout is written as ``dict(state_dict=...)``, the others
            as a plain dict of tensors. NAME.safetensors is written in that format.
        to: The layout to write, one of `LAYOUTS`.
        ema: Use the averaged weights in timm's files, ``state_dict_ema``. Defaults to False.
        force: Overwrite an existing file. Defaults to False.
        log: Called with lines on what was found and how to use the result. Defaults to None.
        prefix: Which ResNet to use if the file holds several. Defaults to None.

    Raises:
        UserError: A file cannot be read or written, or the weights do not fit the layout. Nothing
            is written then.
    """
    checkpoint = load_checkpoint_source(str(source))
    try:
        weights = read_weights(checkpoint, prefix, ema)
        config = backbone_config(weights.backbone)
        state = in_layout(weights, to)
    except UserError as error:
        raise UserError(f'{source} {error}') from error
    wrapped = to == 'mmsb' and not str(target).endswith('.safetensors')
    save_checkpoint(dict(state_dict=state) if wrapped else state, target, force)
    if log:
        if to == 'mmsb':
            config['init_cfg'] = dict(type='Pretrained', checkpoint=str(target), prefix='backbone.')
        elif weights.others:
            log(f'left out: {len(weights.others)} tensors of neck and heads')
        log(f'{weights.layout} -> {to}: {len(state)} tensors in {target}')
        arguments = ', '.join(f'{name}={value!r}' for name, value in config.items())
        log(f'backbone=dict({arguments})')
        if to == 'mmsb' and config.get('spatial_bias', 1) is None:
            log('Without spatial_bias=None the same weights grow into SB-ResNet.')


def read_weights(checkpoint, prefix: str | None = None, ema: bool = False) -> Weights:
    """Find the ResNet in the content of a checkpoint file, and rename its keys to mmsb's.

    Args:
        checkpoint: What the file holds.
        prefix: As in :func:`mmsb.models.finding.find_resnet`. Defaults to None.
        ema: Use the averaged weights. Defaults to False.

    Raises:
        UserError: It holds no ResNet, or several.
    """
    found = find_resnet(checkpoint, prefix, averaged=ema)
    backbone = _renamed(found.network, SPATIAL_BIAS)
    layout = found.naming
    if found.prefix in ('backbone.', 'state_dict.backbone.'):
        layout = 'openmmlab'
        if any('.spatial_bias.' in key for key in backbone):
            layout = 'mmsb'
    elif found.prefix:
        layout = f'{found.prefix}*'
    elif any(mark in key for key in found.network for mark in SPATIAL_BIAS):
        layout = 'release'
    elif any('.spatial_bias.' in key for key in backbone):
        layout = 'mmsb'
    return Weights(layout, backbone, found.head, found.others)


def in_layout(weights: Weights, to: str) -> dict[str, Tensor]:
    """Return the tensors under the names of the layout ``to``.

    Raises:
        UserError: They have this layout already, or it cannot store them.
    """
    has_bias = any('.spatial_bias.' in key for key in weights.backbone)
    if to not in LAYOUTS:
        raise UserError(f'{to} is not a layout: give one of {", ".join(LAYOUTS)}')
    if weights.layout == to:
        raise UserError(f'has the {to} layout already')
    if to == 'mmsb':
        return {
            **{f'backbone.{key}': value for key, value in weights.backbone.items()},
            **{f'head.fc.{key}': value for key, value in weights.head.items()},
            **weights.others,
        }
    if to == 'torchvision' and has_bias:
        raise UserError(
            'has spatial bias, which the torchvision layout cannot store: give --to release or mmsb'
        )
    if to == 'release' and not has_bias:
        raise UserError('has no spatial bias: give --to torchvision')
    if 'stem.0.weight' in weights.backbone or 'layer2.0.downsample.2.weight' in weights.backbone:
        raise UserError(
            f'is a ResNet-C or -D (deep stem or pooled shortcuts), which the {to} layout cannot '
            'store'
        )
    backbone = _renamed(weights.backbone, {ours: name for name, ours in SPATIAL_BIAS.items()})
    return {**backbone, **{f'fc.{key}': value for key, value in weights.head.items()}}


def backbone_config(state: dict[str, Tensor]) -> dict:
    """Return the config of the SBResNet that has exactly these tensors, given under mmsb's names.

    Arguments with default values are left out. Arguments that leave no trace in the weights
    (``style``, ``resolution``, ``pooling``, dilations) are assumed to have their defaults.

    Raises:
        UserError: The tensors do not belong to a ResNet that mmsb builds.
    """
    try:
        kind, args = _arguments(state)
        with torch.device('meta'):
            own = kind(**args).state_dict()
    except (KeyError, IndexError) as error:
        first = next(iter(state), 'none')
        raise UserError(
            f'is not a ResNet that mmsb builds: it lacks {error}, its first key is {first}'
        ) from error
    except (TypeError, ZeroDivisionError, RuntimeError) as error:
        raise UserError(
            f'is not a ResNet that mmsb builds: its tensors have other shapes ({error})'
        ) from error
    for key, value in state.items():
        if key not in own:
            raise UserError(f'is not a plain or SB-ResNet: unexpected key {key}')
        if value.shape != own[key].shape:
            raise UserError(
                f'is not a ResNet that mmsb builds: {key} is {tuple(value.shape)}, not '
                f'{tuple(own[key].shape)}'
            )
    for key in own:  # torchvision's old files have no counters
        if key not in state and not key.endswith('num_batches_tracked'):
            raise UserError(f'lacks {key}: give a complete checkpoint')
    return dict(type=f'mmsb.{kind.__name__}', **args)


def _arguments(state: dict[str, Tensor]) -> tuple[type[SBResNet], dict]:
    """Return the class, ``depth`` and the arguments that differ from their defaults."""
    deep = 'stem.0.weight' in state
    first, last = ('stem.0.weight', 'stem.6.weight') if deep else ('conv1.weight',) * 2
    channels, width = len(state[last]), len(state['layer1.0.conv1.weight'])
    base_channels, groups = width, 1
    if 'layer1.0.conv3.weight' in state:
        base_channels = len(state['layer1.0.conv3.weight']) // Bottleneck.expansion
        # maps beside conv1 widen its input
        groups = max(1, width // state['layer1.0.conv2.weight'].shape[1])
    kind = SBResNet_CIFAR if not deep and state[first].shape[-1] == 3 else SBResNet
    args = dict(
        depth=_depth(state, kind),
        in_channels=state[first].shape[1],
        base_channels=base_channels,
        groups=groups,
        base_width=width // groups * 64 // base_channels,
        stem_channels=None if channels == base_channels else channels,
        deep_stem=deep,
        avg_down='layer2.0.downsample.2.weight' in state,
        spatial_bias=_spatial_bias(state, kind),
    )
    defaults = {**signature(SBResNet).parameters, **signature(kind).parameters}
    changed = {name: value for name, value in args.items() if value != defaults[name].default}
    return kind, {'depth': args['depth'], **changed}


def _renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


def _depth(state: dict[str, Tensor], kind: type[SBResNet]) -> int:
    blocks = {}
    for key in state:
        if found := re.match(r'layer(\d+)\.(\d+)\.conv1\.weight', key):
            blocks.setdefault(int(found[1]), set()).add(found[2])
    counts = tuple(len(blocks[stage]) for stage in sorted(blocks))
    expansion = 4 if 'layer1.0.conv3.weight' in state else 1
    for depth, (block, of_depth) in kind.arch_settings.items():
        if (block.expansion, of_depth) == (expansion, counts):
            return depth
    name = 'bottlenecks' if expansion == 4 else 'basic blocks'
    raise UserError(f'is not a ResNet that mmsb builds: its stages have {counts} {name}')


def _spatial_bias(state: dict[str, Tensor], kind: type[SBResNet]) -> dict | None:
    """Return the settings of spatial bias that differ from their defaults; None without it."""
    defaults = kind.spatial_bias_defaults
    found, sizes, stage = {}, [], 1
    while (block := f'layer{stage}.0.') + 'conv1.weight' in state:
        stage += 1
        sizes.append(None)
        if f'{block}spatial_bias.reduction.conv.weight' in state:
            mixing = state[f'{block}spatial_bias.mixing.weight']
            sizes[-1] = math.isqrt(len(mixing))
            found['kernel_size'] = mixing.shape[2]
            reduced = len(state[f'{block}spatial_bias.reduction.conv.weight'])
            found['num_channels'] = reduced - mixing.shape[2] + 1
            widened = len(state[f'{block}bn1.weight']) > len(state[f'{block}conv1.weight'])
            if widened and f'{block}conv3.weight' in state:
                found['position'] = 'conv1'
    different = {size for size in sizes if size}
    if not different:
        return None
    found['stages'] = tuple(size is not None for size in sizes)
    found['size'] = tuple(size or defaults['size'] for size in sizes)
    if len(different) == 1:  # any size is right for stages without spatial bias
        (found['size'],) = different
    return {name: found[name] for name in found if found[name] != defaults[name]} or defaults
