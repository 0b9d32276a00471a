"""Load plain ResNet weights into SB-ResNet without changing what they compute."""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsb.models.finding import mmdet_names, resnet_prefixes, tensors_in
from mmsb.models.identity import identity_start
from mmsb.utils.errors import UserError
from mmsb.utils.log_file import log_to_file
from mmsb.utils.safe_load import load_checkpoint_file, pretrained_files

_HEAD = ('fc.', 'head.')  # classifier keys of torchvision, timm and mmpretrain


@dataclass
class GrowthReport:
    """Result of :func:`grow_state_dict`: lists of keys without their prefix.

    Attributes:
        loaded (list[str]): Keys loaded unchanged.
        grown (list[str]): Keys padded to the width that spatial bias needs, or multiplied for a
            plugin that starts as a smaller multiple of its input.
        new (list[str]): Keys of spatial bias and plugins that were added to the checkpoint's
            network. Spatial bias keeps its initial values; a plugin starts as the identity.
        missing (list[str]): Other keys of the network that the checkpoint lacks, except batch
            norm's counters, which old checkpoints do not have.
        unexpected (list[str]): Keys of the checkpoint that the network lacks; they are ignored.
        optional (list[str]): Those of ``missing`` that plain weights need not have: of plugins
            without an identity start, and of deformable convolutions' offsets.
        adapted (list[str]): Keys changed to another number of input channels.
        unlike (list[str]): Names of the added plugins that have no identity start, so that the
            features differ at first from those of the checkpoint's network.
    """

    loaded: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)

    @property
    def behind(self) -> list[str]:
        """Unexpected keys that belong after this backbone: a head, or stages it does not build."""
        parts = {key.split('.')[0] for key in self.loaded}
        return [
            key
            for key in self.unexpected
            if key.startswith(_HEAD) or (key.startswith('layer') and key.split('.')[0] not in parts)
        ]

    @property
    def exact(self) -> bool:
        """Whether, judging by keys, the network computes the same as the checkpoint's network."""
        return not self.missing and not self.adapted and len(self.behind) == len(self.unexpected)

    def __str__(self) -> str:
        others = [key for key in self.unexpected if key not in self.behind]
        parts = [f'{len(self.loaded)} loaded']
        for keys, what in (
            (self.grown, 'grown'),
            (self.new, 'new'),
            (self.missing, 'missing'),
            (others, 'unexpected'),
            (self.adapted, 'adapted to the input channels'),
            (self.behind, 'unexpected but harmless, from a head or later stage'),
        ):
            if keys:
                more = ', ...' if len(keys) > 2 else ''
                parts.append(f'{len(keys)} {what} ({", ".join(keys[:2])}{more})')
        return '; '.join(parts)

    def log(self, network: nn.Module) -> None:
        """Log one line if any key was not simply loaded; all names go to the log file.

        Args:
            network: The network that the weights were loaded into.
        """
        name = type(network).__name__
        if not self.loaded and not self.grown:
            print_log(
                f'{name}: the checkpoint holds nothing for it; give backbone-only weights in the '
                "backbone's init_cfg, not in load_from",
                'current',
                logging.WARNING,
            )
        elif self.grown or self.new or self.missing or self.unexpected or self.adapted:
            is_grown = self.grown or self.new
            start = 'plain ResNet weights were grown' if is_grown else 'weights were loaded'
            if is_grown and self.exact:
                # Style, strides, dilations and pooling leave no trace in names and shapes.
                start += ', the outputs are those of this config '
                bias = [key for key in self.new if '.spatial_bias.' in key]
                without = ['with spatial_bias=None'] if bias else []
                if len(self.new) > len(bias):
                    without.append('without its new plugins')
                start += ' and '.join(without)
            level = logging.INFO if self.exact else logging.WARNING
            print_log(f'{name}: {start}. Tensors: {self}', 'current', level)
            lists = (f'{kind}: {", ".join(keys) or "none"}' for kind, keys in vars(self).items())
            log_to_file(f'{name}: every tensor\n' + '\n'.join(lists))
        if self.unlike:
            print_log(
                f'{name}: {len(self.unlike)} added plugins change the features from the start, the '
                f'first: {self.unlike[0]}; they keep their own initialization, since growing knows '
                'no values of theirs, or no place, at which the network computes the same',
                'current',
                logging.WARNING,
            )
        started = {*self.new, *self.missing}
        frozen = [
            key
            for key, parameter in network.named_parameters()
            if key in started and parameter.ndim > 1 and not parameter.requires_grad
        ]
        if self.loaded and frozen:
            print_log(
                f'{name}: {len(frozen)} tensors that the checkpoint lacks are frozen at their '
                f'initial values, the first: {frozen[0]}; to train them, set '
                'freeze_spatial_bias=False (spatial bias, plugins) or a lower frozen_stages',
                'current',
                logging.WARNING,
            )


def grow_state_dict(
    backbone: nn.Module, state_dict: dict[str, Tensor], prefix: str = ''
) -> GrowthReport:
    """Pad a plain ResNet's tensors to fit an SB-ResNet, in place.

    In a block with spatial bias, the norm over the concatenated channels and the
    convolution after it are wider than in the plain block. The norm's new channels keep
    the network's initial values and the convolution's new input columns are zero, so the
    grown network computes the same as the plain one. The tensors of spatial bias are added
    with their initial values. Those of plugins that the checkpoint lacks are added with the
    values at which the plugin is the identity (:mod:`mmsb.models.identity`). Deep-stem keys
    named as in mmpretrain or timm are renamed as in mmdet.

    The keys do not tell where a bottleneck has its stride (``style``), nor the strides,
    dilations and pooling. The config must set these to match the checkpoint.

    Args:
        backbone: The SB-ResNet, SB-SKNet or another backbone made of ``ResidualBlock``.
        state_dict: The checkpoint's tensors; changed only if nothing is raised.
        prefix: Prefix of the backbone's keys in ``state_dict``, e.g. 'backbone.'. Defaults to ''.

    Returns:
        Which keys were loaded, grown, new, missing and unexpected.

    Raises:
        UserError: The checkpoint has another architecture (depth, stem, shortcut, width,
            number of spatial bias channels) or no key of the backbone; the backbone's spatial
            bias settings change what plain weights compute; or the backbone is on the meta
            device.
    """
    own = backbone.state_dict()
    given = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    given = mmdet_names(given)
    _check_same_architecture(own, given)

    report = GrowthReport()
    _adapt_input(own, given, report)
    for name, block in backbone.named_modules():
        parts = getattr(block, 'added_parts', ())
        name += '.'
        theirs = [key for key in given if key.startswith(name)] if parts else []
        # what the checkpoint already has here is loaded as it is
        new = [part for part in parts if not any(k.startswith(f'{name}{part}.') for k in theirs)]
        if not theirs or not new:
            continue
        if 'spatial_bias' in new:
            if not block.grows:
                raise UserError(
                    "plain weights do not keep their function with spatial_bias['fusion'] 'add' or "
                    "an SKNet's spatial_bias['norm'] 'all': train from scratch, or leave these out"
                )
            _grow_block(name, block, own, given, report)
        _start_plugins(name, block, new, own, given, report)

    wrong = [
        f'{key} is {tuple(given[key].shape)}, needs {tuple(own[key].shape)}'
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    if wrong:
        raise UserError(
            f'the checkpoint does not fit this {type(backbone).__name__}: {len(wrong)} tensors '
            f'have another shape, the first: {wrong[0]}; give the weights of the same '
            'depth, width and spatial_bias settings'
        )
    special = {*report.grown, *report.new}
    special.update(report.adapted)
    report.loaded = [key for key in own if key in given and key not in special]
    report.missing = [
        key for key in own if key not in given and not key.endswith('num_batches_tracked')
    ]
    report.unexpected = [key for key in given if key not in own]
    plugins = tuple(
        f'{name}.{plugin}.'
        for name, block in backbone.named_modules()
        for plugin in chain(*getattr(block, 'plugin_names', {}).values())
    )
    report.optional = [
        key for key in report.missing if key.startswith(plugins) or '.conv_offset.' in key
    ]
    for key in [key for key in state_dict if key.startswith(prefix)]:
        if key[len(prefix) :] not in given:  # renamed
            del state_dict[key]
    state_dict.update({prefix + key: value for key, value in given.items()})
    return report


def _adapt_input(own: dict[str, Tensor], given: dict[str, Tensor], report: GrowthReport) -> None:
    """Fit a first convolution for RGB images to other numbers of input channels, as timm does.

    One channel sees the sum of the three; more channels repeat them, scaled to the same total.
    """
    for key in ('conv1.weight', 'stem.0.weight'):
        if key not in own or key not in given or given[key].ndim != 4:
            continue
        wanted, found, weight = own[key].shape[1], given[key].shape[1], given[key]
        if wanted == found or own[key].shape[2:] != weight.shape[2:]:
            continue
        if found != 3:
            raise UserError(
                f'the checkpoint is for images of {found} channels, this backbone for {wanted}: '
                'only weights for 3 channels can be adapted'
            )
        if wanted == 1:
            given[key] = weight.sum(1, keepdim=True)
        else:
            copies = -(-wanted // 3)
            given[key] = weight.repeat(1, copies, 1, 1)[:, :wanted] * (3 / wanted)
        report.adapted.append(key)


def _grow_block(name: str, block: nn.Module, own: dict, given: dict, report: GrowthReport) -> None:
    """Pad the widened layers of a block and add its spatial bias."""
    norm, conv = (f'{name}{layer}.' for layer in block.widened_layers)
    num_maps = block.spatial_bias.num_channels
    for key in [key for key in own if key.startswith((norm, conv)) and key in given]:
        value, target = given[key], own[key]
        dim = 1 if key.startswith(conv) else 0
        if target.ndim <= dim or value.ndim != target.ndim:
            continue
        if [t - v for t, v in zip(target.shape, value.shape, strict=True)] != [
            num_maps * (axis == dim) for axis in range(target.ndim)
        ]:
            continue
        extra = _initial(target).narrow(dim, value.shape[dim], num_maps).to(value)
        given[key] = torch.cat([value, extra if dim == 0 else torch.zeros_like(extra)], dim)
        report.grown.append(key)
    # an SKNet's norm over the maps alone belongs to spatial bias too
    maps_only = f'{norm}weight' in own and own[f'{norm}weight'].shape == (num_maps,)
    for key in own:
        if key.startswith(f'{name}spatial_bias.') or (maps_only and key.startswith(norm)):
            given[key] = _initial(own[key]).clone()
            report.new.append(key)


def _start_plugins(
    name: str, block: nn.Module, new: list[str], own: dict, given: dict, report: GrowthReport
) -> None:
    """Add new plugins to a block with the values at which it computes the same as without them."""
    for position, plugins in block.plugin_names.items():
        norm = block.norm_before(position)
        scales = [f'{name}{norm}.{parameter}' for parameter in ('weight', 'bias')]
        for plugin in plugins:
            start = f'{name}{plugin}.'
            keys = [key for key in own if key.startswith(start)]
            if plugin not in new or not keys:
                continue
            identity = identity_start(getattr(block, plugin))
            fits = identity is not None and all(start + key in own for key in identity.values)
            if not fits or (identity.factor != 1 and not all(key in given for key in scales)):
                report.unlike.append(start[:-1])
                continue
            for key in keys:
                given[key] = _initial(own[key]).clone()
            for key, value in identity.values.items():
                given[start + key].fill_(value)
            report.new += keys
            if identity.factor != 1:
                for key in scales:
                    given[key] = given[key] / identity.factor
                report.grown += [key for key in scales if key not in report.grown]


def _initial(tensor: Tensor) -> Tensor:
    """Return a tensor of the network with its initial value, or raise a UserError."""
    if tensor.is_meta:
        raise UserError(
            'plain weights cannot be grown into a network on the meta device, which has no '
            'initial values: build it on a real one'
        )
    return tensor


def parts_in_checkpoint(init_cfg: dict | list | None, parts: Collection[str]) -> set[str]:
    """Tell which added parts of a backbone the local checkpoint of an ``init_cfg`` has.

    Args:
        init_cfg: mmengine initialization config of a module. Remote checkpoints
            (``torchvision://resnet50``) are not inspected.
        parts: Names of modules in the backbone's blocks, 'spatial_bias' or plugins.

    Returns:
        Those that the file has in any block. Empty also if the file is missing or unreadable;
        loading reports that.
    """
    if not parts:
        return set()
    for path in filter(os.path.isfile, pretrained_files(init_cfg)):
        try:
            keys = [key for key, _ in tensors_in(load_checkpoint_file(path, mmap=True))]
        except Exception:
            return set()
        return {part for part in parts if any(f'.{part}.' in key for key in keys)}
    return set()


def _check_same_architecture(own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Refuse a checkpoint of another depth, block or stem, since most of its keys would load."""
    if given and not any(key in given for key in own):
        inside = [prefix for prefix in resnet_prefixes(given) if prefix]
        hint = f' prefix={inside[0]!r} in init_cfg, or' if inside else ''
        raise UserError(
            f'the checkpoint holds nothing for this backbone: its first key is '
            f'{next(iter(given))!r}; give{hint} a checkpoint of a ResNet'
        )
    mine, theirs = _blocks(own), _blocks(given)
    for stage in sorted(mine.keys() & theirs.keys()):
        if mine[stage] != theirs[stage]:
            raise UserError(
                f'the checkpoint is of a ResNet of another depth: its layer{stage} has '
                f'{theirs[stage]}, this backbone has {mine[stage]}; give the weights of the '
                'same depth'
            )
    stems = [_stem(keys) for keys in (own, given)]
    if theirs and None not in stems and stems[0] != stems[1]:
        raise UserError(
            'the checkpoint and this backbone have different stems (one 7x7, one deep 3x3); '
            'set deep_stem to match the checkpoint'
        )
    # The pool has no tensor, but it shifts the names of the layers after it.
    shortcut = 'layer2.0.downsample.2.weight'
    if '2' in mine.keys() & theirs.keys() and (shortcut in own) != (shortcut in given):
        raise UserError(
            'the checkpoint and this backbone have different shortcuts (one with average '
            'pooling); set avg_down to match the checkpoint'
        )


def _stem(keys: dict[str, Tensor]) -> str | None:
    """Return the kind of stem, read from the key names, or None without a stem."""
    if any(key.startswith(('stem.', 'conv1.0.')) for key in keys):
        return 'deep'
    return 'one convolution' if 'conv1.weight' in keys else None


def _blocks(keys: dict[str, Tensor]) -> dict[str, str]:
    """Map each stage to the number and kind of its blocks, read from the key names."""
    blocks, bottleneck = defaultdict(set), False
    for key in keys:
        if found := re.match(r'layer(\d+)\.(\d+)\.(conv\d)', key):
            blocks[found[1]].add(found[2])
            bottleneck |= found[3] == 'conv3'
    kind = 'bottleneck' if bottleneck else 'basic'
    return {stage: f'{len(indices)} {kind} blocks' for stage, indices in blocks.items()}
