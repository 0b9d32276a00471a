"""Find a ResNet in a checkpoint of any program, and name its tensors as torchvision does."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mmsb.utils.errors import UserError

# Weights of the same network that training keeps beside those to use: older averages, or in
# mmengine's ema_state_dict those before averaging.
_SECOND = re.compile(r'(^|\.)(state_dict_ema|ema_state_dict|model_ema|ema|ema_model|encoder_k|'
                     r'momentum_encoder|target_encoder|target_network|key_encoder)\.')  # fmt: skip
_AVERAGED = re.compile(r'(^|\.)(state_dict_ema|model_ema|ema|ema_model)\.')
_NOT_WEIGHTS = ('optimizer', 'optimizer_states', 'optimizers', 'param_schedulers', 'lr_schedulers',
                'message_hub', 'scaler', 'meta', 'hyper_parameters')  # fmt: skip
_NETWORK = re.compile(r'(layer\d+|conv1|bn1|gn1|in1|norm1|stem)\.')


def _torchvision(key: str) -> str:
    return key


def _detectron2(key: str) -> str:
    key = re.sub(r'^stem\.conv1\.', 'conv1.', key)
    key = re.sub(r'^res(\d)\.', lambda found: f'layer{int(found[1]) - 1}.', key)
    key = key.replace('.shortcut.norm.', '.downsample.1.').replace('shortcut.', 'downsample.0.')
    key = re.sub(r'conv(\d)\.norm\.', r'bn\1.', key)
    return re.sub(r'^linear\.', 'fc.', key)


def _transformers(key: str) -> str:
    names = dict(convolution='conv', normalization='bn')
    key = re.sub(r'^embedder\.embedder\.(\w+)\.', lambda found: f'{names[found[1]]}1.', key)
    key = re.sub(
        r'^encoder\.stages\.(\d)\.layers\.', lambda found: f'layer{int(found[1]) + 1}.', key
    )
    key = re.sub(
        r'\.layer\.(\d)\.(convolution|normalization)\.',
        lambda found: f'.{names[found[2]]}{int(found[1]) + 1}.',
        key,
    )
    key = key.replace('shortcut.convolution.', 'downsample.0.')
    key = key.replace('shortcut.normalization.', 'downsample.1.')
    return re.sub(r'^classifier\.1\.', 'fc.', key)


def _sequential(key: str) -> str:
    """``nn.Sequential(*resnet.children())``: 0 conv1, 1 bn1, 4 to 7 the stages, 9 fc."""
    number, _, rest = key.partition('.')
    names = {'0': 'conv1', '1': 'bn1', '9': 'fc', **{str(3 + i): f'layer{i}' for i in range(1, 5)}}
    return f'{names[number]}.{rest}' if number in names else key


# How a convolution in a block is named, after the prefix of the whole network.
_NAMINGS: dict[str, tuple[re.Pattern, Callable[[str], str]]] = {
    'torchvision': (re.compile(r'(.*?)layer[1-4]\.\d+\.conv\d\.weight$'), _torchvision),
    'detectron2': (re.compile(r'(.*?)res[2-5]\.\d+\.conv\d\.weight$'), _detectron2),
    'transformers': (
        re.compile(r'(.*?)encoder\.stages\.\d\.layers\.\d+\.layer\.\d\.convolution\.weight$'),
        _transformers,
    ),
    'sequential': (re.compile(r'(.*?)[4-7]\.\d+\.conv\d\.weight$'), _sequential),
}


@dataclass
class FoundResNet:
    """The tensors of a ResNet in a checkpoint.

    Attributes:
        prefix: What all its names begin with in the file. Names of dicts within dicts are joined by
            dots: 'state_dict.module.backbone.'.
        naming: Who names tensors like this: 'torchvision' (the toolboxes and timm too),
            'detectron2', 'transformers' or 'sequential'.
        network: The tensors of stem and stages, named as in torchvision (deep stems as in mmdet).
        head: ``weight`` and ``bias`` of the classifier's last layer; may be empty.
        others: The other tensors of the same model, e.g. a detector's neck and heads.
    """

    prefix: str
    naming: str
    network: dict[str, Tensor] = field(default_factory=dict)
    head: dict[str, Tensor] = field(default_factory=dict)
    others: dict[str, Tensor] = field(default_factory=dict)


def find_resnet(content, prefix: str | None = None, averaged: bool = False) -> FoundResNet:
    """Find the ResNet in the content of a checkpoint file.

    It may be inside dicts (``state_dict``, ``model``, ...) and behind any chain of prefixes
    (``module.``, ``encoder_q.``, ``backbone.0.body.``, ...).

    Args:
        content: What the file holds.
        prefix: Prefix of the ResNet to use, or a part of it. Defaults to None: the only one, or the
            only one that is not a second set of weights of the same network, such as averages.
        averaged: Use the averaged weights that timm's program saves beside the others. Defaults to
            False.

    Returns:
        Its tensors.

    Raises:
        UserError: There is none, or there are several.
    """
    if not isinstance(content, dict):
        raise UserError(f'holds a {type(content).__name__}, not weights by name')
    tensors = dict(tensors_in(content))
    if not tensors:
        raise UserError('holds no weights by name')
    found = resnet_prefixes(tensors)
    if not found:
        raise UserError(
            f'holds no ResNet: its first tensor is {_short(next(iter(tensors)))}; give the '
            'checkpoint of a ResNet'
        )
    chosen = _choose(list(found), prefix, averaged, content)
    return _named(tensors, chosen, found[chosen])


def tensors_in(content: dict, path: str = '', depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors in dicts within dicts, with their names joined by dots."""
    for key, value in content.items():
        if not isinstance(key, str) or (depth == 0 and key in _NOT_WEIGHTS):
            continue
        if isinstance(value, Tensor):
            yield path + key, value
        elif isinstance(value, np.ndarray) and value.dtype.kind in 'fiub':
            yield path + key, torch.from_numpy(value)
        elif isinstance(value, dict) and depth < 4:
            yield from tensors_in(value, f'{path}{key}.', depth + 1)


def resnet_prefixes(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Return the prefix of each ResNet and how its tensors are named."""
    found = {}
    for key in tensors:
        for naming, (pattern, _) in _NAMINGS.items():
            match = pattern.match(key)
            if not match or (match[1] and not match[1].endswith('.')):
                continue
            stem = tensors.get(f'{match[1]}0.weight')
            if naming != 'sequential' or (stem is not None and stem.ndim == 4):
                found.setdefault(match[1], naming)
                break
    return found


def _choose(found: list[str], prefix: str | None, averaged: bool, content: dict) -> str:
    if averaged:
        chosen = [name for name in found if _AVERAGED.search(name)]
        if not chosen:
            hint = '; its state_dict is averaged already' if 'ema_state_dict' in content else ''
            raise UserError(f'holds no averaged weights (state_dict_ema){hint}: leave --ema out')
        found = chosen
    if prefix:
        inside = '.' + prefix.strip('.') + '.'
        chosen = [name for name in found if inside in '.' + name]
        if not chosen:
            raise UserError(f'holds no ResNet under prefix={prefix!r}; it has {_listed(found)}')
        # the whole prefix rather than a part of another
        ends = [name for name in chosen if ('.' + name).endswith(inside)]
        found = ends or chosen
    if len(found) > 1 and not averaged:
        found = [name for name in found if not _SECOND.search(name)] or found
    if len(found) > 1:
        raise UserError(f'holds {len(found)} ResNets: choose one by its prefix: {_listed(found)}')
    return found[0]


def _short(name: str) -> str:
    return name.removeprefix('state_dict.')


def _listed(found: list[str]) -> str:
    listed = [
        f'prefix={_short(name)!r}' if _short(name) else 'one without prefix' for name in found
    ]
    return ', '.join(listed[:6]) + (', ...' if len(listed) > 6 else '')


def _named(tensors: dict[str, Tensor], prefix: str, naming: str) -> FoundResNet:
    """Sort the tensors into network, head and others."""
    found = FoundResNet(prefix, naming)
    rename = _NAMINGS[naming][1]
    last = re.search(r'(?:^|\.)(backbone\.bottom_up|backbone|resnet)\.$', prefix)
    model = prefix[: last.start(1)] if last else prefix
    for key, tensor in tensors.items():
        if not key.startswith(model):
            continue
        short = key.removeprefix(model)
        name = rename(key.removeprefix(prefix)) if key.startswith(prefix) else rename(short)
        if key.startswith(prefix) and _NETWORK.match(name):
            found.network[name] = tensor
        elif name in ('fc.weight', 'fc.bias', 'head.fc.weight', 'head.fc.bias'):
            found.head[name.rpartition('.')[2]] = tensor
        elif short != 'n_averaged':  # the counter of torch's AveragedModel
            found.others[short] = tensor
    found.network = mmdet_names(found.network)
    return found


def mmdet_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a deep stem as in mmdet: stem.0, 1, 3, 4, 6, 7.

    Args:
        state: Backbone tensors named as in mmdet, mmseg, mmpretrain, timm or torchvision.

    Returns:
        The same tensors, with the stems and pooled shortcuts of mmpretrain and timm renamed.
    """
    names = {}
    for i in range(3):  # mmpretrain
        names.update({f'stem.{i}.conv': f'stem.{3 * i}', f'stem.{i}.bn': f'stem.{3 * i + 1}'})
    if 'conv1.0.weight' in state:  # timm
        names.update({f'conv1.{i}': f'stem.{i}' for i in range(7)}, bn1='stem.7')
    # mmpretrain's ResNet-D leaves out the pooling layer if its stride is 1.
    shortcut = 'layer1.0.downsample'
    if f'{shortcut}.0.weight' in state and 'layer2.0.downsample.2.weight' in state:
        names.update({f'{shortcut}.{i}': f'{shortcut}.{i + 1}' for i in range(2)})

    def renamed(key: str) -> str:
        module, _, tensor = key.rpartition('.')
        return f'{names[module]}.{tensor}' if module in names else key

    return {renamed(key): value for key, value in state.items()}
