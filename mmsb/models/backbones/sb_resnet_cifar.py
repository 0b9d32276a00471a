"""SB-ResNet for 32 x 32 images (arXiv 2302.12505, Tables 1-5)."""

from collections.abc import Sequence

from mmsb.registry import register_model
from mmsb.utils.errors import UserError

from .residual_block import Bottleneck
from .sb_resnet import SBResNet
from .settings import SPATIAL_BIAS

SPATIAL_BIAS_CIFAR = dict(SPATIAL_BIAS, stages=(True, True, False), size=6)


@register_model
class SBResNet_CIFAR(SBResNet):  # named as mmpretrain's ResNet_CIFAR
    """:class:`SBResNet` with a 3x3 stem, no max pooling and three stages of 16, 32, 64 channels.

    These are the bottleneck networks of the paper's Tables 1-5. The default is ResNet-65 with
    spatial bias in the first two stages: 768,060 parameters with a 100-class head.

    Args:
        depth (int): 9 n + 2 for n bottlenecks per stage, n from 1 to 12; the paper uses 38, 65
            and 110. Defaults to 65.
        spatial_bias (dict, optional): Settings as in :class:`SBResNet`, but ``stages`` defaults to
            (True, True, False) and ``size`` to 6. None disables spatial bias.
        base_channels (int): Base channels of the first stage. Defaults to 16.
        num_stages (int): Number of stages, 1 to 3. Defaults to 3.
        strides (Sequence[int]): Stride of each stage. Defaults to (1, 2, 2).
        dilations (Sequence[int]): Dilation of each stage. Defaults to (1, 1, 1).
        out_indices (Sequence[int]): Stages to return, from 0. Defaults to (0, 1, 2).
        **kwargs: Other arguments of :class:`SBResNet`, except ``deep_stem``.

    Raises:
        UserError: As in :class:`SBResNet`; also if ``deep_stem`` is set.

    Example:
        >>> import torch
        >>> from mmsb.models import SBResNet_CIFAR
        >>> model = SBResNet_CIFAR(depth=38).eval()
        >>> for features in model(torch.rand(1, 3, 32, 32)):
        ...     print(tuple(features.shape))
        (1, 64, 32, 32)
        (1, 128, 16, 16)
        (1, 256, 8, 8)
    """

    arch_settings = {9 * n + 2: (Bottleneck, (n, n, n)) for n in range(1, 13)}
    spatial_bias_defaults = SPATIAL_BIAS_CIFAR
    stem_conv = dict(kernel_size=3, stride=1, padding=1)
    stem_pool = False

    def __init__(
        self,
        depth: int = 65,
        spatial_bias: dict | None = SPATIAL_BIAS_CIFAR,
        base_channels: int = 16,
        num_stages: int = 3,
        strides: Sequence[int] = (1, 2, 2),
        dilations: Sequence[int] = (1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2),
        **kwargs,
    ):
        if kwargs.get('deep_stem'):
            raise UserError('SBResNet_CIFAR has a 3x3 stem of one layer: leave deep_stem out')
        super().__init__(
            depth,
            spatial_bias,
            base_channels=base_channels,
            num_stages=num_stages,
            strides=strides,
            dilations=dilations,
            out_indices=out_indices,
            **kwargs,
        )
