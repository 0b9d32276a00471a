"""Checks of ``--cfg-options``: a misspelt key is refused instead of adding a dead setting."""

import inspect

import torch.utils.data
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, TestLoop, ValLoop

from mmsb.utils.errors import UserError, reason_of
from mmsb.utils.names import listed, nearest

# keys that mmengine, the toolboxes' tools or mmsb read, beside the runner's arguments
TOP = {
    *('data_preprocessor', 'tta_model', 'tta_pipeline', 'auto_scale_lr', 'runner_type'),
    *('find_unused_parameters', 'custom_imports', 'sync_bn', 'compile'),
}
# keys that mmengine takes out before it builds a class from the others
EXTRAS = {
    *(
        'type',
        '_scope_',
        '_delete_',
        'priority',
        'paramwise_cfg',
        'constructor',
        'accumulative_counts',
    ),
    *('convert_to_iter_based', 'by_epoch', 'init_cfg', 'pretrained', 'data_preprocessor'),
}
NEEDED = ('model', 'model.backbone')  # not even None in place of their settings
# what builds the top-level settings that name no type
BUILT_BY = {
    **{f'{split}_dataloader': (torch.utils.data.DataLoader,) for split in ('train', 'val', 'test')},
    'train_cfg': (EpochBasedTrainLoop, IterBasedTrainLoop),
    'val_cfg': (ValLoop,),
    'test_cfg': (TestLoop,),
}


def apply_overrides(cfg: Config, options: dict) -> list[str]:
    """Merge overrides into a config, in place.

    Args:
        cfg: The config.
        options: Values by dotted key, e.g. ``{'model.backbone.depth': 18}``.

    Returns:
        Lines that name overrides that may have no effect.

    Raises:
        UserError: A key is misspelt, leads into a value that has no keys or beyond a list.
    """
    lines = [line for key in options if (line := _check_key(cfg, str(key), options[key]))]
    try:
        cfg.merge_from_dict(options)
    except Exception as error:  # mmengine raises many types
        raise UserError(f'--cfg-options {listed(options)}: {reason_of(error)}') from error
    return lines


def _check_key(cfg: Config, key: str, value) -> str | None:
    node, path = cfg._cfg_dict, []
    for part in key.split('.'):
        where = '.'.join(path) or 'the config'
        if isinstance(node, list | tuple):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(
                    f'--cfg-options {key}: {where} is a list of {len(node)}, give an index below '
                    f'that in place of {part!r}'
                )
            node = node[int(part)]
        elif not isinstance(node, dict):
            raise UserError(f'--cfg-options {key}: {where} is {node!r}, which has no settings')
        elif part in node:
            node = node[part]
        else:
            return _check_new(part, node, path, key, where, cfg.get('default_scope'))
        path.append(part)
    replaced = isinstance(node, dict) and not isinstance(value, dict | list | tuple)
    if replaced and (value is not None or key in NEEDED):
        raise UserError(f'--cfg-options {key}: it holds settings, of which {value!r} is none')
    if key == 'load_from' and not isinstance(value, str | None):
        raise UserError(f'--cfg-options {key}: {value!r} is no path of a checkpoint')
    top = path[0]
    if top not in _arguments(Runner) and top not in TOP:
        return (
            f'--cfg-options {key}: {top} is a variable of the config file. Settings that it uses '
            'it for keep their values: override those, e.g. train_dataloader.dataset.data_root'
        )
    return None


def _check_new(part, node, path, key, where, scope) -> str | None:
    """Check a key that the config does not have."""
    names, is_open = _known(node, path, scope)
    if part in names or part in EXTRAS:
        return None
    close = nearest(part, {*node, *names}, cutoff=0.75 if is_open else 0.5)
    if close or not is_open:
        hint = f'did you mean {close!r}?' if close else f'it has {listed(sorted(map(str, node)))}'
        raise UserError(f'--cfg-options {key}: {where} has no setting {part!r}; {hint}')
    return (
        f'--cfg-options {key}: {part!r} is new in {where}, which has '
        f'{listed(sorted(map(str, node))) or "nothing"}: check its spelling, if it has no effect'
    )


def _known(node, path, scope) -> tuple[set[str], bool]:
    """Return the settings that a part of a config may have, and whether others are possible."""
    if not path:
        return {*_arguments(Runner), *TOP}, False
    kinds = BUILT_BY.get(path[0], ()) if len(path) == 1 else ()
    if 'type' in node and (kind := _find(node['type'], scope)):
        kinds = (kind,)
    if not kinds:
        return (_arguments(BaseDataset) if path[-1] == 'dataset' else set()), True
    names = set().union(*map(_arguments, kinds))
    if path[0].endswith('_dataloader') and len(path) == 1:
        names |= {'num_batch_per_epoch', 'worker_init_fn'}
    return names, any(_is_open(kind) for kind in kinds)


def _arguments(kind) -> set[str]:
    """Return the arguments of a class, with those that it passes on to its bases."""
    makers = (
        [kind]
        if not inspect.isclass(kind)
        else [
            base.__init__
            for base in kind.__mro__
            if '__init__' in vars(base) and base is not object
        ]
    )
    names = set()
    for maker in makers:
        parameters = inspect.signature(maker).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {'self'}


def _is_open(kind) -> bool:
    """Tell whether a class or function takes any argument."""
    if not inspect.isclass(kind):
        return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(kind).parameters.values())
    for base in kind.__mro__:
        if '__init__' in vars(base) and base is not object:
            parameters = inspect.signature(base.__init__).parameters.values()
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                return False
    return True


def _find(kind, scope):
    """Return the class that a config's type names, or None."""
    if not isinstance(kind, str):
        return kind
    for registry in vars(mmengine_registry).values():
        if isinstance(registry, Registry):
            try:
                with registry.switch_scope_and_registry(scope) as inner:
                    found = inner.get(kind)
            except Exception:  # a registry whose modules do not import
                found = None
            if found is not None:
                return found
    return None
