"""Start a backbone from a ResNet's checkpoint: all of it, or an error that says what is missing."""

import logging
import re

from mmengine.logging import MMLogger, print_log
from mmengine.model import BaseModule, update_init_info
from torch import nn

from mmsb.models.finding import find_resnet
from mmsb.models.growing import GrowthReport, grow_state_dict
from mmsb.utils.config_text import recorded_config
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_checkpoint_source

# Settings that change what a ResNet computes but not the names and shapes of its tensors.
_UNSEEN = dict(style='pytorch', strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))


def init_quietly(module: BaseModule) -> None:
    """Initialise a module's weights without mmengine's line per weight; warnings are logged."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        module.init_weights()
    finally:
        logger.setLevel(level)


def load_pretrained(
    backbone: nn.Module,
    checkpoint: str,
    prefix: str | None = None,
    allow_partial: bool = False,
    **kwargs,
) -> None:
    """Load the ResNet in a checkpoint into a backbone, as ``init_cfg`` asks.

    Args:
        backbone: The SB-ResNet.
        checkpoint: A file, or an address such as ``torchvision://resnet50``.
        prefix: As in :func:`mmsb.models.finding.find_resnet`. Defaults to None.
        allow_partial: Load what there is. Defaults to False: the whole backbone must be there,
            apart from spatial bias and plugins.
        **kwargs: Further arguments of mmengine's initialization, which do not matter here.

    Raises:
        UserError: The file cannot be read, holds no ResNet, another one, or not all of it.
    """
    print_log(f'load {prefix or "model"} from: {checkpoint}', 'current')
    content = load_checkpoint_source(checkpoint)
    try:
        found = find_resnet(content, prefix)
        state = found.network
        if found.naming == 'detectron2' and backbone.style == 'pytorch':
            print_log(
                f"{checkpoint}: Detectron2's networks with STRIDE_IN_1X1=True, such as its MSRA "
                "ones, need style='caffe'; the names do not show it",
                'current',
                logging.WARNING,
            )
        check_settings(backbone, recorded_settings(content, checkpoint), allow_partial)
        check_complete(grow_state_dict(backbone, dict(state)), allow_partial)
    except UserError as error:
        raise UserError(f'checkpoint {checkpoint}: {error}') from error
    backbone.load_state_dict(state, strict=False)
    if hasattr(backbone, '_params_init_info'):  # mmengine's record of who set which weight
        update_init_info(backbone, f'Pretrained: load from {checkpoint}')


def check_complete(report: GrowthReport, allow_partial: bool) -> None:
    """Raise an error if weights lack a part of the backbone, or belong to another network.

    Args:
        report: What growing them found.
        allow_partial: Accept them.

    Raises:
        UserError: They do, and ``allow_partial`` is not set.
    """
    lacking = [key for key in report.missing if key not in report.optional]
    foreign = [key for key in report.unexpected if key not in report.behind]
    if allow_partial or not (lacking or foreign):
        return
    parts = []
    for keys, what in ((lacking, 'lacks'), (foreign, 'has, beyond it,')):
        if keys:
            more = ', ...' if len(keys) > 3 else ''
            parts.append(f'{what} {len(keys)} tensors ({", ".join(keys[:3])}{more})')
    needed = (*report.loaded, *report.grown, *report.missing)
    total = sum(not key.endswith('num_batches_tracked') for key in needed)
    raise UserError(
        f'its ResNet is not the network of this backbone: of {total} tensors it '
        f'{" and ".join(parts)}; give the weights of the same network, or, to start without '
        'these, --allow-partial (allow_partial=True in init_cfg)'
    )


def check_settings(backbone: nn.Module, recorded: dict, allow_partial: bool) -> None:
    """Compare with a backbone what is known of weights' network and cannot be seen in their names.

    Args:
        backbone: A ResNet with the attribute ``style``, e.g. SB-ResNet; others are not checked.
        recorded: From :func:`recorded_settings`.
        allow_partial: Accept weights of the other style.

    Raises:
        UserError: The weights' network has its strides in other layers, and ``allow_partial`` is
            not set. Other strides or dilations, which are often changed on purpose, are logged.
    """
    style = getattr(backbone, 'style', None)
    if not recorded or style is None:
        return
    for name in ('strides', 'dilations'):
        theirs, ours = recorded[name], getattr(backbone, name, None)
        # a backbone may have fewer stages than the network of its weights
        if ours is not None and tuple(theirs)[: len(ours)] != tuple(ours):
            print_log(
                f'the weights are of a ResNet with {name} {tuple(theirs)}, this backbone has '
                f'{tuple(ours)}: its features differ from theirs until it is trained',
                'current',
                logging.WARNING,
            )
    bottlenecks = any(key.endswith('conv3.weight') for key in backbone.state_dict())
    if allow_partial or style == recorded['style'] or not bottlenecks:
        return
    hint = ''
    if recorded['style'] == 'caffe':
        hint = ' (and in the data preprocessor mean, std and channel order of these weights)'
    raise UserError(
        f'its bottlenecks have style {recorded["style"]!r}, this backbone has {style!r}, so the '
        f"features would differ: set style='{recorded['style']}'{hint}"
    )


def recorded_settings(content, checkpoint: str) -> dict:
    """Return the settings of a checkpoint's ResNet that its tensors do not show.

    They are known for some addresses and file names, and if the file has mmengine's text of its
    config, which is read as data and never run.

    Args:
        content: What the file holds.
        checkpoint: Its path or address.

    Returns:
        ``style``, ``strides`` and ``dilations``; empty if they are not known.
    """
    name = checkpoint.rpartition('/')[2]
    if re.match(r'resnet\d+_(caffe|msra)', name):
        return dict(_UNSEEN, style='caffe')
    address = re.match(r'(torchvision|https?)://', checkpoint)
    if address and (address[1] == 'torchvision' or 'download.pytorch.org/models/' in checkpoint):
        return dict(_UNSEEN)
    meta = content.get('meta') if isinstance(content, dict) else None
    model = recorded_config(meta).get('model')
    settings = model.get('backbone') if isinstance(model, dict) else None
    if not isinstance(settings, dict) or 'ResNe' not in str(settings.get('type')):
        return {}
    try:
        found = {key: type(value)(settings.get(key, value)) for key, value in _UNSEEN.items()}
    except TypeError:
        return {}
    return found if found['style'] in ('pytorch', 'caffe') else {}
