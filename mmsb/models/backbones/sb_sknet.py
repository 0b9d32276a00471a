"""SKNet, with and without spatial bias (arXiv 1903.06586; arXiv 2302.12505, Table 8)."""

import torch
from torch import Tensor

from mmsb.models.layers import SelectiveKernel
from mmsb.registry import register_model
from mmsb.utils.errors import UserError

from .residual_block import ResidualBlock
from .sb_resnet import SBResNet
from .settings import SPATIAL_BIAS

SPATIAL_BIAS_SK = dict(SPATIAL_BIAS, norm='maps')


class SKBottleneck(ResidualBlock):
    """Block of a 1x1 convolution, a selective kernel (which ends in a ReLU) and a 1x1 convolution.

    Args:
        groups (int): Groups of the selective kernel's convolutions. Defaults to 32.
        **kwargs: Arguments of :class:`ResidualBlock`. ``base_width`` has no effect;
            ``spatial_bias`` must also have the key ``norm`` (see :class:`SBSKNet`).
    """

    expansion = 2
    choices = dict(
        ResidualBlock.choices,
        position=('conv2',),  # maps beside conv1 would not fit the selective kernel's groups
        fusion=('concat',),
        norm=('maps', 'all', 'none'),
    )

    def __init__(self, *args, groups: int = 32, spatial_bias: dict | None = None, **kwargs):
        self.maps_norm = 'maps'
        if spatial_bias is not None:
            spatial_bias = dict(spatial_bias)
            self.maps_norm = spatial_bias.pop('norm')
        super().__init__(*args, groups=groups, spatial_bias=spatial_bias, **kwargs)

    def layers(self, channels, stride, dilation, style):
        s1, s2 = (1, stride) if style == 'pytorch' else (stride, 1)
        return [(channels, 1, s1, 1), (channels, 3, s2, dilation), (channels * 2, 1, 1, 1)]

    @staticmethod
    def spatial_bias_layer(position):
        return 2

    def _make_conv(self, cfg, norm_cfg, in_channels, out_channels, kernel_size, stride, dilation):
        if kernel_size == 1:
            shape = (in_channels, out_channels, kernel_size, stride, dilation)
            return super()._make_conv(cfg, norm_cfg, *shape)
        return SelectiveKernel(
            in_channels, stride, dilation, self.groups, conv_cfg=cfg, norm_cfg=norm_cfg
        )

    def _norm_width(self, layer, channels, num_maps):
        if layer != 2:
            return channels
        if num_maps == 0 or self.maps_norm == 'none':
            return 0
        return num_maps if self.maps_norm == 'maps' else channels + num_maps

    @property
    def grows(self):
        return super().grows and self.maps_norm != 'all'

    def norm_before(self, position):
        if position == 'after_conv2' and self.maps_norm != 'all':
            return None  # the selective kernel's output has no norm
        return super().norm_before(position)

    def _forward(self, x):
        y = self.relu(self.normalise(1, self.conv1(x)))
        u = self.plug('after_conv1', y)

        y = self._widen(self.conv2(u), u)
        y = self.plug('after_conv2', y)

        y = self.normalise(3, self.conv3(y))
        y = self.drop_path(self.plug('after_conv3', y))

        y += x if self.downsample is None else self.downsample(x)
        return self.plug('after_block', self.relu(y))

    def _widen(self, y: Tensor, u: Tensor) -> Tensor:
        """Concatenate the maps computed from u to the selective kernel's output y."""
        maps = self.maps(2, u, y)
        if maps is None:
            return y
        if self.maps_norm == 'none':
            return torch.cat([y, maps], dim=1)
        norm = getattr(self, self.norm_names[1])
        if self.maps_norm == 'all':
            return self.relu(norm(torch.cat([y, maps], dim=1)))
        return torch.cat([y, self.relu(norm(maps))], dim=1)


@register_model
class SBSKNet(SBResNet):
    """SKNet with spatial bias (Table 8, SB-SK); ``spatial_bias=None`` is the plain SKNet.

    Spatial bias reads the selective kernel's input; its maps are concatenated to the output.
    SKNet has no norm at this point, and the paper does not mention one. Three variants have the
    27.94 M parameters of the paper. The default here is a norm and ReLU over the maps alone: it
    leaves the selective kernel's path unchanged and normalises spatial bias as in SB-ResNet.

    Args:
        depth (int): 50 or 101. Defaults to 50.
        spatial_bias (dict, optional): Settings as in :class:`SBResNet`, with position 'conv2' and
            fusion 'concat' only. One more key, norm (str), chooses the norm over the maps: 'maps',
            'all' (over maps and features) or 'none'. Defaults to the paper's, norm='maps'.
        groups (int): Groups of the 3x3 convolutions. Defaults to 32.
        stem_channels (int): Channels of the stem. Defaults to 64.
        base_channels (int): Channels of the first stage's 3x3 convolutions. Defaults to 128,
            32 groups of 4.
        **kwargs: Other arguments of :class:`SBResNet`, except ``dcn`` and ``base_width``.

    Raises:
        UserError: As in :class:`SBResNet`; also if ``groups`` does not divide the channels, or if
            ``dcn`` or ``base_width`` is given.

    Example:
        >>> import torch
        >>> from mmsb.models import SBSKNet
        >>> model = SBSKNet().eval()
        >>> tuple(model(torch.rand(1, 3, 64, 96))[-1].shape)
        (1, 2048, 2, 3)
    """

    arch_settings = {50: (SKBottleneck, (3, 4, 6, 3)), 101: (SKBottleneck, (3, 4, 23, 3))}
    spatial_bias_defaults = SPATIAL_BIAS_SK

    def __init__(
        self,
        depth: int = 50,
        spatial_bias: dict | None = SPATIAL_BIAS_SK,
        groups: int = 32,
        stem_channels: int = 64,
        base_channels: int = 128,
        **kwargs,
    ):
        if kwargs.get('dcn') is not None:
            raise UserError(f'{type(self).__name__} has no plain 3x3 convolution for dcn')
        if 'base_width' in kwargs:
            raise UserError(f'{type(self).__name__} takes its width from base_channels alone')
        super().__init__(
            depth,
            spatial_bias,
            stem_channels=stem_channels,
            base_channels=base_channels,
            groups=groups,
            **kwargs,
        )


@register_model
class SKNet(SBSKNet):
    """SKNet-50 32x4d (Table 8, SK): :class:`SBSKNet` without spatial bias.

    Args:
        depth (int): 50 or 101. Defaults to 50.
        spatial_bias (dict, optional): As in :class:`SBSKNet`. Defaults to None.
        **kwargs: Other arguments of :class:`SBSKNet`.
    """

    def __init__(self, depth: int = 50, spatial_bias: dict | None = None, **kwargs):
        super().__init__(depth, spatial_bias, **kwargs)
