"""The paper's networks, row by row of its Tables 1-10, as configs of this package's backbones."""

# The five places for NL and BAT: after blocks 2 and 4 of stage 2, and 2, 4 and 6 of stage 3.
_FIVE_BLOCKS = (((False, True, False, False), (1, 3)), ((False, False, True, False), (1, 3, 5)))


def _stages(count: int, with_bias: tuple[int, ...]) -> tuple[bool, ...]:
    """Return one flag per stage: of 4 stages, (1, 3) gives (True, False, True, False)."""
    return tuple(i in with_bias for i in range(1, count + 1))


def _cifar(depth: int, with_bias: tuple[int, ...] = (1, 2), **bias) -> dict:
    bias = dict(stages=_stages(3, with_bias), **bias) if with_bias else None
    backbone = dict(type='SBResNet_CIFAR', depth=depth, spatial_bias=bias)
    return dict(backbone_cfg=backbone, num_classes=100, input_size=(32, 32))


def _imagenet(with_bias: tuple[int, ...] = (), plugins=None, kind='SBResNet', **bias) -> dict:
    bias = dict(stages=_stages(4, with_bias), **bias) if with_bias else None
    backbone = dict(type=kind, depth=50, spatial_bias=bias, plugins=plugins)
    return dict(backbone_cfg=backbone, num_classes=1000, input_size=(224, 224))


def _after_conv3(stages=(True, True, True, True), **cfg) -> list[dict]:
    return [dict(cfg=cfg, stages=stages, position='after_conv3')]


def _after_blocks(**cfg) -> list[dict]:
    return [
        dict(cfg=cfg, stages=stages, blocks=blocks, position='after_block')
        for stages, blocks in _FIVE_BLOCKS
    ]


def _gather_excite() -> list[dict]:
    """Return gather-excite plugins whose extent is the whole map, which differs per stage."""
    return [
        plugin
        for stage, extent in enumerate((56, 28, 14, 7), 1)
        for plugin in _after_conv3(_stages(4, (stage,)), type='GatherExcite', extent=extent)
    ]


def paper_networks() -> dict[tuple[str, str], dict]:
    """Return the networks of the paper's Tables 1-10, and the alternative readings of its rows.

    Returns:
        (table, row) -> ``backbone_cfg`` (dict), the backbone's config; ``num_classes`` (int), for
        the linear head after global pooling; ``input_size`` (tuple[int, int]), the image size for
        which the paper counts FLOPs. Table and row have the names in ``tests/data/tables.csv``.

    Example:
        >>> from mmsb.studies.paper.networks import paper_networks
        >>> paper_networks()['T6', 'R50 SB (1, 2, 3)']['backbone_cfg']['type']
        'SBResNet'
    """
    s12, s23, s123, s1234 = (1, 2), (2, 3), (1, 2, 3), (1, 2, 3, 4)
    rows = {}
    for depth in (38, 65, 110):
        for stages in ((), (1,), s12, s123):
            rows['T1', f'R{depth} s{stages}'] = _cifar(depth, stages)
    for stages in (s12, s123):
        rows['T2', f'R65 conv1 {stages}'] = _cifar(65, stages, position='conv1')
    for size in (6, 10, 14, 16):
        rows['T3', f'R65 SB_{size} s12'] = _cifar(65, size=size)
    for num_channels in range(7):
        rows['T4', f'R65 bias-{num_channels} s12'] = _cifar(65, num_channels=num_channels)
    rows['T5', 'Add b=1 broadcast'] = _cifar(65, num_channels=1, fusion='add')
    rows['T5', 'Maxpool'] = _cifar(65, pooling='max')
    rows['T5', "Pool only (C'=3, no conv1d)"] = _cifar(65, mixing=False)

    rows['T6', 'R50'] = _imagenet()
    for stages in ((1, 3), s23, s123):
        rows['T6', f'R50 SB {stages}'] = _imagenet(stages)
    for size in (4, 5, 6, 7, 10):
        row = _imagenet(s1234, size=(10, 10, 10, size))
        rows['T6', f'R50 SB s1-4, s4 size {size}'] = row
    for num_channels in range(1, 6):
        row = _imagenet(s23, num_channels=num_channels)
        rows['T7', f'R50 SB s23 bias-{num_channels}'] = row

    se = _after_conv3(type='SqueezeExcitation')
    rows['T8', 'SRM'] = _imagenet(plugins=_after_conv3(type='StyleRecalibration'))
    rows['T8', 'GE-theta'] = _imagenet(plugins=_gather_excite())
    rows['T8', 'SE'] = _imagenet(plugins=se)
    rows['T8', 'SK'] = _imagenet(kind='SBSKNet')
    rows['T8', 'SB-SE'] = _imagenet(s123, se)
    for name, norm in (('none', 'none'), ('sb', 'maps'), ('full', 'all')):
        rows['T8', f'SB-SK cat-BN={name}'] = _imagenet(s123, kind='SBSKNet', norm=norm)

    nl, bat = _after_blocks(type='NonLocalBlock'), _after_blocks(type='BATBlock')
    gc = _after_conv3((False, True, True, True), type='ContextBlock', ratio=1 / 16)
    rows['T9', 'NL'] = _imagenet(plugins=nl)
    rows['T9', 'GC_all c3-c5 r16'] = _imagenet(plugins=gc)
    rows['T9', 'BAT'] = _imagenet(plugins=bat)
    rows['T9', 'SB-NL'] = _imagenet(s123, nl)
    rows['T9', 'SB-GC'] = _imagenet(s123, gc)
    rows['T9', 'SB-BAT'] = _imagenet(s123, bat)
    reduced = _after_blocks(type='NonLocalBlock', size=10)
    rows['T10', 'Reduced NL (t,p,g,z on 10x10)'] = _imagenet(plugins=reduced)
    return rows
