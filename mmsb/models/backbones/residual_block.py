"""Residual blocks of ResNet, with optional spatial bias beside one of their convolutions."""

import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn as nn
import torch.utils.checkpoint as cp
from mmcv.cnn import build_conv_layer, build_norm_layer, build_plugin_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule, Sequential
from torch import Tensor
from torch.fx import GraphModule, Proxy, symbolic_trace

from mmsb.models.kernels import dispatch
from mmsb.models.layers import SpatialBias
from mmsb.models.layers.widened_norm import widened_norm
from mmsb.utils.errors import UserError

from .settings import check_choice


class ResidualBlock(BaseModule):
    """Residual block of ``conv - norm - ReLU`` layers, at most one of them with spatial bias.

    Subclasses define the layers. Parameters are named as in torchvision (``conv1``, ``bn1``, ...).

    Args:
        in_channels (int): Channels of the input.
        channels (int): Base channels of the stage; the output has ``channels * expansion``.
        stride (int): Stride of the block. Defaults to 1.
        dilation (int): Dilation of its first 3x3 convolution. Defaults to 1.
        downsample (nn.Module, optional): Projection shortcut. Defaults to None, the identity.
        style (str): Layer that has a bottleneck's stride: 'pytorch' for the 3x3 convolution,
            'caffe' for the first 1x1. Defaults to 'pytorch'.
        spatial_bias (dict, optional): ``position``, ``resolution``, ``fusion`` (if left out,
            'concat') and arguments of :class:`SpatialBias`. Defaults to None, no spatial bias.
        conv_cfg (dict, optional): Config of the convolutions. Defaults to None, Conv2d.
        norm_cfg (dict): Config of the norm layers. Defaults to ``dict(type='BN')``.
        dcn (dict, optional): Config of a deformable convolution that replaces the 3x3. Defaults
            to None.
        plugins (Sequence[dict]): Plugins of this block, each with ``cfg`` and ``position``.
            Defaults to ().
        drop_path_rate (float): Stochastic depth rate. Defaults to 0.
        with_cp (bool): Use gradient checkpointing: less memory, slower. Defaults to False.
        groups (int): Groups of a bottleneck's 3x3 convolution (ResNeXt). Defaults to 1.
        base_width (int): Channels per group if ``channels`` is 64, else in proportion. It is
            torchvision's ``width_per_group``. Bottlenecks only. Defaults to 64.
        kernels (bool): Whether norms and spatial bias may use fused GPU kernels
            (:mod:`mmsb.models.kernels.dispatch`). Defaults to True.

    Raises:
        UserError: The block does not support ``groups`` or ``base_width``; a plugin names a
            position that the block lacks.
    """

    expansion: int
    # allowed values of the spatial_bias keys that take one of a fixed set
    choices = dict(
        position=('conv1', 'conv2'),
        resolution=('released', 'strided'),
        fusion=('concat', 'add'),
        pooling=('avg', 'max'),
        mixing=(True, False),
    )

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = 'pytorch',
        spatial_bias: dict | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        dcn: dict | None = None,
        plugins: Sequence[dict] = (),
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        groups: int = 1,
        base_width: int = 64,
        kernels: bool = True,
    ):
        super().__init__()
        self.groups = groups
        self.base_width = base_width
        layers = self.layers(channels, stride, dilation, style)
        self.num_layers = len(layers)
        positions = [*(f'after_conv{i + 1}' for i in range(self.num_layers)), 'after_block']
        for plugin in plugins:
            check_choice('the position of a plugin', plugin.get('position'), positions)
        self.with_cp = with_cp
        self.kernels = kernels
        self.spatial_bias_at = 0  # 1-based, as in the layer names; 0: no spatial bias
        # if True, the widened norm updates running statistics for the maps only
        self.features_norm_held = False
        if spatial_bias is not None:
            spatial_bias = dict(spatial_bias)
            self.spatial_bias_at = self.spatial_bias_layer(spatial_bias.pop('position'))
            strided = spatial_bias.pop('resolution') == 'strided'
            self.fusion = spatial_bias.pop('fusion', 'concat')

        self.norm_names, self.plugin_names = [], {}
        width, num_maps = in_channels, 0
        for i, (out_channels, kernel_size, stride, dilation) in enumerate(layers, 1):
            cfg = conv_cfg
            if kernel_size == 3 and dcn is not None:
                dcn = dict(dcn)
                cfg = conv_cfg if dcn.pop('fallback_on_stride', False) and stride > 1 else dcn
            if num_maps and kernel_size == 3 and groups > 1:
                raise UserError(
                    f"spatial_bias['position'] 'conv1' would add maps to one of {groups} groups of "
                    "the 3x3 convolution; give position='conv2' or groups=1"
                )
            shape = (width, out_channels, kernel_size, stride, dilation)
            self.add_module(f'conv{i}', self._make_conv(cfg, norm_cfg, *shape))
            num_maps = 0
            if i == self.spatial_bias_at:
                self.spatial_bias = SpatialBias(
                    width,
                    stride=stride if strided else 1,
                    conv_cfg=conv_cfg,
                    norm_cfg=norm_cfg,
                    **spatial_bias,
                )
                num_maps = self.spatial_bias.num_channels if self.fusion == 'concat' else 0
            width = out_channels + num_maps
            norm_name, norm_width = None, self._norm_width(i, out_channels, num_maps)
            if norm_width:
                norm_name, norm = build_norm_layer(norm_cfg, norm_width, postfix=i)
                self.add_module(norm_name, norm)
            self.norm_names.append(norm_name)
            position = f'after_conv{i}'
            self.plugin_names[position] = self._add_plugins(plugins, position, width)
        self.plugin_names['after_block'] = self._add_plugins(plugins, 'after_block', width)

        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def layers(
        self, channels: int, stride: int, dilation: int, style: str
    ) -> list[tuple[int, int, int, int]]:
        """List (out_channels, kernel_size, stride, dilation) of each convolution."""
        raise NotImplementedError

    @staticmethod
    def spatial_bias_layer(position: str) -> int:
        """Return the number (1-based) of the convolution that spatial bias runs beside."""
        raise NotImplementedError

    def _make_conv(
        self, cfg, norm_cfg, in_channels, out_channels, kernel_size, stride, dilation
    ) -> nn.Module:
        return build_conv_layer(
            cfg,
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=dilation if kernel_size == 3 else 0,
            dilation=dilation,
            groups=self.groups if kernel_size == 3 else 1,
            bias=False,
        )

    def _norm_width(self, layer: int, channels: int, num_maps: int) -> int:
        """Return the channels of the norm after a layer; 0 means no norm."""
        return channels + num_maps

    @property
    def widened_layers(self) -> tuple[str | None, str]:
        """Names of the norm (or None) and of the convolution that spatial bias widens."""
        return self.norm_names[self.spatial_bias_at - 1], f'conv{self.spatial_bias_at + 1}'

    @property
    def added_parts(self) -> list[str]:
        """Names of what a plain block does not have: spatial bias and the plugins."""
        plugins = itertools.chain(*self.plugin_names.values())
        return [*(['spatial_bias'] if self.spatial_bias_at else []), *plugins]

    def layers_of(self, part: str) -> Iterator[nn.Module]:
        """Yield the modules of an added part and, if it is spatial bias, those that it widens."""
        yield from getattr(self, part).modules()
        if part == 'spatial_bias' and self.fusion == 'concat':
            for name in filter(None, self.widened_layers):
                yield from getattr(self, name).modules()

    def norm_before(self, position: str) -> str | None:
        """Name of the norm that scales all that plugins at a position see; None without one."""
        if position == 'after_block':  # the shortcut is added after the last norm
            return None
        return self.norm_names[int(position.removeprefix('after_conv')) - 1]

    @property
    def grows(self) -> bool:
        """Whether zero-padded plain weights keep their function in this block."""
        return self.fusion == 'concat'

    @property
    def last_norm(self) -> nn.Module:
        return getattr(self, self.norm_names[-1])

    # the toolboxes' names for a block's norms, whatever their type
    norm1 = property(lambda self: self._norm(1))
    norm2 = property(lambda self: self._norm(2))
    norm3 = property(lambda self: self._norm(3))

    def _norm(self, layer: int) -> nn.Module:
        name = dict(enumerate(self.norm_names, 1)).get(layer)
        if name is None:
            raise AttributeError(f'{type(self).__name__} has no norm{layer}')
        return getattr(self, name)

    def _add_plugins(self, plugins: Sequence[dict], position: str, channels: int) -> list[str]:
        names = []
        for plugin in plugins:
            if plugin['position'] != position:
                continue
            cfg = dict(plugin['cfg'])
            name, layer = build_plugin_layer(
                cfg, postfix=cfg.pop('postfix', ''), in_channels=channels
            )
            if hasattr(self, name):
                raise UserError(
                    f'two plugins are both named {name}: give each its own postfix in its cfg'
                )
            self.add_module(name, layer)
            names.append(name)
        return names

    def maps(self, layer: int, x: Tensor, y: Tensor) -> Tensor | None:
        """Compute spatial bias from x at the size of y; None for layers without it."""
        return self.spatial_bias(x, y.shape[2:]) if layer == self.spatial_bias_at else None

    def normalise(self, layer: int, y: Tensor, maps: Tensor | None = None) -> Tensor:
        """Normalise a layer's output, together with its spatial bias maps if given."""
        norm = getattr(self, self.norm_names[layer - 1])
        if maps is None:
            return norm(y)
        if self.fusion == 'add':
            return norm(y + maps)
        if isinstance(y, Proxy):  # torch.fx cannot trace a slice at a width that it reads
            if self.features_norm_held and norm.training:
                raise UserError(
                    'torch.fx cannot trace frozen norms whose channels of spatial bias train: '
                    'trace the network in eval mode, or set freeze_spatial_bias=True'
                )
            return norm(torch.cat([y, maps], dim=1))
        return widened_norm(norm, y, maps, self.features_norm_held)

    def plug(self, position: str, y: Tensor) -> Tensor:
        """Apply the plugins at a position ('after_conv1', ..., 'after_block')."""
        for name in self.plugin_names[position]:
            y = getattr(self, name)(y)
        return y

    def _forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels * expansion, H / stride, W / stride)."""
        if self.with_cp and not isinstance(x, Proxy) and x.requires_grad:
            return cp.checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def init_weights(self) -> None:
        """Initialize as mmengine does, then plugins that only have ``reset_parameters``."""
        super().init_weights()
        for name in itertools.chain(*self.plugin_names.values()):
            plugin = getattr(self, name)
            # mmcv's ContextBlock starts as the identity; the backbone's Kaiming overwrote that
            if hasattr(plugin, 'reset_parameters') and not hasattr(plugin, 'init_weights'):
                plugin.reset_parameters()


class BasicBlock(ResidualBlock):
    """Block of two 3x3 convolutions (depths 18, 34), with spatial bias beside the first."""

    expansion = 1

    def layers(self, channels, stride, dilation, style):
        if (self.groups, self.base_width) != (1, 64):
            raise UserError('groups and base_width need a bottleneck (depth 50, 101 or 152)')
        return [(channels, 3, stride, dilation), (channels, 3, 1, 1)]

    @staticmethod
    def spatial_bias_layer(position):
        return 1  # beside the second, no convolution would read the maps

    def _forward(self, x):
        y = self.conv1(x)
        y = self.relu(self.normalise(1, y, self.maps(1, x, y)))
        y = self.plug('after_conv1', y)

        y = self.normalise(2, self.conv2(y))
        y = self.drop_path(self.plug('after_conv2', y))

        y += x if self.downsample is None else self.downsample(x)
        return self.plug('after_block', self.relu(y))


class Bottleneck(ResidualBlock):
    """Block of a 1x1, a 3x3 and a 1x1 convolution (depths 50, 101, 152)."""

    expansion = 4

    def layers(self, channels, stride, dilation, style):
        s1, s2 = (1, stride) if style == 'pytorch' else (stride, 1)
        width = channels * self.base_width // 64 * self.groups
        if width < 1:
            raise UserError(
                f'groups={self.groups} and base_width={self.base_width} leave no channels of '
                f'{channels}; give larger ones'
            )
        return [(width, 1, s1, 1), (width, 3, s2, dilation), (channels * 4, 1, 1, 1)]

    @staticmethod
    def spatial_bias_layer(position):
        return int(position[-1])

    def _forward(self, x):
        kernels = self.kernels and not isinstance(x, Proxy)
        if kernels and (out := dispatch.bottleneck(self, x)) is not None:
            return out

        y = self.conv1(x)
        y = self.relu(self.normalise(1, y, self.maps(1, x, y)))
        u = self.plug('after_conv1', y)

        y = self.conv2(u)
        y = self.relu(self.normalise(2, y, self.maps(2, u, y)))
        y = self.plug('after_conv2', y)

        y = self.normalise(3, self.conv3(y))
        y = self.drop_path(self.plug('after_conv3', y))

        y += x if self.downsample is None else self.downsample(x)
        return self.plug('after_block', self.relu(y))


class Stage(Sequential):
    """Residual blocks of one resolution."""

    def __prepare_scriptable__(self) -> GraphModule:
        return scriptable(self)  # torch.jit.script compiles this in place of the stage


def scriptable(network: nn.Module) -> GraphModule:
    """Trace a network of residual blocks into a module that ``torch.jit.script`` can compile.

    Args:
        network: The network; its parameters and layers are shared. Modes of layers are not traced.

    Raises:
        UserError: It is in training mode and has drop path, which tracing would fix in this mode.
    """
    if any(isinstance(part, DropPath) and part.training for part in network.modules()):
        raise UserError(
            'torch.jit.script cannot compile drop path (drop_path_rate > 0) for training: call '
            'eval() on the model first, or leave drop_path_rate at 0'
        )
    return symbolic_trace(network)
