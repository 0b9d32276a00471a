"""Validation of the backbones' arguments, and the settings of each stage and block."""

import difflib
from collections.abc import Mapping, Sequence

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


def check_choice(name: str, value, choices: Sequence) -> None:
    """Raise a UserError unless the argument's value is among the choices."""
    if value not in choices:
        raise UserError(f'{name} is {value!r}; give one of {", ".join(map(repr, choices))}')


def check_length(name: str, value: Sequence, num_stages: int) -> None:
    """Raise a UserError unless the argument has one value per stage."""
    if len(value) != num_stages:
        raise UserError(f'{name} is {value}; give {num_stages} values, one per stage')


def spatial_bias_of_stages(
    spatial_bias: dict | None,
    defaults: dict,
    num_stages: int,
    norm_cfg: dict,
    choices: Mapping[str, Sequence],
) -> list[dict | None]:
    """Resolve the spatial bias settings of each stage.

    Args:
        spatial_bias: The user's settings; keys left out take their default. None disables it.
        defaults: The network's default settings, with every valid key.
        num_stages: Number of stages.
        norm_cfg: Config of the network's norms.
        choices: Allowed values of each key that takes one of a fixed set.

    Returns:
        One dict per stage, or None for a stage without spatial bias.

    Raises:
        UserError: A key or value is invalid, or the norm cannot be widened.
    """
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
    check_length("spatial_bias['stages']", stages, num_stages)
    check_length("spatial_bias['size']", sizes, num_stages)
    for key, words in choices.items():
        check_choice(f'spatial_bias[{key!r}]', settings[key], words)
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


def dilations_of_blocks(
    dilations: Sequence[int],
    stage_blocks: Sequence[int],
    contract_dilation: bool,
    multi_grid: Sequence[int] | None,
) -> list[list[int]]:
    """Return the dilation of each block of each stage, with mmseg's meaning of the arguments."""
    of_blocks = [
        [dilation] * count for dilation, count in zip(dilations, stage_blocks, strict=True)
    ]
    if contract_dilation:
        for of_stage in of_blocks:
            of_stage[0] = max(of_stage[0] // 2, 1)
    if multi_grid is not None:
        if len(multi_grid) < stage_blocks[-1]:
            raise UserError(
                f'multi_grid is {tuple(multi_grid)}; give {stage_blocks[-1]} values, one per block '
                'of the last stage'
            )
        of_blocks[-1] = list(multi_grid)  # any more are for deeper networks
    return of_blocks


def plugins_of_blocks(
    plugins: Sequence[dict] | None, stage_blocks: Sequence[int]
) -> list[list[list[dict]]]:
    """Return the plugins of each block of each stage."""
    of_blocks = [[[] for _ in range(count)] for count in stage_blocks]
    for plugin in plugins or ():
        for key in plugin:
            check_choice('a key of a plugin', key, ('cfg', 'stages', 'position', 'blocks'))
        stages = plugin.get('stages')
        if stages is None:
            stages = [True] * len(stage_blocks)
        check_length('the stages of a plugin', stages, len(stage_blocks))
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
