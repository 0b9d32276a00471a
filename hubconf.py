"""Entry points of ``torch.hub``: the backbones of mmsb, from a clone, without an installation.

``torch.hub.load(PATH, 'sb_resnet50', source='local')`` makes SB-ResNet-50. All entry points take

- ``pretrained`` (str, optional): A file or address of ResNet weights, with or without spatial bias;
  plain ones grow. Defaults to None, random weights.
- the other arguments of :class:`mmsb.models.SBResNet`, e.g. ``out_indices=(3,)``.

They return the features of four stages; ``spatial_bias=None`` makes the plain ResNet.
"""

dependencies = ['torch', 'torchvision', 'mmengine', 'mmcv']


def _make(depth, pretrained, arguments):
    from mmsb.models import SBResNet
    from mmsb.models.pretrained import init_quietly
    from mmsb.utils.errors import UserError

    if isinstance(pretrained, bool):
        raise UserError(f'pretrained={pretrained}: no weights are published, give a file or None')
    backbone = SBResNet(depth, pretrained=pretrained, **arguments)
    if pretrained is None:
        init_quietly(backbone)
    else:
        backbone.init_weights()  # says what was loaded and grown
    return backbone


def sb_resnet18(pretrained=None, **kwargs):
    """SB-ResNet-18; see hubconf.py for the arguments."""
    return _make(18, pretrained, kwargs)


def sb_resnet34(pretrained=None, **kwargs):
    """SB-ResNet-34; see hubconf.py for the arguments."""
    return _make(34, pretrained, kwargs)


def sb_resnet50(pretrained=None, **kwargs):
    """SB-ResNet-50; see hubconf.py for the arguments."""
    return _make(50, pretrained, kwargs)


def sb_resnet101(pretrained=None, **kwargs):
    """SB-ResNet-101; see hubconf.py for the arguments."""
    return _make(101, pretrained, kwargs)


def sb_resnet152(pretrained=None, **kwargs):
    """SB-ResNet-152; see hubconf.py for the arguments."""
    return _make(152, pretrained, kwargs)
