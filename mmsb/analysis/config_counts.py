"""Parameters and multiply-accumulates of a config's model or of its backbone alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmsb.analysis.counting import Counts, count
from mmsb.engine.config import input_shape, read_model_config
from mmsb.toolboxes import toolbox_of
from mmsb.utils.errors import UserError


@dataclass(frozen=True)
class ConfigCounts:
    """Parameters and operations of a config's model.

    Attributes:
        counts: Parameters and operations, for one image.
        shape: Height and width of the image.
        padded: Height and width after the data preprocessor's padding.
        proposals: Number of boxes used to count the second stage of a detector; None without one.
    """

    counts: Counts
    shape: tuple[int, int]
    padded: tuple[int, int]
    proposals: int | None = None


def count_config(
    path: str | os.PathLike,
    shape: Sequence[int] | None = None,
    device: str = 'meta',
    backbone: bool = False,
    cfg_options: dict | None = None,
) -> ConfigCounts:
    """Build a config's model without its weights and count it at inference.

    A two-stage detector's second stage is counted with as many boxes as its test settings
    allow, so the result does not depend on the weights or on an image.

    Args:
        path: The config file.
        shape: Height and width of the image; None (default) takes the config's test size.
        device: Device to run it on. On 'meta', the default, nothing is computed.
        backbone: Whether to count the backbone alone. Defaults to False.
        cfg_options: Config settings to override. Defaults to None.

    Returns:
        The counts, with the image size and number of proposals they hold for.

    Raises:
        UserError: The config or its toolbox is missing, or the model cannot run on this input.

    Example:
        >>> path = 'configs/faster_rcnn_sb_r50_fpn_1x_coco.py'
        >>> count_config(path, (224, 224), backbone=True).counts.params
        23937620
    """
    cfg = read_model_config(path, cfg_options)
    _check_device(device)
    shape = tuple(shape or input_shape(cfg))
    if len(shape) != 2 or min(shape) < 1:
        raise UserError(f'the shape is {shape}; give height and width in pixels')
    divisor = (cfg.model.get('data_preprocessor') or {}).get('pad_size_divisor', 1)
    padded = tuple(-(-side // divisor) * divisor for side in shape)

    part = cfg.model.backbone if backbone else cfg.model
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        # Build on the CPU, then move: modules that read tensor values cannot be built on meta.
        model = MODELS.build(part).to(device)
    proposals = None if backbone else _fix_proposals(model)
    image = torch.empty(1, 3, *padded, device=device)
    forward = None if backbone else partial(toolbox_of(cfg).forward, model)
    try:
        counts = count(model, image, forward=forward)
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        hint = '; if it needs real numbers, --device cpu' if str(device) == 'meta' else ''
        line = str(error).strip().split('\n')[0]
        raise UserError(
            f'the model cannot run on 3 x {padded[0]} x {padded[1]} on {device} ({line}){hint}'
        ) from error
    return ConfigCounts(counts, shape, padded, proposals)


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UserError(f'there is no device {device!r}; give meta, cpu or cuda') from error
    if kind == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'device {device}: there is no GPU; on meta nothing is computed')


def _fix_proposals(model: nn.Module) -> int | None:
    """Feed a detector's second stage boxes and features of the right shape, all zero.

    The number of boxes and their pyramid levels depend on the values, but the cost per box does
    not. Neither convention counts RoIAlign. Returns the number of boxes, None if single-stage.
    """
    if not (hasattr(model, 'rpn_head') and hasattr(model, 'roi_head')):
        return None
    number = model.test_cfg['rpn']['max_per_img']

    def boxes(cls_scores: list[Tensor], *_, **__) -> list[InstanceData]:
        return [InstanceData(bboxes=cls_scores[0].new_zeros(number, 4))]

    model.rpn_head.predict_by_feat = boxes
    for module in model.roi_head.modules():
        if hasattr(module, 'roi_layers'):
            module.forward = _box_features(module)
    return number


def _box_features(extractor: nn.Module) -> Callable:
    size = _pair(extractor.roi_layers[0].output_size)

    def forward(feats: Sequence[Tensor], rois: Tensor, *_, **__) -> Tensor:
        return feats[0].new_zeros(len(rois), extractor.out_channels, *size)

    return forward
