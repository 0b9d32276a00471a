"""Converting checkpoints between layouts: the same numbers under other names.

Three layouts are written:

- ``torchvision``: ``conv1.weight``, ``layer1.0.conv1.weight``, ..., ``fc.weight``. For a ResNet
  without spatial bias.
- ``release``: the authors' release of the paper: torchvision's names plus ``layer1.0.SB.*``.
- ``mmsb``: a ``state_dict`` whose keys begin with ``backbone.``, plus mmpretrain's ``head.fc``.

These are also read, and so are ResNets from the toolboxes and from timm (including ResNet-C and
-D), and files from their training programs. Each key and shape is compared with the network that
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
from mmsb.models.growing import mmdet_names
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_checkpoint_file

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
        layout: The layout of the source: one of `LAYOUTS`, or 'openmmlab' for a toolbox's plain
            ResNet.
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
) -> None:
    """Convert a checkpoint file.

    Args:
        source: The file to read.
        target: The file to write. mmsb's layout is written as ``dict(state_dict=...)``, the others
            as a plain dict of tensors.
        to: The layout to write, one of `LAYOUTS`.
        ema: Use the averaged weights in timm's files, ``state_dict_ema``. Defaults to False.
        force: Overwrite an existing file. Defaults to False.
        log: Called with lines on what was found and how to use the result. Defaults to None.

    Raises:
        UserError: A file cannot be read or written, or the weights do not fit the layout. Nothing
            is written then.
    """
    checkpoint = load_checkpoint_file(source)
    try:
        weights = read_weights(state_dict_of(checkpoint, ema))
        config = backbone_config(weights.backbone)
        state = in_layout(weights, to)
    except UserError as error:
        raise UserError(f'{source} {error}') from error
    save_checkpoint(dict(state_dict=state) if to == 'mmsb' else state, target, force)
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


def state_dict_of(checkpoint, ema: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, without a wrapper's ``module.`` prefix.

    Args:
        checkpoint: A dict of tensors, or a dict saved by the training programs of mmengine
            (``state_dict``), timm (also ``state_dict_ema``) or torchvision (``model``).
        ema: Use ``state_dict_ema``. Defaults to False.

    Raises:
        UserError: The checkpoint is something else, or has no averaged weights.
    """
    if not isinstance(checkpoint, dict):
        raise UserError(f'holds a {type(checkpoint).__name__}, not weights by name')
    if ema:
        if 'state_dict_ema' not in checkpoint:
            hint = '; its state_dict is averaged already' if 'ema_state_dict' in checkpoint else ''
            raise UserError(f'holds no state_dict_ema{hint}: leave --ema out')
        state = checkpoint['state_dict_ema']
    else:
        state = checkpoint.get('state_dict', checkpoint.get('model', checkpoint))
    if not isinstance(state, dict) or not state:
        raise UserError('holds no weights')
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise UserError(f'holds no weights by name: {key} is a {type(value).__name__}')
    if all(key.startswith('module.') for key in state):
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    return state


def read_weights(state: dict[str, Tensor]) -> Weights:
    """Split a state dict of any layout into parts and rename the keys to mmsb's."""
    parts = {'backbone.': {}, 'head.fc.': {}, '': {}}
    toolbox = any(key.startswith('backbone.') for key in state)
    for key, value in state.items():
        if not toolbox:
            key = f'head.{key}' if key.startswith('fc.') else f'backbone.{key}'
        part = next(part for part in parts if key.startswith(part))
        parts[part][key.removeprefix(part)] = value
    backbone, head, others = parts.values()
    layout = 'openmmlab' if toolbox else 'torchvision'
    for name, marks in (('release', SPATIAL_BIAS), ('mmsb', ['.spatial_bias.'])):
        if any(mark in key for key in backbone for mark in marks):
            layout = name
    return Weights(layout, mmdet_names(_renamed(backbone, SPATIAL_BIAS)), head, others)


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
    except (KeyError, IndexError) as error:
        first = next(iter(state), 'none')
        raise UserError(
            f'is not a ResNet that mmsb builds: it lacks {error}, its first key is {first}'
        ) from error
    with torch.device('meta'):
        own = kind(**args).state_dict()
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
