"""SB-ResNet in timm: ``timm.create_model('sb_resnet50')`` after ``import mmsb``.

timm is optional. It is imported inside functions, which run only if it is installed.
"""

import logging
from collections.abc import Sequence
from types import ModuleType

from mmengine.logging import print_log
from torch import Tensor, nn
from torch.fx import GraphModule

from mmsb.utils.errors import UserError

from .residual_block import BasicBlock, ResidualBlock, scriptable
from .sb_resnet import SBResNet

# (strides, dilations) of the stages
_OUTPUT_STRIDES = {
    32: ((1, 2, 2, 2), (1, 1, 1, 1)),
    16: ((1, 2, 2, 1), (1, 1, 1, 2)),
    8: ((1, 2, 1, 1), (1, 1, 2, 4)),
}


class SBResNetTimm(SBResNet):
    """SB-ResNet with a classifier and the methods of timm's ``ResNet``.

    ``timm.create_model`` builds it: ``sb_resnet18``, ``34``, ``50``, ``101``, ``152``,
    ``sb_resnext50_32x4d`` and ``sb_wide_resnet50_2``. Parameters are named as in timm, so weights
    of timm's ResNet of the same name are grown when loaded: ``pretrained=True,
    pretrained_cfg_overlay=dict(file=...)``, or ``checkpoint_path=...`` without ``features_only``.

    Args:
        num_classes (int): Classes; 0 for no classifier. Defaults to 1000.
        in_chans (int): Channels of the image. Defaults to 3.
        output_stride (int): Stride of the last features, 8, 16 or 32; below 32 with dilations as
            in timm. Defaults to 32.
        global_pool (str): timm's pooling before the classifier: 'avg', 'max', 'avgmax',
            'catavgmax' or '' (none; needs ``num_classes=0``). Defaults to 'avg'.
        drop_rate (float): Dropout before the classifier. Defaults to 0.
        **kwargs: Arguments of :class:`SBResNet`, such as ``depth``, ``spatial_bias``,
            ``frozen_stages`` and ``drop_path_rate``, except those that the arguments above set.
            ``timm.create_model`` drops every argument that is None: for a plain ResNet, give
            ``spatial_bias=dict(num_channels=0)``.

    Raises:
        UserError: ``output_stride`` or an argument of SBResNet is invalid.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        output_stride: int = 32,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        **kwargs,
    ):
        if output_stride not in _OUTPUT_STRIDES:
            raise UserError(f'output_stride is {output_stride!r}; give one of 8, 16, 32')
        strides, dilations = _OUTPUT_STRIDES[output_stride]
        super().__init__(
            in_channels=in_chans,
            strides=strides,
            dilations=dilations,
            contract_dilation=True,
            out_indices=(3,),
            **kwargs,
        )
        for name, dilation in zip(self.res_layers, dilations, strict=True):
            for block in getattr(self, name):
                if isinstance(block, BasicBlock):  # mmdet and mmseg dilate its first layer only
                    block.conv2.dilation = block.conv2.padding = (dilation, dilation)

        stem = self.stem[6] if self.deep_stem else self.conv1
        self.feature_info = [
            dict(
                num_chs=stem.out_channels, reduction=2, module='stem' if self.deep_stem else 'relu'
            )
        ]
        for i, name in enumerate(self.res_layers):
            reduction = min(4 * 2**i, output_stride)
            num_chs = self.feat_dim // 2 ** (3 - i)
            self.feature_info.append(dict(num_chs=num_chs, reduction=reduction, module=name))

        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = self.feat_dim
        self.drop_rate = drop_rate
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)
        if not next(self.parameters()).is_meta:  # there, mmengine fails to take means
            self.init_weights()

    def _dump_init_info(self) -> None:
        """Do nothing, where mmengine prints a line per tensor."""

    def __prepare_scriptable__(self) -> GraphModule:
        return scriptable(self)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute the features of the stem and of the stages.

        Args:
            x: Images, (B, in_chans, H, W).
            indices: Which of the five to return, 0 is the stem; a number n for the last n.
                Defaults to None, all.
            norm: Ignored, as in timm's ResNet.
            stop_early: Do not run the stages after the last of ``indices``. Defaults to False.
            output_fmt: Must be 'NCHW'.
            intermediates_only: Return the list alone. Defaults to False.

        Returns:
            The last features and the list of those in ``indices``, each (B, C, H / s, W / s), with
            C and s in ``feature_info``.

        Raises:
            UserError: ``output_fmt`` is not 'NCHW', or there are no such features.
        """
        if output_fmt != 'NCHW':
            raise UserError(f"output_fmt is {output_fmt!r}; a ResNet has 'NCHW' only")
        wanted = self._feature_indices(indices)
        x = self._forward_stem(x)
        intermediates = [x] if 0 in wanted else []
        x = self.maxpool(x)
        for i, name in enumerate(self.res_layers, 1):
            if stop_early and i > max(wanted):
                break
            x = getattr(self, name)(x)
            if i in wanted:
                intermediates.append(x)
        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove the stages after the last of ``indices``, and the head.

        Args:
            indices: As in :meth:`forward_intermediates`. Defaults to 1, the last features.
            prune_norm: Ignored, as in timm's ResNet.
            prune_head: Remove the classifier and its pooling. Defaults to True.

        Returns:
            ``indices`` counted from 0.

        Raises:
            UserError: There are no such features.
        """
        wanted = self._feature_indices(indices)
        for name in self.res_layers[max(wanted) :]:
            setattr(self, name, nn.Sequential())
        if prune_head:
            self.reset_classifier(0, '')
        return wanted

    def _feature_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.feature_info)
        if indices is None:
            indices = range(count)
        elif isinstance(indices, int):
            indices = range(-indices, 0)
        if not indices or not all(-count <= i < count for i in indices):
            raise UserError(
                f'feature indices are {indices}; give some of 0 to {count - 1}, or a number from 1 '
                f'to {count} for the last ones'
            )
        return [i % count for i in indices]

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images, (B, in_chans, H, W), to the last features, (B, num_features, h, w)."""
        return super().forward(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the last features to logits, (B, num_classes).

        Args:
            x: The last features, (B, num_features, h, w).
            pre_logits: Return the input of the classifier instead, (B, num_features). Defaults to
                False.
        """
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map images, (B, in_chans, H, W), to logits, (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self, name_only: bool = False) -> str | nn.Module:
        """Return the classifier, or its name."""
        return 'fc' if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str = 'avg') -> None:
        """Make a new classifier.

        Args:
            num_classes: Its classes; 0 for none.
            global_pool: As in the class. Defaults to 'avg'.
        """
        from timm.layers import create_classifier

        self.num_classes = num_classes
        self.global_pool, self.fc = create_classifier(
            self.num_features, num_classes, pool_type=global_pool
        )

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return patterns that group parameters by depth, e.g. for layer-wise learning rates.

        Args:
            coarse: Group by stage instead of by block. Defaults to False.
        """
        return dict(
            stem=r'^(?:stem|conv1|bn1|gn1|in1)\.',
            blocks=r'^layer(\d+)' if coarse else r'^layer(\d+)\.(\d+)',
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turn gradient checkpointing of the blocks on or off: less memory, slower."""
        for part in self.modules():
            if isinstance(part, ResidualBlock):
                part.with_cp = enable


class SBResNetFeatures(nn.Module):
    """SB-ResNet for ``timm.create_model(..., features_only=True)``.

    It keeps the whole network, so that ``train()`` leaves frozen stages in eval mode and loading
    grows plain weights. timm's own ``feature_cls='list'`` takes networks apart and does neither.

    Args:
        model (SBResNetTimm): The network. Its head and unused stages are removed.
        out_indices (int or Sequence[int]): Features to return, as in
            :meth:`SBResNetTimm.forward_intermediates`. Defaults to all.
    """

    def __init__(self, model: SBResNetTimm, out_indices: int | Sequence[int] = (0, 1, 2, 3, 4)):
        from timm.models import FeatureInfo

        super().__init__()
        self.out_indices = model.prune_intermediate_layers(out_indices)
        self.feature_info = FeatureInfo(model.feature_info, self.out_indices)
        self.model = model

    def __prepare_scriptable__(self) -> GraphModule:
        return scriptable(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images, (B, in_chans, H, W), to features, each (B, C, H / s, W / s)."""
        return self.model.forward_intermediates(x, self.out_indices, intermediates_only=True)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turn gradient checkpointing of the blocks on or off: less memory, slower."""
        self.model.set_grad_checkpointing(enable)


def _create(variant: str, pretrained: bool, feature_cfg: dict | None = None, **kwargs) -> nn.Module:
    from timm.models import build_model_with_cfg

    if feature_cfg is None:
        feature_cfg = dict(feature_cls=SBResNetFeatures)
    return build_model_with_cfg(
        SBResNetTimm, variant, pretrained, feature_cfg=feature_cfg, **kwargs
    )


def sb_resnet18(pretrained: bool = False, **kwargs) -> nn.Module:
    """SB-ResNet-18."""
    return _create('sb_resnet18', pretrained, depth=18, **kwargs)


def sb_resnet34(pretrained: bool = False, **kwargs) -> nn.Module:
    """SB-ResNet-34."""
    return _create('sb_resnet34', pretrained, depth=34, **kwargs)


def sb_resnet50(pretrained: bool = False, **kwargs) -> nn.Module:
    """SB-ResNet-50."""
    return _create('sb_resnet50', pretrained, depth=50, **kwargs)


def sb_resnet101(pretrained: bool = False, **kwargs) -> nn.Module:
    """SB-ResNet-101."""
    return _create('sb_resnet101', pretrained, depth=101, **kwargs)


def sb_resnet152(pretrained: bool = False, **kwargs) -> nn.Module:
    """SB-ResNet-152."""
    return _create('sb_resnet152', pretrained, depth=152, **kwargs)


def sb_resnext50_32x4d(pretrained: bool = False, **kwargs) -> nn.Module:
    """SB-ResNeXt-50 32x4d."""
    kwargs = dict(depth=50, groups=32, base_width=4) | kwargs
    return _create('sb_resnext50_32x4d', pretrained, **kwargs)


def sb_wide_resnet50_2(pretrained: bool = False, **kwargs) -> nn.Module:
    """Wide SB-ResNet-50-2."""
    return _create('sb_wide_resnet50_2', pretrained, **dict(depth=50, base_width=128) | kwargs)


_MODELS = (
    sb_resnet18, sb_resnet34, sb_resnet50, sb_resnet101, sb_resnet152, sb_resnext50_32x4d,
    sb_wide_resnet50_2,
)  # fmt: skip

# timm's register_model looks for this name in the module of each function.
default_cfgs = {
    model.__name__: dict(
        url='',
        num_classes=1000,
        input_size=(3, 224, 224),
        pool_size=(7, 7),
        crop_pct=0.875,
        interpolation='bilinear',
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        first_conv='conv1',
        classifier='fc',
        paper_ids='arXiv:2302.12505',
    )
    for model in _MODELS
}


def register(timm_models: ModuleType) -> None:
    """Enter SB-ResNets into timm's registry.

    If timm is too old for them, one line of the log says so.

    Args:
        timm_models: The module ``timm.models``.
    """
    if not hasattr(timm_models, 'build_model_with_cfg'):
        print_log(
            'this timm is too old for sb_resnet50 and the like, which need timm 0.9 or newer: to '
            'create them, pip install -U timm',
            'current',
            logging.WARNING,
        )
        return
    for model in _MODELS:
        timm_models.register_model(model)
