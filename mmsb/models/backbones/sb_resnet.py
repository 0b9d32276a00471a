"""SB-ResNet: ResNet with spatial bias (arXiv 2302.12505, section 3; Table 6)."""

import importlib
import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn as nn
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor
from torch.fx import Proxy

from mmsb.models.growing import grow_state_dict, parts_in_checkpoint
from mmsb.models.hub import HubMixin
from mmsb.models.kernels import dispatch
from mmsb.models.pretrained import load_pretrained
from mmsb.registry import register_model
from mmsb.utils.errors import UserError

from .residual_block import BasicBlock, Bottleneck, ResidualBlock, Stage
from .settings import (
    SPATIAL_BIAS,
    check_choice,
    check_length,
    dilations_of_blocks,
    plugins_of_blocks,
    spatial_bias_of_stages,
)


@register_model
class SBResNet(HubMixin, BaseModule):
    """ResNet with spatial bias, for classification, detection and segmentation.

    The defaults are the paper's SB-ResNet-50: 25,986,620 parameters with a 1000-class
    head (Table 6). ``spatial_bias=None`` gives the plain ResNet with the same parameters.
    Parameters are named as in torchvision. Plain ResNet weights of the same depth, from
    torchvision, timm or the toolboxes, are grown when loaded by ``init_cfg``, ``load_from`` or
    ``load_state_dict``: the outputs first equal those with ``spatial_bias=None``, and training then
    makes use of spatial bias (see :func:`mmsb.checkpoints.grow_state_dict`).

    Args:
        depth (int): Depth, one of 18, 34, 50, 101, 152. Defaults to 50.
        spatial_bias (dict, optional): Settings of spatial bias; keys left out take the paper's
            value. None disables spatial bias. The keys:

            - stages (Sequence[bool]): Which stages have spatial bias (Table 6). Defaults to
              (True, True, True, False).
            - num_channels (int): Maps per block (Tables 4, 7); 0 disables spatial bias.
              Defaults to 3.
            - size (int or Sequence[int]): Side of the pooled grid in cells, one number or
              one per stage (Table 3). Defaults to 10.
            - kernel_size (int): Width of the 1-D convolution. Defaults to 3.
            - position (str): The convolution whose output the maps join, 'conv1' or 'conv2'
              (Table 2). Basic blocks always use their first 3x3 convolution. Defaults to
              'conv2'.
            - resolution (str): In a stride-2 block, 'released' computes the maps from the
              features before the stride, as in the authors' code; 'strided' after it, which
              matches the paper's FLOPs. Defaults to 'released'.
            - fusion (str): 'concat', or 'add', which adds one map to every channel (Table 5;
              needs num_channels=1). Defaults to 'concat'.
            - pooling (str): Pooling to the grid, 'avg' or 'max' (Table 5). Defaults to 'avg'.
            - mixing (bool): Whether to apply the 1-D convolution; False is Table 5's "pool
              only". Defaults to True.
        in_channels (int): Channels of the image. Defaults to 3.
        stem_channels (int, optional): Channels of the stem. Defaults to None, the value of
            ``base_channels``.
        base_channels (int): Base channels of the first stage. Defaults to 64.
        groups (int): Groups of the bottlenecks' 3x3 convolutions. Defaults to 1.
        base_width (int): Channels per group in the first stage if ``base_channels`` is 64, else in
            proportion; torchvision's ``width_per_group``. ``groups=32, base_width=4``
            is SB-ResNeXt 32x4d, ``base_width=128`` Wide SB-ResNet-2. Defaults to 64.
        num_stages (int): Number of stages, 1 to 4. Defaults to 4.
        strides (Sequence[int]): Stride of each stage. Defaults to (1, 2, 2, 2).
        dilations (Sequence[int]): Dilation of each stage. Defaults to (1, 1, 1, 1).
        contract_dilation (bool): Halve the dilation of the first block of each dilated stage, as in
            mmseg. Must match pretrained weights: their names do not tell. Defaults to False.
        multi_grid (Sequence[int], optional): Dilation of each block of the last stage, in place of
            the value in ``dilations``, as in mmseg. Defaults to None.
        out_indices (Sequence[int]): Stages to return, from 0. Defaults to (0, 1, 2, 3), all; in
            configs of mmpretrain to the last, if they are read by mmsb's tools.
        style (str): Layer that has a bottleneck's stride: 'pytorch' for the 3x3 convolution,
            'caffe' for the first 1x1. Must match pretrained weights. Defaults to 'pytorch'.
        deep_stem (bool): Use three 3x3 convolutions instead of the 7x7 stem (ResNet-C).
            Defaults to False.
        avg_down (bool): Use average pooling instead of a strided 1x1 convolution in shortcuts
            (ResNet-D). Defaults to False.
        frozen_stages (int): Number of stages to freeze (no gradient, norms in eval mode)
            together with the stem; 0 freezes only the stem, -1 nothing. Defaults to -1.
        freeze_spatial_bias (bool, optional): Whether ``frozen_stages`` and ``norm_eval`` apply to
            the layers that a plain ResNet does not have, spatial bias and plugins, too. If False,
            these keep training and updating statistics in every stage. So do the maps' channels
            of the norm that spatial bias widens, whose other channels keep their statistics. In
            frozen stages, all weights of that norm and of the widened convolution are then
            trained. Defaults to None, decided for spatial bias and for each plugin by name: True
            if ``init_cfg`` names a local file that has it, else False, because what is added to
            plain weights is new.
        conv_cfg (dict, optional): Config of the convolutions. Defaults to None, Conv2d.
        norm_cfg (dict): Config of the norm layers. Defaults to ``dict(type='BN')``.
        norm_eval (bool): Keep batch norms in eval mode, e.g. for small batches. Defaults to
            False.
        dcn (dict, optional): Config of a deformable convolution that replaces a bottleneck's
            3x3, as in mmdet. Defaults to None.
        stage_with_dcn (Sequence[bool]): Stages that use ``dcn``. Defaults to none.
        plugins (Sequence[dict], optional): Plugins as in mmdet:
            ``dict(cfg=dict(type=...), stages=(...), position='after_conv3')``. A plugin after
            spatial bias sees the widened features. Two options are added to mmdet's: the
            position 'after_block', after the block's last ReLU, and ``blocks=(1, 3)``, which
            blocks of each stage get the plugin, from 0 (default: all). Added to plain weights,
            the compared blocks and mmcv's start as the identity, see
            :mod:`mmsb.models.identity`. Defaults to None.
        with_cp (bool): Use gradient checkpointing: less memory, slower. Defaults to False.
        zero_init_residual (bool): Start every block as the identity; the paper does not.
            Defaults to False.
        drop_path_rate (float): Stochastic depth rate of the last block; it rises linearly
            from 0 over the blocks. Defaults to 0.
        kernels (bool): On a GPU with Triton, use fused kernels for batch norms (with the
            operations after them) and spatial bias, in training too; weights and features are
            then channels last in memory. If False, or with MMSB_KERNELS=off in the environment,
            use PyTorch's operators, which second derivatives need. Defaults to True.
        init_cfg (dict or list, optional): mmengine initialization config. Of type 'Pretrained', it
            may also have ``allow_partial`` (see :func:`mmsb.models.pretrained.load_pretrained`).
            Defaults to None, as in the authors' code: Kaiming (fan out) for convolutions, weight 1
            for norms.
        pretrained (str, optional): A checkpoint to load, which mmseg's models pass on to their
            backbone; short for ``init_cfg=dict(type='Pretrained', checkpoint=...)``. Defaults to
            None.

    Raises:
        UserError: An argument or a key of ``spatial_bias`` is invalid; a plugin names a
            position or a block that does not exist; ``groups`` or ``base_width`` is given with
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
        kernels: bool = True,
        contract_dilation: bool = False,
        multi_grid: Sequence[int] | None = None,
        pretrained: str | None = None,
    ):
        if pretrained is not None:
            if init_cfg is not None:
                raise UserError(
                    f'init_cfg and pretrained={pretrained!r} are both set; give one (for init_cfg, '
                    "set model.pretrained=None where a config of mmseg's sets it)"
                )
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        check_choice('depth', depth, self.arch_settings)
        check_choice('style', style, ('pytorch', 'caffe'))
        block, stage_blocks = self.arch_settings[depth]
        check_choice('num_stages', num_stages, range(1, len(stage_blocks) + 1))
        for name, value in (('strides', strides), ('dilations', dilations)):
            check_length(name, value, num_stages)
        if not out_indices or not all(0 <= i < num_stages for i in out_indices):
            raise UserError(f'out_indices is {out_indices}; give stages from 0 to {num_stages - 1}')
        if dcn is not None and block is BasicBlock:
            raise UserError(f'dcn needs a bottleneck (depth 50, 101 or 152), not depth {depth}')
        block_dilations = dilations_of_blocks(
            dilations, stage_blocks[:num_stages], contract_dilation, multi_grid
        )
        if dcn is not None:
            check_length('stage_with_dcn', stage_with_dcn, num_stages)
            importlib.import_module('mmcv.ops')  # registers the deformable convolutions

        self.kernels = kernels
        self.depth = depth
        self.style = style
        self.strides = tuple(strides)
        self.dilations = tuple(dilations)
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

        stage_bias = spatial_bias_of_stages(
            spatial_bias, self.spatial_bias_defaults, num_stages, norm_cfg, block.choices
        )
        block_plugins = plugins_of_blocks(plugins, self.stage_blocks)
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
                        block_dilations[i][j],
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
                        kernels=kernels,
                        groups=groups,
                        base_width=base_width,
                    )
                )
                width = channels * block.expansion
            self.add_module(f'layer{i + 1}', Stage(*blocks))
            self.res_layers.append(f'layer{i + 1}')
        self.feat_dim = width
        # Decided now, not on loading: the runner wraps the model in DDP before that, and DDP does
        # not notice parameters that are frozen or unfrozen later.
        self.frozen_parts = {part for block in self._blocks(self) for part in block.added_parts}
        if freeze_spatial_bias is None:
            self.frozen_parts = parts_in_checkpoint(init_cfg, self.frozen_parts)
        elif not freeze_spatial_bias:
            self.frozen_parts = set()
        self._freeze_stages()

    def _make_stem(self, in_channels: int, channels: int) -> None:
        def conv(*args, **kwargs):
            return build_conv_layer(self.conv_cfg, *args, bias=False, **kwargs)

        def norm(channels):
            return build_norm_layer(self.norm_cfg, channels)[1]

        if self.deep_stem:  # named as in mmdet and mmseg: stem.0, stem.1, stem.3, ...
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
        """Apply ``init_cfg``, then ``zero_init_residual``, as the toolboxes do."""
        cfgs = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg
        files = [cfg for cfg in cfgs if cfg['type'] in ('Pretrained', PretrainedInit)]
        pretrained = isinstance(self.init_cfg, dict) and bool(files)
        if not pretrained:
            init_cfg = self.init_cfg
            self.init_cfg = [cfg for cfg in cfgs if cfg not in files]
            super().init_weights()
            self.init_cfg = init_cfg
        for cfg in files:  # mmengine would load any part of any file
            load_pretrained(self, **{key: cfg[key] for key in cfg if key != 'type'})
        if self.zero_init_residual and not pretrained:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    nn.init.zeros_(module.last_norm.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features.

        Args:
            x: Images, (B, in_channels, H, W); any H, W and B.

        Returns:
            Features of the stages in ``out_indices``, each (B, C, H / s, W / s) with C =
            base_channels * 2^i * expansion and s = 4, 8, 16, 32 for stage i = 0 to 3.
        """
        x = self._forward_stem(x)
        if self.stem_pool:
            x = self.maxpool(x)
        outs = []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _forward_stem(self, x: Tensor) -> Tensor:
        """Compute the features before the stem's pooling layer."""
        if self.deep_stem:
            return self.stem(x)
        x = self.conv1(x)
        kernels = self.kernels and not isinstance(x, Proxy)  # torch.fx traces operators
        normalised = dispatch.norm_relu(x, self.norm1, self.relu) if kernels else None
        return self.relu(self.norm1(x)) if normalised is None else normalised

    @property
    def freeze_spatial_bias(self) -> bool:
        """Whether ``frozen_stages`` and ``norm_eval`` apply to spatial bias."""
        return 'spatial_bias' in self.frozen_parts

    @staticmethod
    def _blocks(module: nn.Module) -> Iterator[ResidualBlock]:
        return (part for part in module.modules() if isinstance(part, ResidualBlock))

    def _freezable(self, module: nn.Module) -> Iterator[nn.Module]:
        """Yield the submodules that freezing applies to: all, except added layers that learn."""
        learning = set()
        for block in self._blocks(module):
            for part in block.added_parts:
                if part not in self.frozen_parts:
                    learning.update(block.layers_of(part))
        return (part for part in module.modules() if part not in learning)

    def _freeze_stages(self) -> None:
        frozen = []
        if self.frozen_stages >= 0:
            frozen += [self.stem] if self.deep_stem else [self.conv1, self.norm1]
        frozen += [getattr(self, name) for name in self.res_layers[: max(self.frozen_stages, 0)]]
        for part in itertools.chain(*map(self._freezable, frozen)):
            part.training = False
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)
        for i, name in enumerate(self.res_layers):
            held = self.norm_eval or i < self.frozen_stages
            for block in getattr(self, name):
                block.features_norm_held = held and not self.freeze_spatial_bias

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        weight = next(self.parameters())
        if self.kernels and dispatch.kernels_on(weight.device):
            # as the kernels' features; otherwise every convolution would convert its weights
            for parameter in self.parameters():
                if parameter.ndim == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def train(self, mode: bool = True):
        """Set the mode; frozen stages and, with ``norm_eval``, batch norms stay in eval mode."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for part in self._freezable(self):
                if isinstance(part, _BatchNorm):
                    part.eval()
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # Every way of loading (init_cfg, load_from, load_state_dict) calls this method before the
        # children's: it grows plain ResNet weights and refuses those of another architecture.
        report = grow_state_dict(self, state_dict, prefix)
        report.log(self)
        self._log_what_learns(report.loaded)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _log_what_learns(self, loaded: list[str]) -> None:
        """Log in one line if added layers keep training where other weights are frozen."""
        learn = [
            {
                part
                for block in self._blocks(getattr(self, name))
                for part in block.added_parts
                if part not in self.frozen_parts
            }
            for name in self.res_layers
        ]
        parts = set().union(*learn)
        trained = {part for part in parts if any(f'.{part}.' in key for key in loaded)}
        frozen = max(self.frozen_stages, 0)
        within = set().union(*learn[:frozen])
        if not (within or (trained and self.norm_eval)):
            return
        names = ', '.join(sorted(within or trained))
        line = f'added layers keep training under frozen_stages and norm_eval: {names}'
        if trained:
            line += ', although the loaded weights include them'
        ways = ['freeze_spatial_bias=True'] if trained else []
        if within:
            where = ' and '.join(str(i + 1) for i in range(frozen) if learn[i])
            line += f'; in frozen stage {where} too, which needs its features and gradients'
            if 'spatial_bias' in within:
                line += (
                    ', with spatial bias about 1.3 to 1.5 times the memory of the backbone and '
                    '0.7 to 0.8 of its speed'
                )
                stages = tuple(
                    i >= frozen and any(block.spatial_bias_at for block in getattr(self, name))
                    for i, name in enumerate(self.res_layers)
                )
                ways.append(f'spatial_bias=dict(stages={stages})')
            if within - {'spatial_bias'}:
                ways.append('stages of the plugins that are not frozen')
        line += f'. To avoid it, set {" or ".join(ways)}'
        print_log(f'{type(self).__name__}: {line}', 'current')
