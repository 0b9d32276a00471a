"""Do the weights of a checkpoint fit a model? One rule for testing, demos, exports and training.

Testing, demos and exports need all weights of the model. Training from other weights needs a
complete backbone; what else differs, such as the heads for other classes, is said in one line.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from mmsb.models import SBResNet
from mmsb.models.finding import find_resnet
from mmsb.models.growing import GrowthReport, grow_state_dict
from mmsb.models.pretrained import check_complete, check_settings, recorded_settings
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_checkpoint_source

_CONTAINERS = ('state_dict', 'model_state_dict', 'model', 'net', 'network', 'weights')
_WRAPPERS = ('module.', '_orig_mod.')


def weights_of(content, path: str) -> dict[str, Tensor]:
    """Return a whole model's weights in the content of a checkpoint, without wrappers' prefixes.

    Raises:
        UserError: It holds none.
    """
    if not isinstance(content, dict):
        raise UserError(f'checkpoint {path} holds a {type(content).__name__}, not weights by name')
    state = next(
        (content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)), content
    )
    found = OrderedDict(
        (key, value)
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    )
    if not found:
        raise UserError(f'checkpoint {path} holds no weights by name')
    found.pop('n_averaged', None)  # the counter of torch's AveragedModel
    while found and (key := next(iter(found))).startswith(_WRAPPERS):
        wrapper = key[: key.index('.') + 1]
        if not all(key.startswith(wrapper) for key in found):
            break
        found = OrderedDict((key.removeprefix(wrapper), value) for key, value in found.items())
    if hasattr(state, '_metadata'):
        found._metadata = state._metadata  # versions, by which modules read their old names
    return found


def whole_weights(
    model: nn.Module, content, path: str, allow_partial: bool | None = None
) -> dict[str, Tensor]:
    """Return the weights in a checkpoint if they are all that a model has.

    Args:
        model: The model, perhaps wrapped.
        content: What the file holds.
        path: The file, for messages.
        allow_partial: Whether to accept any part. Defaults to None: there is no such flag.

    Returns:
        The weights by name; if ``allow_partial``, without those of another shape.

    Raises:
        UserError: Some are missing or differ, or belong to parts that the model has otherwise.
    """
    state = weights_of(content, path)
    model = unwrapped(model)
    missing, different, unexpected = _compare(model, state)
    parts = {name for name, _ in model.named_children()}
    apart = [key for key in unexpected if key.partition('.')[0] not in parts]
    wrong = [*different, *missing, *(key for key in unexpected if key not in apart)]
    if wrong and not allow_partial:
        flag = ', or --allow-partial to use what fits' if allow_partial is False else ''
        raise UserError(
            f'checkpoint {path} does not belong to the model of the config: {len(wrong)} weights '
            f'differ or are missing, e.g. {wrong[0]}; give the config it was trained with{flag}'
        )
    _check_settings(model, content, path, allow_partial)
    _drop_different(model, state, different, path)
    _say(path, (missing, 'keep random values'), (unexpected, 'are not used'))
    return state


def starting_weights(
    model: nn.Module, content, path: str, allow_partial: bool
) -> dict[str, Tensor]:
    """Return the weights in a checkpoint if a training can start from them.

    They must fill the backbone; a file that holds a ResNet alone does. Tensors of other parts that
    have another shape are left out, and said.

    Args:
        model: The model, perhaps wrapped. One without ``backbone`` is not checked.
        content: What the file holds.
        path: The file, for messages.
        allow_partial: Whether to accept any part.

    Returns:
        The weights by name.

    Raises:
        UserError: They do not; the message says what is missing.
    """
    state = weights_of(content, path)
    model = unwrapped(model)
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        return state
    try:
        if not any(key.startswith('backbone.') for key in state):
            found = find_resnet(content)  # e.g. a file of torchvision's
            state = OrderedDict((f'backbone.{key}', x) for key, x in found.network.items())
        if isinstance(backbone, SBResNet):
            report = grow_state_dict(backbone, dict(state), 'backbone.')
        else:
            report = _report(backbone, state)
        check_complete(report, allow_partial)
    except UserError as error:
        raise UserError(f'checkpoint {path}: {error}') from error
    _check_settings(model, content, path, allow_partial)
    missing, different, unexpected = (
        [key for key in keys if not key.startswith('backbone.')] for keys in _plainly(model, state)
    )
    _drop_different(model, state, different, path)
    _say(path, (missing, 'start at random'), (unexpected, 'are not used'))
    return state


def check_pretrained(model: nn.Module, allow_partial: bool) -> None:
    """Raise an error unless ``init_cfg`` fills the ResNet of a toolbox; SB-ResNet checks itself.

    Args:
        model: The model, perhaps wrapped.
        allow_partial: Whether to accept any part.

    Raises:
        UserError: The toolbox would leave a part of the backbone at random values, and only warn.
    """
    backbone = getattr(unwrapped(model), 'backbone', None)
    cfg = getattr(backbone, 'init_cfg', None)
    ours = isinstance(backbone, SBResNet)
    if ours or not isinstance(cfg, dict) or cfg.get('type') != 'Pretrained':
        return
    if 'ResNe' not in type(backbone).__name__:
        return  # others rename tensors in ways of their own
    path = cfg['checkpoint']
    content = load_checkpoint_source(path)
    state = content.get('state_dict', content) if isinstance(content, dict) else {}
    prefix = cfg.get('prefix') or ''
    prefix += '.' if prefix and not prefix.endswith('.') else ''
    given = {
        f'backbone.{key.removeprefix(prefix)}': value
        for key, value in state.items()
        if key.startswith(prefix)
        and isinstance(value, Tensor)
        and not key.removeprefix(prefix).startswith('fc.')
    }
    try:
        check_complete(_report(backbone, given), allow_partial)
    except UserError as error:
        raise UserError(
            f'checkpoint {path}: {error}; {type(backbone).__name__} of the toolbox reads only its '
            'own names: tools/model_converters/convert.py --to torchvision writes them'
        ) from error


def _check_settings(model: nn.Module, content, path: str, allow_partial: bool | None) -> None:
    backbone = getattr(model, 'backbone', None)
    if isinstance(backbone, nn.Module):
        try:
            check_settings(backbone, recorded_settings(content, path), bool(allow_partial))
        except UserError as error:
            raise UserError(f'checkpoint {path}: {error}') from error


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside wrappers for several processes and for test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _plainly(model: nn.Module, state: dict[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    own = model.state_dict()
    missing = [key for key in own if key not in state and not key.endswith('num_batches_tracked')]
    different = [key for key in own if key in state and state[key].shape != own[key].shape]
    return missing, different, [key for key in state if key not in own]


def _compare(model: nn.Module, state: dict[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Return missing, different and unexpected keys, after modules have renamed old ones."""
    missing, different, unexpected = _plainly(model, state)
    # Loading also grows plain weights: spatial bias and plugins are then missing all the same.
    added = {part for block in model.modules() for part in getattr(block, 'added_parts', ())}
    grows = any(f'.{part}.' in key for key in missing for part in added)
    if missing and unexpected and not different and not grows:
        found = model.load_state_dict(state, strict=False)
        missing = [key for key in found.missing_keys if not key.endswith('num_batches_tracked')]
        unexpected = list(found.unexpected_keys)
    return missing, different, unexpected


def _report(backbone: nn.Module, state: dict[str, Tensor]) -> GrowthReport:
    """Compare with a toolbox's own backbone; plain weights need not have its plugins."""
    given = {k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')}
    missing, different, unexpected = _plainly(backbone, given)
    plugins = tuple(
        f'{name}.{plugin}.'
        for name, block in backbone.named_modules()
        for position in ('conv1', 'conv2', 'conv3')
        for plugin in getattr(block, f'after_{position}_plugin_names', ())
    )
    wrong = {*missing, *different}
    return GrowthReport(
        loaded=[key for key in backbone.state_dict() if key in given and key not in wrong],
        missing=[*missing, *different],
        unexpected=unexpected,
        optional=[key for key in missing if key.startswith(plugins) or '.conv_offset.' in key],
    )


def _drop_different(
    model: nn.Module, state: dict[str, Tensor], different: Iterable[str], path: str
) -> None:
    """Take out tensors of another shape, except those that SB-ResNet grows or refuses itself."""
    ours = tuple(
        f'{name}.' if name else ''
        for name, module in model.named_modules()
        if isinstance(module, SBResNet)
    )
    dropped = [key for key in different if not ours or not key.startswith(ours)]
    if not dropped:
        return
    own = model.state_dict()
    listed = ', '.join(f'{k} {_shape(state[k])} here {_shape(own[k])}' for k in dropped[:3])
    more = ', ...' if len(dropped) > 3 else ''
    for key in dropped:
        del state[key]
    print_log(
        f'{path}: {len(dropped)} tensors have another shape and are left out, e.g. for other '
        f'classes: {listed}{more}',
        'current',
        logging.WARNING,
    )


def _shape(tensor: Tensor) -> str:
    return 'x'.join(map(str, tensor.shape)) or 'scalar'


def _say(path: str, *lists: tuple[list[str], str]) -> None:
    for keys, what in lists:
        if keys:
            parts = sorted({key.partition('.')[0] for key in keys})
            print_log(
                f'{path}: {len(keys)} tensors of {", ".join(parts)} {what}, e.g. {keys[0]}',
                'current',
                logging.WARNING,
            )
