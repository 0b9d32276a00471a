"""SB-ResNet: ResNet with spatial bias (arXiv 2302.12505, section 3; Table 6)."""

import difflib
import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from mmcv.cnn import build_conv_layer, build_norm_layer, build_plugin_layer
from mmcv.cnn.bricks import DropPath
from mmengine.logging import print_log
from mmengine.model import BaseModule, Sequential
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor
from torch.func import functional_call

from mmsb.models.growing import grow_state_dict, starts_with_spatial_bias
from mmsb.models.kernels import blocks
from mmsb.models.layers import SpatialBias
from mmsb.registry import register_model
from mmsb.utils.errors import UserError

# The paper's SB-ResNet-50 (Table 6, "s1, s2, s3"); no spatial bias in the fourth stage.
SPATIAL_BIAS = dict(
    stages=(True, True, True, False),
    num_channels=3,
    size=10,
    kernel_size=3,
    position='conv2',
    resolution='released',
    fusion='concat',
    pooling='avg',
    mixing=True,
)


class ResidualBlock(BaseModule):
    """A residual block of ``conv - norm - ReLU`` layers, one of them with spatial bias.

    Subclasses name the layers. Parameter names are torchvision's (``conv1``, ``bn1``, ...).

    Args:
        in_channels (int): Channels of the input.
        channels (int): Base channels of the stage; the output has ``channels * expansion``.
        stride (int): Stride of the block. Defaults to 1.
        dilation (int): Dilation of its first 3x3 convolution. Defaults to 1.
        downsample (nn.Module, optional): The projection shortcut. Defaults to None.
        style (str): Where a bottleneck's stride is: 'pytorch', on the 3x3 convolution, or
            'caffe', on the first 1x1. Defaults to 'pytorch'.
        spatial_bias (dict, optional): ``position``, ``resolution``, ``fusion`` ('concat') and
            the arguments of :class:`SpatialBias`. Defaults to None.
        conv_cfg (dict, optional): Convolutions. Defaults to None.
        norm_cfg (dict): Norms. Defaults to ``dict(type='BN')``.
        dcn (dict, optional): Deformable convolution in place of the 3x3. Defaults to None.
        plugins (Sequence[dict]): This block's plugins. Defaults to ().
        drop_path_rate (float): Stochastic depth rate. Defaults to 0.
        with_cp (bool): Gradient checkpointing. Defaults to False.
        groups (int): Groups of a bottleneck's 3x3 convolution (ResNeXt). Defaults to 1.
        base_width (int): Channels of each group if ``channels`` is 64; torchvision's
            ``width_per_group``. Bottlenecks only. Defaults to 64.

    Raises:
        UserError: ``groups`` or ``base_width`` does not suit the block; a plugin names a
            position that the block lacks.
    """

    expansion: int
    # the keys of spatial_bias that choose among words
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
    ):
        super().__init__()
        self.groups = groups
        self.base_width = base_width
        layers = self.layers(channels, stride, dilation, style)
        self.num_layers = len(layers)
        positions = [*(f'after_conv{i + 1}' for i in range(self.num_layers)), 'after_block']
        for plugin in plugins:
            _check_choice('the position of a plugin', plugin.get('position'), positions)
        self.with_cp = with_cp
        self.kernels = True
        self.spatial_bias_at = 0  # 1-based, as the layers' names; 0 is nowhere
        # the widened norm keeps the features' statistics while it gathers the maps'
        self.norm_apart = False
        self.norm_split = False  # spatial bias has its part of the widened norm
        # a faster way for a fused block; gives None where it does not apply
        self.fused_forward: Callable[[ResidualBlock, Tensor], Tensor | None] | None = None
        if spatial_bias is not None:
            spatial_bias = dict(spatial_bias)
            self.spatial_bias_at = self.spatial_bias_layer(spatial_bias.pop('position'))
            strided = spatial_bias.pop('resolution') == 'strided'
            self.fusion = spatial_bias.pop('fusion', 'concat')

        self.norm_names, self.plugin_names = [], []
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
            self.plugin_names.append(self._add_plugins(plugins, f'after_conv{i}', width))
        self.plugin_names.append(self._add_plugins(plugins, 'after_block', width))

        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def layers(
        self, channels: int, stride: int, dilation: int, style: str
    ) -> list[tuple[int, int, int, int]]:
        """The block's convolutions: (out_channels, kernel_size, stride, dilation) of each."""
        raise NotImplementedError

    @staticmethod
    def spatial_bias_layer(position: str) -> int:
        """The convolution (1-based) that spatial bias stands beside."""
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
        """Channels of the norm after a layer with so many channels and maps; 0 is no norm."""
        return channels + num_maps

    @property
    def widened_layers(self) -> tuple[str | None, str]:
        """Names of the norm (None: there is none) and convolution that spatial bias widens."""
        return self.norm_names[self.spatial_bias_at - 1], f'conv{self.spatial_bias_at + 1}'

    def spatial_bias_parts(self) -> Iterator[nn.Module]:
        """The modules that spatial bias adds and, concatenated, those that it widens."""
        if self.spatial_bias_at:
            names = self.widened_layers if self.fusion == 'concat' else ()
            for name in ('spatial_bias', *filter(None, names)):
                yield from getattr(self, name).modules()

    @property
    def grows(self) -> bool:
        """Whether plain weights, zeros appended, make this block compute what they did."""
        return self.fusion == 'concat'

    @property
    def last_norm(self) -> nn.Module:
        return getattr(self, self.norm_names[-1])

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

    def _norm_relu(self, layer: int, y: Tensor, maps: Tensor | None) -> Tensor:
        """What follows a layer's convolution; maps are its spatial bias, if it has any."""
        norm = getattr(self, self.norm_names[layer - 1])
        if maps is None:
            y = norm(y)
        elif self.fusion == 'add':
            y = norm(y + maps)
        elif self.norm_apart and norm.training and norm.track_running_stats:
            y = _normalise_apart(norm, y, maps)
        elif type(norm) is nn.BatchNorm2d and norm.training:
            y = _normalise_by_parts(norm, y, maps)
        else:
            y = norm(torch.cat([y, maps], dim=1))
        return self.relu(y) if layer < self.num_layers else y

    def split_norm(self) -> None:
        """Gives the maps' part of the widened batch norm to spatial bias, before its upsampling.

        At inference the norm is affine, a channel apart from the others, and the weights of
        bilinear interpolation sum to one: the block computes what it did, and the features'
        norm can be folded into their convolution.
        """
        if not self.spatial_bias_at:
            return
        name = self.widened_layers[0]
        norm = getattr(self, name)
        if self.fusion == 'add':  # the norm comes after the sum: hidden from whoever folds norms
            setattr(self, name, nn.Sequential(norm))
        elif isinstance(norm, _BatchNorm) and norm.track_running_stats:
            num_maps = self.spatial_bias.num_channels
            self.norm_split = True
            setattr(self, name, _part(norm, slice(-num_maps)))
            self.spatial_bias.norm = _part(norm, slice(-num_maps, None))

    def _plug(self, place: int, y: Tensor) -> Tensor:
        for name in self.plugin_names[place]:
            y = getattr(self, name)(y)
        return y

    def _forward(self, x: Tensor) -> Tensor:
        if self.fused_forward is not None and (out := self.fused_forward(self, x)) is not None:
            return out
        if self.kernels and (out := blocks.forward(self, x)) is not None:
            return out
        out = x
        for i in range(1, self.num_layers + 1):
            y = getattr(self, f'conv{i}')(out)
            if i != self.spatial_bias_at:
                y = self._norm_relu(i, y, None)
            elif self.norm_split:
                y = self.spatial_bias.concatenate(getattr(self, self.norm_names[i - 1])(y), out)
            else:
                y = self._norm_relu(i, y, self.spatial_bias(out, y.shape[2:]))
            out = self._plug(i - 1, y)
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.drop_path(out)
        out += shortcut
        return self._plug(-1, self.relu(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, channels * expansion, H / stride, W / stride)."""
        if self.with_cp and x.requires_grad:
            return cp.checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def init_weights(self) -> None:
        """Initializes as mmengine, then plugins that have only a way of their own."""
        super().init_weights()
        for name in itertools.chain(*self.plugin_names):
            plugin = getattr(self, name)
            # mmcv's ContextBlock starts as the identity; the backbone's Kaiming undid that
            if hasattr(plugin, 'reset_parameters') and not hasattr(plugin, 'init_weights'):
                plugin.reset_parameters()


def _normalise_apart(norm: nn.Module, features: Tensor, maps: Tensor) -> Tensor:
    """Normalises features by the norm's statistics, maps by the batch's, which it gathers."""
    channels = features.shape[1]
    tensors = {**dict(norm.named_parameters()), **dict(norm.named_buffers())}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor.ndim}
    first = {name: tensor[:channels] for name, tensor in tensors.items()}
    last = {name: tensor[channels:] for name, tensor in tensors.items()}
    features = F.batch_norm(features, **first, eps=norm.eps)
    # the module itself, in training mode: its momentum, and what SyncBN synchronises
    return torch.cat([features, functional_call(norm, last, (maps,))], dim=1)


def _normalise_by_parts(norm: nn.BatchNorm2d, features: Tensor, maps: Tensor) -> Tensor:
    """The norm of their concatenation, which costs less over a round number of channels."""
    if not (norm.affine and norm.track_running_stats) or norm.momentum is None:
        return norm(torch.cat([features, maps], dim=1))
    channels = features.shape[1]
    norm.num_batches_tracked.add_(1)
    parts = []
    for x, part in ((features, slice(channels)), (maps, slice(channels, None))):
        stats = norm.running_mean[part], norm.running_var[part]
        affine = norm.weight[part], norm.bias[part]
        parts.append(F.batch_norm(x, *stats, *affine, True, norm.momentum, norm.eps))
    return torch.cat(parts, dim=1)


def _part(norm: _BatchNorm, channels: slice) -> nn.BatchNorm2d:
    """A batch norm of some of the channels, for inference."""
    tensors = {k: v[channels] if v.ndim else v for k, v in norm.state_dict().items()}
    part = nn.BatchNorm2d(len(tensors['running_mean']), norm.eps, affine=norm.affine)
    part.to(norm.running_mean).load_state_dict(tensors)
    return part.eval()


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (depths 18, 34); spatial bias stands beside the first."""

    expansion = 1

    def layers(self, channels, stride, dilation, style):
        if (self.groups, self.base_width) != (1, 64):
            raise UserError('groups and base_width need a bottleneck (depth 50, 101 or 152)')
        return [(channels, 3, stride, dilation), (channels, 3, 1, 1)]

    @staticmethod
    def spatial_bias_layer(position):
        return 1  # its only place: after the second there is no convolution to read it


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolution (depths 50, 101, 152)."""

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


@register_model
class SBResNet(BaseModule):
    """ResNet with spatial bias, for classification, detection and segmentation.

    The defaults are the paper's SB-ResNet-50: 25,986,620 parameters with a 1000-class
    head (Table 6). ``spatial_bias=None`` is the plain ResNet, parameter for parameter.
    Parameter names are torchvision's. Plain ResNet weights of the same depth are grown on
    loading, from torchvision, timm or the toolboxes, by ``init_cfg``, ``load_from`` or
    ``load_state_dict``: the outputs are the plain network's, and spatial bias starts to count
    as it learns (see :func:`mmsb.checkpoints.grow_state_dict`).

    Args:
        depth (int): Depth, one of 18, 34, 50, 101, 152. Defaults to 50.
        spatial_bias (dict, optional): Where and how; keys left out keep the paper's value.
            None is no spatial bias anywhere. The keys:

            - stages (Sequence[bool]): Which stages have it (Table 6). Defaults to
              (True, True, True, False).
            - num_channels (int): Maps a block (Tables 4, 7); 0 is no spatial bias. Defaults
              to 3.
            - size (int or Sequence[int]): Side of the pooled grid, one for all stages or
              one a stage (Table 3). Defaults to 10.
            - kernel_size (int): Width of the 1-D convolution. Defaults to 3.
            - position (str): The convolution that it stands beside, 'conv1' or 'conv2'
              (Table 2). A basic block has one place only, beside its first 3x3, for
              either. Defaults to 'conv2'.
            - resolution (str): In a stride-2 block, 'released' makes the maps from the
              features before the stride, as the authors' release; 'strided' after it, as
              the paper's FLOPs say. Defaults to 'released'.
            - fusion (str): 'concat', or 'add', one map added to every channel (Table 5; needs
              num_channels=1). Defaults to 'concat'.
            - pooling (str): 'avg' or 'max' to the grid (Table 5). Defaults to 'avg'.
            - mixing (bool): Whether there is the 1-D convolution; False is Table 5's "pool
              only". Defaults to True.
        in_channels (int): Channels of the image. Defaults to 3.
        stem_channels (int, optional): Channels of the stem. Defaults to None,
            ``base_channels``.
        base_channels (int): Base channels of the first stage. Defaults to 64.
        groups (int): Groups of the bottlenecks' 3x3 convolutions. Defaults to 1.
        base_width (int): Channels of each group in the first stage if ``base_channels`` is 64, in
            proportion otherwise; torchvision's ``width_per_group``. ``groups=32, base_width=4``
            is SB-ResNeXt 32x4d, ``base_width=128`` Wide SB-ResNet-2. Defaults to 64.
        num_stages (int): Stages, 1 to 4. Defaults to 4.
        strides (Sequence[int]): Stride of each stage. Defaults to (1, 2, 2, 2).
        dilations (Sequence[int]): Dilation of each stage. Defaults to (1, 1, 1, 1).
        out_indices (Sequence[int]): Stages whose features are returned. Defaults to
            (0, 1, 2, 3), all.
        style (str): 'pytorch' or 'caffe', a bottleneck's stride on its 3x3 or on its first
            1x1 convolution. Defaults to 'pytorch'.
        deep_stem (bool): Three 3x3 convolutions in place of the 7x7 stem. Defaults to
            False.
        avg_down (bool): Average pooling in place of a strided shortcut. Defaults to False.
        frozen_stages (int): Stages frozen: no gradient, norms in eval mode; 0 is the stem,
            -1 nothing. Defaults to -1.
        freeze_spatial_bias (bool, optional): Whether ``frozen_stages`` and ``norm_eval`` hold
            for spatial bias too. If not, its layers learn and gather statistics in every
            stage, and so do the maps' channels of the widened norm, whose other channels
            keep their statistics; in frozen stages the weights of that norm and of the
            widened convolution learn as a whole. Defaults to None: True where ``init_cfg``
            names a local file with spatial bias in it; False otherwise, because spatial bias
            grown into plain weights is new.
        conv_cfg (dict, optional): Convolutions. Defaults to None, Conv2d.
        norm_cfg (dict): Norms. Defaults to ``dict(type='BN')``.
        norm_eval (bool): Keep batch norms in eval mode. Defaults to False.
        dcn (dict, optional): Deformable convolution for a bottleneck's 3x3, mmdet's
            convention. Defaults to None.
        stage_with_dcn (Sequence[bool]): Stages that have it. Defaults to none.
        plugins (Sequence[dict], optional): mmdet's convention:
            ``dict(cfg=dict(type=...), stages=(...), position='after_conv3')``; a plugin
            after spatial bias sees the widened features. More than mmdet's: the position
            'after_block', behind the block's last ReLU, and ``blocks=(1, 3)``, the blocks of
            each of its stages that have it, from 0 (all if left out). Defaults to None.
        with_cp (bool): Gradient checkpointing. Defaults to False.
        zero_init_residual (bool): Start every block as the identity. Not the paper's.
            Defaults to False.
        drop_path_rate (float): Stochastic depth rate of the last block; rises linearly
            from 0. Defaults to 0.
        init_cfg (dict or list, optional): Initialization config. Defaults to None: Kaiming
            (fan out) convolutions, unit norms, as the authors'.

    Raises:
        UserError: An argument or a key of ``spatial_bias`` is not among those above; a plugin
            names a position or a block that does not exist; ``groups`` or ``base_width`` with
            basic blocks, or ``groups`` with maps beside conv1.

    Example:
        >>> import torch
        >>> from mmsb.models import SBResNet
        >>> model = SBResNet(depth=50).eval()
        >>> for features in model(torch.rand(1, 3, 64, 96)):
        ...     print(tuple(features.shape))
        (1, 256, 16, 24)
        (1, 512, 8, 12)
        (1, 1024, 4, 6)
        (1, 2048, 2, 3)
    """

    arch_settings = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }
    spatial_bias_defaults = SPATIAL_BIAS
    stem_conv = dict(kernel_size=7, stride=2, padding=3)
    stem_pool = True

    def __init__(
        self,
        depth: int = 50,
        spatial_bias: dict | None = SPATIAL_BIAS,
        in_channels: int = 3,
        stem_channels: int | None = None,
        base_channels: int = 64,
        num_stages: int = 4,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        style: str = 'pytorch',
        deep_stem: bool = False,
        avg_down: bool = False,
        frozen_stages: int = -1,
        freeze_spatial_bias: bool | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        norm_eval: bool = False,
        dcn: dict | None = None,
        stage_with_dcn: Sequence[bool] = (False, False, False, False),
        plugins: Sequence[dict] | None = None,
        with_cp: bool = False,
        zero_init_residual: bool = False,
        drop_path_rate: float = 0.0,
        init_cfg: dict | list | None = None,
        groups: int = 1,
        base_width: int = 64,
    ):
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        _check_choice('depth', depth, self.arch_settings)
        _check_choice('style', style, ('pytorch', 'caffe'))
        block, stage_blocks = self.arch_settings[depth]
        _check_choice('num_stages', num_stages, range(1, len(stage_blocks) + 1))
        for name, value in (('strides', strides), ('dilations', dilations)):
            _check_length(name, value, num_stages)
        if not out_indices or not all(0 <= i < num_stages for i in out_indices):
            raise UserError(f'out_indices is {out_indices}; give stages from 0 to {num_stages - 1}')
        if dcn is not None and block is BasicBlock:
            raise UserError(f'dcn needs a bottleneck (depth 50, 101 or 152), not depth {depth}')
        if dcn is not None:
            _check_length('stage_with_dcn', stage_with_dcn, num_stages)
            importlib.import_module('mmcv.ops')  # registers them

        self.kernels = True
        self.depth = depth
        self.num_stages = num_stages
        self.out_indices = tuple(out_indices)
        self.deep_stem = deep_stem
        self.avg_down = avg_down
        self.frozen_stages = frozen_stages
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg
        self.norm_eval = norm_eval
        self.zero_init_residual = zero_init_residual
        self.stage_blocks = stage_blocks[:num_stages]

        stage_bias = _spatial_bias_of_stages(
            spatial_bias, self.spatial_bias_defaults, num_stages, norm_cfg, block
        )
        # Settled now, not on loading: DDP, which the runner makes in between, never learns of a
        # parameter that is frozen or unfrozen later.
        if freeze_spatial_bias is None:
            freeze_spatial_bias = any(stage_bias) and starts_with_spatial_bias(init_cfg)
        self.freeze_spatial_bias = freeze_spatial_bias
        block_plugins = _plugins_of_blocks(plugins, self.stage_blocks)
        drop_rates = torch.linspace(0, drop_path_rate, sum(stage_blocks), device='cpu').tolist()

        width = base_channels if stem_channels is None else stem_channels
        self._make_stem(in_channels, width)
        self.res_layers = []
        for i, num_blocks in enumerate(self.stage_blocks):
            channels = base_channels * 2**i
            blocks = []
            for j in range(num_blocks):
                stride = strides[i] if j == 0 else 1
                blocks.append(
                    block(
                        width,
                        channels,
                        stride,
                        dilations[i],
                        self._make_shortcut(width, channels * block.expansion, stride)
                        if j == 0
                        else None,
                        style=style,
                        spatial_bias=stage_bias[i],
                        conv_cfg=conv_cfg,
                        norm_cfg=norm_cfg,
                        dcn=dcn if dcn is not None and stage_with_dcn[i] else None,
                        plugins=block_plugins[i][j],
                        drop_path_rate=drop_rates.pop(0),
                        with_cp=with_cp,
                        groups=groups,
                        base_width=base_width,
                    )
                )
                width = channels * block.expansion
            self.add_module(f'layer{i + 1}', Sequential(*blocks))
            self.res_layers.append(f'layer{i + 1}')
        self.feat_dim = width
        self._freeze_stages()

    def _make_stem(self, in_channels: int, channels: int) -> None:
        def conv(*args, **kwargs):
            return build_conv_layer(self.conv_cfg, *args, bias=False, **kwargs)

        def norm(channels):
            return build_norm_layer(self.norm_cfg, channels)[1]

        if self.deep_stem:  # mmdet's and mmseg's names: stem.0, stem.1, stem.3, ...
            half = channels // 2
            widths = [in_channels, half, half, channels]
            layers = []
            for i in range(3):
                stride = 2 if i == 0 else 1
                layers += [
                    conv(widths[i], widths[i + 1], 3, stride=stride, padding=1),
                    norm(widths[i + 1]),
                    nn.ReLU(inplace=True),
                ]
            self.stem = nn.Sequential(*layers)
        else:
            self.conv1 = conv(in_channels, channels, **self.stem_conv)
            self.norm1_name, norm1 = build_norm_layer(self.norm_cfg, channels, postfix=1)
            self.add_module(self.norm1_name, norm1)
            self.relu = nn.ReLU(inplace=True)
        if self.stem_pool:
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def _make_shortcut(self, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
        if stride == 1 and in_channels == out_channels:
            return None
        layers = []
        if self.avg_down:
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            layers, stride = [pool], 1
        conv = build_conv_layer(
            self.conv_cfg, in_channels, out_channels, 1, stride=stride, bias=False
        )
        return nn.Sequential(*layers, conv, build_norm_layer(self.norm_cfg, out_channels)[1])

    @property
    def norm1(self) -> nn.Module:
        """The stem's norm (7x7 stem only)."""
        return getattr(self, self.norm1_name)

    def init_weights(self) -> None:
        """Initializes as ``init_cfg`` says, then ``zero_init_residual``, as the toolboxes."""
        super().init_weights()
        pretrained = isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained'
        if self.zero_init_residual and not pretrained:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    nn.init.zeros_(module.last_norm.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the features.

        Args:
            x: Images, (B, in_channels, H, W); any H, W and B.

        Returns:
            Features of the stages in ``out_indices``, each (B, C, H / s, W / s) with C =
            base_channels * 2^i * expansion and s = 4, 8, 16, 32 for stage i = 0 to 3.
        """
        if self.deep_stem:
            x = self.stem(x)
        else:
            x = self.conv1(x)
            normalised = blocks.norm_relu(x, self.norm1, self.relu) if self.kernels else None
            x = self.relu(self.norm1(x)) if normalised is None else normalised
        if self.stem_pool:
            x = self.maxpool(x)
        outs = []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _held(self, module: nn.Module) -> Iterator[nn.Module]:
        """The modules inside one that freezing is for: all, or all but spatial bias's."""
        spared = set()
        if not self.freeze_spatial_bias:
            blocks = (part for part in module.modules() if isinstance(part, ResidualBlock))
            spared.update(*(block.spatial_bias_parts() for block in blocks))
        return (part for part in module.modules() if part not in spared)

    def _freeze_stages(self) -> None:
        frozen = []
        if self.frozen_stages >= 0:
            frozen += [self.stem] if self.deep_stem else [self.conv1, self.norm1]
        frozen += [getattr(self, name) for name in self.res_layers[: max(self.frozen_stages, 0)]]
        for part in itertools.chain(*map(self._held, frozen)):
            part.training = False
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)
        for i, name in enumerate(self.res_layers):
            held = self.norm_eval or i < self.frozen_stages
            for block in getattr(self, name):
                block.norm_apart = held and not self.freeze_spatial_bias

    def train(self, mode: bool = True):
        """Sets the mode; frozen stages and, with ``norm_eval``, batch norms stay in eval."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for part in self._held(self):
                if isinstance(part, _BatchNorm):
                    part.eval()
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # Every way of loading (init_cfg, load_from, load_state_dict) passes here, before the
        # children's turn: plain ResNet weights are grown, another architecture's refused.
        report = grow_state_dict(self, state_dict, prefix)
        report.log(self)
        spared = (self.norm_eval or self.frozen_stages > 0) and not self.freeze_spatial_bias
        if spared and any('spatial_bias.' in key for key in report.loaded):
            print_log(
                f'{type(self).__name__}: these weights bring spatial bias; in training it goes on '
                'learning under frozen_stages and norm_eval unless freeze_spatial_bias=True',
                'current',
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _check_choice(name, value, choices) -> None:
    if value not in choices:
        raise UserError(f'{name} is {value!r}; give one of {", ".join(map(repr, choices))}')


def _check_length(name, value, num_stages) -> None:
    if len(value) != num_stages:
        raise UserError(f'{name} is {value}; give {num_stages} values, one a stage')


def _spatial_bias_of_stages(
    spatial_bias: dict | None,
    defaults: dict,
    num_stages: int,
    norm_cfg: dict,
    block: type[ResidualBlock],
) -> list[dict | None]:
    """Each stage's spatial bias settings, None where it has none."""
    if spatial_bias is None:
        return [None] * num_stages
    for key in spatial_bias:
        if key not in defaults:
            close = difflib.get_close_matches(key, defaults, n=1)
            hint = f'did you mean {close[0]!r}? ' if close else ''
            raise UserError(
                f'spatial_bias has no key {key!r}: {hint}Its keys are {", ".join(defaults)}'
            )
    settings = {**defaults, **spatial_bias}
    if settings['stages'] == defaults['stages']:
        settings['stages'] = defaults['stages'][:num_stages]
    stages, size = settings.pop('stages'), settings.pop('size')
    sizes = [size] * num_stages if isinstance(size, int) else size
    _check_length("spatial_bias['stages']", stages, num_stages)
    _check_length("spatial_bias['size']", sizes, num_stages)
    for key, choices in block.choices.items():
        _check_choice(f'spatial_bias[{key!r}]', settings[key], choices)
    numbers = dict(settings, size=min(sizes))
    for key, least in (('num_channels', 0), ('size', 1), ('kernel_size', 1)):
        if numbers[key] < least:
            raise UserError(f'spatial_bias[{key!r}] is {numbers[key]}; give {least} or more')
    if settings['num_channels'] == 0:  # the paper's "bias-0"
        return [None] * num_stages
    if settings['fusion'] == 'add' and settings['num_channels'] != 1:
        raise UserError(
            f"spatial_bias['fusion'] 'add' adds one map to every channel, but num_channels is "
            f'{settings["num_channels"]}; give num_channels=1'
        )
    if any(stages) and norm_cfg['type'] not in ('BN', 'BN2d', 'SyncBN', 'MMSyncBN', 'IN'):
        raise UserError(
            f'spatial_bias with norm_cfg type {norm_cfg["type"]!r}: the concatenated channels '
            'fit only a norm that treats each channel alone; give BN or SyncBN'
        )
    return [
        dict(settings, size=sizes[i]) if has_bias else None for i, has_bias in enumerate(stages)
    ]


def _plugins_of_blocks(
    plugins: Sequence[dict] | None, stage_blocks: Sequence[int]
) -> list[list[list[dict]]]:
    """The plugins of each block of each stage."""
    of_blocks = [[[] for _ in range(count)] for count in stage_blocks]
    for plugin in plugins or ():
        for key in plugin:
            _check_choice('a key of a plugin', key, ('cfg', 'stages', 'position', 'blocks'))
        stages = plugin.get('stages')
        if stages is None:
            stages = [True] * len(stage_blocks)
        _check_length('the stages of a plugin', stages, len(stage_blocks))
        for i, of_stage in enumerate(of_blocks):
            if not stages[i]:
                continue
            blocks = plugin.get('blocks')
            for j in range(len(of_stage)) if blocks is None else blocks:
                if not 0 <= j < len(of_stage):
                    raise UserError(
                        f'the blocks of a plugin are {tuple(blocks)}, but stage {i + 1} has blocks '
                        f'0 to {len(of_stage) - 1}; give each stage an entry with blocks it has'
                    )
                of_stage[j].append(plugin)
    return of_blocks
