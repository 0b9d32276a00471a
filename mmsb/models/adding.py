"""Add spatial bias to any convolutional network, e.g. of torchvision or timm."""

from __future__ import annotations

import inspect
import operator
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, fx, nn

from mmsb.models.layers import SpatialBias
from mmsb.models.layers.spatial_bias import POOLING
from mmsb.models.pretrained import init_quietly
from mmsb.registry import register_model
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import pretrained_files

_MOST_CONVS = 16  # a module with more is a stage or a whole network, not a block
_SPLITS = (torch.split, torch.chunk, operator.getitem, 'split', 'chunk')
_WIDENABLE = (nn.Conv2d, nn.Linear, Conv2dAdaptivePadding)


class ConcatenatedBias(SpatialBias):
    """Spatial bias maps with a norm and a ReLU, concatenated to the input of a 1x1 layer.

    In an SB-ResNet, the maps are normalised by the channels that spatial bias adds to the norm of
    the k x k convolution. A norm of their own computes the same and fits any norm beside it. It is
    new, so its norms learn whenever this module is in training mode, also under ``norm_eval``.

    Args:
        in_channels (int): Channels of the features that the maps are computed from.
        channels_last (bool): Whether the 1x1 layer is linear, with the channels last. Defaults to
            False.
        norm_cfg (dict): Config of both norms. Defaults to ``dict(type='BN')``.
        **kwargs: Other arguments of :class:`SpatialBias`.
    """

    def __init__(
        self,
        in_channels: int,
        channels_last: bool = False,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        **kwargs,
    ):
        super().__init__(in_channels, norm_cfg=norm_cfg, **kwargs)
        self.channels_last = channels_last
        self.maps_norm = build_norm_layer(norm_cfg, self.num_channels)[1]

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        """Concatenate the maps to the input of the 1x1 layer.

        Args:
            u: Input of the k x k convolution, (B, in_channels, H, W).
            y: Input of the 1x1 layer, (B, C, H', W') or, channels last, (B, H', W', C).

        Returns:
            The input with ``num_channels`` more channels.
        """
        for norm in (self.maps_norm, self.reduction.norm):
            if norm.training != self.training:  # norm_eval
                norm.train(self.training)
        size = y.shape[1:3] if self.channels_last else y.shape[2:]
        maps = F.relu(self.maps_norm(super().forward(u, size)))
        if self.channels_last:
            return torch.cat([y, maps.permute(0, 2, 3, 1)], dim=3)
        return torch.cat([y, maps], dim=1)


@dataclass
class _Site:
    """Where spatial bias fits in a block.

    Attributes:
        block: The block's name in the model.
        graph: The traced block.
        constants: Tensors that its forward makes, by their names in the graph.
        source: Its node with the k x k convolution's input.
        channels: Channels of that.
        pointwise: Name of its 1x1 layer.
    """

    block: str
    graph: fx.Graph
    constants: dict[str, Tensor]
    source: fx.Node
    channels: int
    pointwise: str


def add_spatial_bias(
    model: nn.Module,
    where: Callable[[str], bool] | Collection[str] | None = None,
    num_channels: int = 3,
    size: int = 10,
    kernel_size: int = 3,
    pooling: str = 'avg',
    mixing: bool = True,
) -> nn.Module:
    """Add spatial bias to the blocks of a convolutional network, in place.

    A block fits if a k x k convolution (k > 1, of any groups) is followed by a 1x1 convolution or a
    linear layer through which all of it passes: bottlenecks of ResNet, ResNeXt, RegNet and Res2Net,
    inverted residuals of MobileNet and EfficientNet, ConvNeXt's blocks. The maps are computed from
    the input of the k x k convolution and concatenated to the input of the 1x1 layer, whose new
    weights are zero. So the outputs do not change until the network is trained.

    Each such block becomes a :class:`torch.fx.GraphModule`, without the methods of its class; the
    model keeps its class. The names in the state dict stay, with ``spatial_bias.*`` added to each
    block. Load pretrained weights before the call or, with ``strict=False``, after it, and make the
    optimizer, DDP and exponential averages after it. Blocks whose 1x1 layer is frozen
    (``requires_grad`` is False) are left out: spatial bias could not act there. The new norms are
    synchronised if the block's are. Export to TorchScript by tracing.

    Args:
        model: The network, with any weights, on any device but meta. It is changed.
        where: Which blocks get spatial bias: a predicate of the block's name, or the beginnings of
            names, e.g. ``('layer1', 'layer2', 'layer3')``, the paper's stages. Defaults to None,
            all that fit.
        num_channels: Maps per block. Defaults to 3.
        size: Side of the pooled grid in cells. Defaults to 10.
        kernel_size: Width of the 1-D convolution. Defaults to 3.
        pooling: Pooling to the grid, 'avg' or 'max'. Defaults to 'avg'.
        mixing: Whether to apply the 1-D convolution. Defaults to True.

    Returns:
        The same model.

    Raises:
        UserError: No block fits or is chosen, a chosen name fits none, all chosen blocks are
            frozen, an argument cannot be used, or the model already has spatial bias. The model
            is then unchanged.

    Example:
        >>> import torch, torchvision
        >>> from mmsb import add_spatial_bias
        >>> model = torchvision.models.resnext50_32x4d()
        >>> model = add_spatial_bias(model, where=('layer1', 'layer2', 'layer3'))
        >>> tuple(model.eval()(torch.rand(1, 3, 64, 64)).shape)
        (1, 1000)
    """
    name = type(model).__name__
    numbers = dict(num_channels=num_channels, size=size, kernel_size=kernel_size)
    if wrong := [f'{key} is {value}' for key, value in numbers.items() if value < 1]:
        raise UserError(f'add_spatial_bias: {wrong[0]}: give 1 or more')
    if pooling not in POOLING:
        raise UserError(f'add_spatial_bias: pooling is {pooling!r}: give {" or ".join(POOLING)}')
    if any(isinstance(part, SpatialBias) for part in model.modules()):
        raise UserError(f'{name} already has spatial bias: give the network without it')
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UserError(f'{name} is on the meta device and has no weights: build it on a real one')
    sites, reasons = _find_sites(model)
    if not sites:
        reason = f' ({reasons[0]})' if reasons else ''
        raise UserError(
            f'{name} has no block in which a k x k convolution is followed by a 1x1 convolution or '
            f'linear layer that all of its output passes through{reason}: spatial bias has no place'
        )
    chosen = _choose(sites, where, name, reasons)
    frozen = [site for site in chosen if not _layer(model, site).weight.requires_grad]
    chosen = [site for site in chosen if site not in frozen]
    if not chosen:
        raise UserError(
            f'{name}: all chosen blocks are frozen (requires_grad=False), the first: '
            f'{frozen[0].block}; spatial bias could not act there: add it before you freeze'
        )
    settings = dict(numbers, pooling=pooling, mixing=mixing)
    blocks = [_widened(model.get_submodule(site.block), site, settings) for site in chosen]
    for site, block in zip(chosen, blocks, strict=True):  # nothing can fail from here
        _widen(block.get_submodule(site.pointwise), num_channels)
        parent, _, child = site.block.rpartition('.')
        setattr(model.get_submodule(parent), child, block)
    left = f'; not in {reasons[0]}' if reasons else ''
    if frozen:
        left += f'; not in {len(frozen)} that are frozen, the first: {frozen[0].block}'
    print_log(
        f'{name}: spatial bias added to {len(chosen)} of {len(sites)} blocks that fit, the '
        f'first: {chosen[0].block}{left}',
        'current',
    )
    return model


@register_model
def with_spatial_bias(
    backbone: dict,
    init_cfg: dict | list | None = None,
    pretrained: str | None = None,
    **settings,
) -> nn.Module:
    """Build a toolbox's own backbone and add spatial bias to it: a ``type`` for configs.

    Its class and the names of its parameters stay. Weights that its ``init_cfg`` or ``pretrained``
    names are loaded when the model is initialised, as without spatial bias. Stages that its
    ``frozen_stages`` freezes get no spatial bias; ``norm_eval`` does not apply to it.

    Args:
        backbone: Config of the backbone, e.g. ``dict(type='RegNet', arch='regnetx_400mf')``. Where
            no default scope is set, its type names the toolbox: ``mmpretrain.RegNet``.
        init_cfg: Replaces the backbone's own. Defaults to None, which keeps it.
        pretrained: File or address of weights, which segmentors pass to their backbone. Defaults
            to None.
        **settings: Other arguments of :func:`add_spatial_bias`.

    Returns:
        The backbone.

    Raises:
        UserError: See :func:`add_spatial_bias`.
    """
    given = dict(init_cfg=init_cfg, pretrained=pretrained)
    model = MODELS.build(dict(backbone, **{key: value for key, value in given.items() if value}))
    loads = pretrained_files(getattr(model, 'init_cfg', None))
    if not loads and not next(model.parameters()).is_meta:
        init_quietly(model)  # now, as it would not reach into the traced blocks
    model.train(model.training)  # some backbones freeze their stages only here
    return add_spatial_bias(model, **settings)


def _choose(sites: list[_Site], where, name: str, reasons: list[str]) -> list[_Site]:
    names = [site.block for site in sites]
    listed = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
    if where is None or callable(where):
        chosen = [site for site in sites if where is None or where(site.block)]
    else:
        starts = [where] if isinstance(where, str) else list(where)

        def begins(block: str, start: str) -> bool:
            return f'{block}.'.startswith(start if start.endswith('.') else f'{start}.')

        for start in starts:
            if not any(begins(block, start) for block in names):
                ends = tuple(start + end for end in ('.', ':', ','))
                why = next((f' ({reason})' for reason in reasons if reason.startswith(ends)), '')
                raise UserError(
                    f'where has {start!r}, but spatial bias fits no such block of {name}{why}; it '
                    f'fits {len(names)}: {listed}'
                )
        chosen = [site for site in sites if any(begins(site.block, start) for start in starts)]
    if not chosen:
        raise UserError(f'where chooses none of the {len(names)} blocks of {name}: {listed}')
    return chosen


def _is_wide(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1


def _is_pointwise(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return max(module.kernel_size) == 1 and module.groups == 1
    return isinstance(module, nn.Linear)


class _Tracer(fx.Tracer):
    """Sees convolutions and linear layers; what has none, e.g. stochastic depth, stays a module."""

    def __init__(self):
        super().__init__()
        self.state = self._state()

    @staticmethod
    def _state() -> tuple[bool, ...]:
        return torch.is_grad_enabled(), *map(torch.is_autocast_enabled, ('cpu', 'cuda'))

    def create_proxy(self, *args, **kwargs) -> fx.Proxy:
        if self._state() != self.state:  # a graph would not do so
            raise NotImplementedError('it switches gradients or autocast on or off')
        return super().create_proxy(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        layers = (nn.Conv2d, nn.Linear)
        return isinstance(m, layers) or not any(isinstance(part, layers) for part in m.modules())


def _trace(block: nn.Module) -> tuple[fx.Graph, dict[str, Tensor]]:
    """Trace a block; return the tensors that its forward makes, too, by their names in the graph.

    Raises:
        Exception: fx cannot follow its Python, or a graph would do something else.
    """
    given = inspect.signature(block.forward).parameters.values()
    optional = [one.name for one in given if one.default is not one.empty]
    if optional:  # `if skip is None` is decided when traced
        raise NotImplementedError(f'its forward has the optional argument {optional[0]}')
    modes = {part: part.training for part in block.modules()}
    graphs, constants, known, state = [], {}, set(vars(block)), _random_state()
    try:
        for mode in (True, False):
            for part in modes:
                part.training = mode
            graphs.append(_Tracer().trace(block))
            for name in set(vars(block)) - known:  # fx leaves them in the block
                constants[name] = vars(block).pop(name)
    finally:
        for part, mode in modes.items():
            part.training = mode
    if _random_state() != state:
        raise NotImplementedError('it draws random numbers')
    if str(graphs[0]) != str(graphs[1]):
        raise NotImplementedError('it does not do the same in training mode as in eval mode')
    return graphs[1], constants


def _random_state() -> tuple:
    _, drawn, place, *_ = np.random.get_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    of_torch = [state.numpy().tobytes() for state in (torch.get_rng_state(), *on_gpus)]
    return random.getstate(), drawn.tobytes(), place, of_torch


def _layer(model: nn.Module, site: _Site) -> nn.Conv2d | nn.Linear:
    return model.get_submodule(f'{site.block}.{site.pointwise}')


def _find_sites(model: nn.Module) -> tuple[list[_Site], list[str]]:
    """Find the smallest modules with a place for spatial bias, and why others have none."""
    sites, reasons = [], []
    everywhere = [module for _, module in model.named_modules(remove_duplicate=False)]
    uses = Counter(id(p) for module in everywhere for p in module._parameters.values())
    for name, module in _blocks(model):
        inside = f'{name}.'
        if any(site.block.startswith(inside) for site in sites):
            continue
        try:
            graph, constants = _trace(module)
        except Exception as error:  # fx cannot follow any Python
            reason = str(error).strip().partition('\n')[0]
            reasons.append(f'{name}, which torch.fx cannot trace: {reason}')
            continue
        found = _find_in(name, module, graph, constants)
        if isinstance(found, _Site) and uses[id(_layer(model, found).weight)] > 1:
            found = f'{name}: the weight of {found.pointwise} is used in several places'
        if isinstance(found, _Site):
            sites.append(found)
        elif found:
            reasons.append(found)
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return sorted(sites, key=lambda site: order[site.block]), reasons


def _blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that may be blocks, the inner ones first."""
    named = list(model.named_modules())
    for name, module in sorted(named, key=lambda item: -item[0].count('.')):
        parts = list(module.modules())
        convs = sum(isinstance(part, nn.Conv2d) for part in parts)
        is_list = isinstance(module, nn.ModuleList | nn.ModuleDict)
        fits = any(map(_is_wide, parts)) and any(map(_is_pointwise, parts))
        if name and not is_list and fits and convs <= _MOST_CONVS:
            yield name, module


def _find_in(
    name: str, block: nn.Module, graph: fx.Graph, constants: dict[str, Tensor]
) -> _Site | str | None:
    modules = dict(block.named_modules())

    def module_of(node: fx.Node) -> nn.Module | None:
        return modules.get(node.target) if node.op == 'call_module' else None

    nodes = list(graph.nodes)
    for wide in (node for node in nodes if _is_wide(module_of(node))):
        for node in nodes[nodes.index(wide) + 1 :]:
            layer = module_of(node)
            if not _is_pointwise(layer) or not _passes_through(wide, node):
                continue
            if isinstance(layer, nn.Linear) and not _is_permuted(wide, node, module_of):
                break  # a classifier, after pooling
            computed = 'weight' not in layer._parameters  # weight_norm, spectral_norm
            if type(layer) not in _WIDENABLE or computed:
                kind = type(layer).__name__ + ' with a computed weight' * computed
                return f'{name}: {node.target} is a {kind}, which cannot be widened'
            if sum(other.target == node.target for other in nodes) > 1:
                return f'{name}: {node.target} is used twice'
            source, channels = _source(wide, module_of)
            if channels is None:
                return f'{name}: the channels before {wide.target} are not known'
            return _Site(name, graph, constants, source, channels, node.target)
    return None


def _passes_through(start: fx.Node, gate: fx.Node) -> bool:
    """Tell whether every path from a node to the output of its block leads through another."""
    seen, left, reached = {start}, [start], False
    while left:
        for user in left.pop().users:
            if user is gate:
                reached = True
            elif user.op == 'output':
                return False
            elif user not in seen:
                seen.add(user)
                left.append(user)
    return reached


def _is_permuted(start: fx.Node, end: fx.Node, module_of: Callable) -> bool:
    """Tell whether a linear layer's input is (B, H, W, C), judging by what leads to it."""
    node = end
    while node is not start and node.all_input_nodes:
        called = type(module_of(node)).__name__ if node.op == 'call_module' else node.target
        text = called if isinstance(called, str) else getattr(called, '__name__', '')
        if text.lower() == 'permute':
            return True
        node = node.all_input_nodes[0]
    return False


def _source(wide: fx.Node, module_of: Callable) -> tuple[fx.Node, int | None]:
    """Return the node of the features that a convolution sees, all of its groups, and channels."""
    node = first = wide.all_input_nodes[0]
    while node.target in (*_SPLITS, 'contiguous'):  # Res2Net: the convolution sees a part
        node = node.all_input_nodes[0]
    if node is first:
        return node, module_of(wide).in_channels
    before = node
    while before.all_input_nodes:
        layer = module_of(before)
        for attribute in ('out_channels', 'num_features'):
            if hasattr(layer, attribute):
                return node, getattr(layer, attribute)
        before = before.all_input_nodes[0]
    return node, None


def _widened(block: nn.Module, site: _Site, settings: dict) -> fx.GraphModule:
    """Build the block with spatial bias, whose 1x1 layer is still to be widened."""
    layer = block.get_submodule(site.pointwise)
    last = isinstance(layer, nn.Linear)
    synced = any(isinstance(part, nn.SyncBatchNorm) for part in block.modules())
    norm_cfg = dict(type='SyncBN' if synced else 'BN')
    bias = ConcatenatedBias(site.channels, channels_last=last, norm_cfg=norm_cfg, **settings)
    bias.to(layer.weight)
    node = next(node for node in site.graph.nodes if node.target == site.pointwise)
    features = node.args[0]
    with site.graph.inserting_before(node):
        both = site.graph.call_module('spatial_bias', (site.source, features))
    node.replace_input_with(features, both)
    root = {name: part for name, part in block.named_modules() if name}
    root.update(dict(block.named_parameters()), **dict(block.named_buffers()))
    root.update(site.constants)
    module = fx.GraphModule({**root, 'spatial_bias': bias}, site.graph, type(block).__name__)
    unused = sorted(block.state_dict().keys() - module.state_dict().keys())
    if unused:
        raise UserError(
            f'{site.block}: its forward does not use {unused[0]}, which would be lost; leave the '
            'block out with where'
        )
    kept = set(block.modules())  # with their modes
    for part in module.modules():
        if part not in kept:
            part.training = block.training
    saved = {*block.state_dict(), *(f'spatial_bias.{key}' for key in bias.state_dict())}
    for name, part in module.named_modules():
        names = {f'{name}.{key}'.lstrip('.'): key for key in part._buffers}
        part._non_persistent_buffers_set |= {names[key] for key in names.keys() - saved}
    # what others read from the block, and hooks on it; handles that remove them keep working
    for key, value in vars(block).items():
        if key not in vars(module) or key.endswith(('_hooks', '_hooks_with_kwargs')):
            vars(module)[key] = value
    return module


def _widen(layer: nn.Conv2d | nn.Linear, num_maps: int) -> None:
    """Add input columns of zeros to a 1x1 layer, also to weights without them when it loads."""
    wider = _with_columns(layer.weight.detach(), num_maps)
    layer.weight = nn.Parameter(wider, requires_grad=layer.weight.requires_grad)
    layer.num_maps = num_maps
    layer._register_load_state_dict_pre_hook(_pad_loaded, with_module=True)
    if isinstance(layer, nn.Linear):
        layer.in_features += num_maps
    else:
        layer.in_channels += num_maps


def _with_columns(weight: Tensor, number: int) -> Tensor:
    columns = weight.new_zeros(weight.shape[0], number, *weight.shape[2:])
    return torch.cat([weight, columns], dim=1)


def _pad_loaded(layer: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Widen a weight that comes from the network without spatial bias.

    The dict is the copy that ``load_state_dict`` makes, so the caller's stays as it is.
    """
    key = f'{prefix}weight'
    rows, columns, *size = layer.weight.shape
    if key in state_dict and state_dict[key].shape == (rows, columns - layer.num_maps, *size):
        state_dict[key] = _with_columns(state_dict[key], layer.num_maps)
