"""Plain ResNet weights into SB-ResNet, function-preserving."""

import re
from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmsb.errors import UserError


@dataclass
class GrowthReport:
    """What :func:`grow_state_dict` did to the keys of a checkpoint.

    Attributes:
        loaded (list[str]): Keys taken as they are.
        grown (list[str]): Keys padded to the width that spatial bias needs.
        new (list[str]): The network's keys that the checkpoint lacks: initialised.
        unexpected (list[str]): The checkpoint's keys that the network lacks: ignored.
    """

    loaded: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f'{len(self.loaded)} tensors loaded as they are, {len(self.grown)} grown, '
            f'{len(self.new)} new, {len(self.unexpected)} unexpected'
        )


def grow_state_dict(
    backbone: nn.Module, state_dict: dict[str, Tensor], prefix: str = ''
) -> GrowthReport:
    """Pads a plain ResNet's tensors so that they fit an SB-ResNet, in place.

    In a block with spatial bias, the norm over the concatenated channels and the
    convolution after it are wider than in the plain block. The norm's new channels take
    the network's own (initial) values, the convolution's new input columns are zero, so
    the grown network computes what the plain one did.

    Args:
        backbone: The SB-ResNet; its blocks name their widened layers.
        state_dict: The checkpoint's tensors; padded ones are replaced by new tensors.
        prefix: What the backbone's keys start with in ``state_dict``.

    Returns:
        Which keys were loaded, grown, new and unexpected.

    Raises:
        UserError: The checkpoint is of another architecture (depth, stem, width, number of
            spatial bias channels), none of its keys is the backbone's, or the backbone's
            spatial bias is of a kind that changes what plain weights compute.
    """
    own = backbone.state_dict()
    given = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    _check_same_architecture(own, given)

    report = GrowthReport()
    for name, block in backbone.named_modules():
        if getattr(block, 'spatial_bias', None) is None:
            continue
        name += '.'
        if any(key.startswith(f'{name}spatial_bias.') for key in given):
            continue  # an SB-ResNet's own weights
        if not block.grows and any(key.startswith(name) for key in given):
            raise UserError(
                "plain weights do not keep their function with spatial_bias['fusion'] 'add' or "
                "an SKNet's spatial_bias['norm'] 'all': train from scratch, or leave these out"
            )
        norm, conv = (f'{name}{layer}.' for layer in block.widened_layers)
        for key in [k for k in own if k.startswith((norm, conv)) and k in given]:
            value, target = given[key], own[key]
            dim = 1 if key.startswith(conv) else 0
            missing = target.ndim and target.shape[dim] - value.shape[dim]
            if missing != block.spatial_bias.num_channels:
                continue
            extra = target.narrow(dim, value.shape[dim], missing).to(value)
            if dim == 1:
                extra = torch.zeros_like(extra)
            given[key] = state_dict[prefix + key] = torch.cat([value, extra], dim)
            report.grown.append(key)

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
    report.loaded = [k for k in own if k in given and k not in report.grown]
    report.new = [k for k in own if k not in given]
    report.unexpected = [k for k in given if k not in own]
    return report


def _check_same_architecture(own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Refuses a checkpoint of another depth, block or stem: most of its names would fit."""
    if given and not any(key in given for key in own):
        first = next(iter(given))
        inside = re.search(r'^(.*?)(?:conv1|stem\.0|layer1\.0\.conv1)\.', first)
        hint = f" prefix='{inside[1]}' in init_cfg, or" if inside and inside[1] else ''
        raise UserError(
            f'the checkpoint holds nothing for this backbone: its first key is {first!r}; give'
            f'{hint} a checkpoint of a ResNet'
        )
    mine, theirs = _blocks(own), _blocks(given)
    for stage in sorted(mine.keys() & theirs.keys()):
        if mine[stage] != theirs[stage]:
            raise UserError(
                f'the checkpoint is of a ResNet of another depth: its layer{stage} has '
                f'{theirs[stage]}, this backbone has {mine[stage]}; give the weights of the '
                'same depth'
            )
    if theirs and ('conv1.weight' in own) == ('stem.0.weight' in given):
        raise UserError(
            'the checkpoint and this backbone have different stems (one 7x7, one deep 3x3); '
            'set deep_stem to match the checkpoint'
        )


def _blocks(keys: dict[str, Tensor]) -> dict[str, str]:
    """Stage -> number and kind of its blocks, as read from the parameter names."""
    blocks, bottleneck = defaultdict(set), False
    for key in keys:
        if found := re.match(r'layer(\d+)\.(\d+)\.(conv\d)', key):
            blocks[found[1]].add(found[2])
            bottleneck |= found[3] == 'conv3'
    kind = 'bottleneck' if bottleneck else 'basic'
    return {stage: f'{len(indices)} {kind} blocks' for stage, indices in blocks.items()}
