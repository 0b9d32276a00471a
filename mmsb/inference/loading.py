"""Models from configs and checkpoints, whole or the backbone alone, outside a runner."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmsb.engine.config import read_model_config
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_checkpoint_file, pretrained_files


def load_model(cfg: Config, checkpoint: str) -> tuple[nn.Module, Sequence[str] | None]:
    """Builds a config's model with all its weights, and none from elsewhere.

    Args:
        cfg: The config, after :func:`mmsb.engine.config.use_weights`.
        checkpoint: A local file.

    Returns:
        The model, in evaluation mode, and the names of its classes where the file has them.

    Raises:
        UserError: The file is missing, damaged or of another model.
    """
    content = load_checkpoint_file(checkpoint)
    state = _weights(content)
    model = MODELS.build(cfg.model)
    wanted = model.state_dict()
    # Compared before loading, which grows a plain ResNet into one with spatial bias.
    wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    wrong += [key for key in state if key not in wanted]
    if wrong:
        raise UserError(
            f'checkpoint {checkpoint} is of another model than the config: {len(wrong)} weights '
            f'differ or are missing, as {wrong[0]}'
        )
    model.load_state_dict(state)
    meta = content.get('meta') or {}
    return revert_sync_batchnorm(model).eval(), (meta.get('dataset_meta') or {}).get('classes')


def load_backbone(
    config: str, checkpoint: str | None = None, cfg_options: dict | None = None, seed: int = 0
) -> tuple[Config, nn.Module]:
    """Builds what a config describes and gives its backbone a checkpoint's weights.

    Args:
        config: A config of any of the three tasks.
        checkpoint: Weights of the whole model, of which the backbone's are taken, or of the
            backbone alone, also with torchvision's ``fc``. Defaults to None: random ones, as the
            config or else the backbone initialises them; pretrained ones are not loaded.
        cfg_options: Settings of the config to override. Defaults to None.
        seed: Of the random weights. Defaults to 0.

    Returns:
        The config, and the model in eval mode without gradients for its parameters; of its
        parts ``backbone`` and ``data_preprocessor`` are of use, its heads are random.

    Raises:
        UserError: The config, its toolbox or the checkpoint is missing, or they do not fit.
    """
    cfg = read_model_config(config, cfg_options)
    if pretrained_files(cfg.model.backbone.get('init_cfg')):
        cfg.model.backbone.pop('init_cfg')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        if checkpoint is None:
            logger = MMLogger.get_current_instance()
            level = logger.level
            logger.setLevel(logging.WARNING)  # it would list every weight
            try:
                model.backbone.init_weights()
            finally:
                logger.setLevel(level)
        else:
            state = _backbone_weights(checkpoint, model.backbone)
            model.backbone.load_state_dict(state, strict=False)
    return cfg, model.eval().requires_grad_(False)


def _backbone_weights(path: str, backbone: nn.Module) -> dict[str, Tensor]:
    """The backbone's part of a checkpoint, which must be all of the backbone's weights."""
    state = _weights(load_checkpoint_file(path))
    if any(key.startswith('backbone.') for key in state):
        state = {k.removeprefix('backbone.'): v for k, v in state.items() if k[:9] == 'backbone.'}
    state = {key: value for key, value in state.items() if not key.startswith('fc.')}
    # Compared before loading, which grows a plain ResNet into one with spatial bias.
    found, wanted = (
        {key: x.shape for key, x in tensors.items() if not key.endswith('num_batches_tracked')}
        for tensors in (state, backbone.state_dict())
    )
    wrong = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    if wrong:
        raise UserError(
            f"checkpoint {path} is of another network than the config's backbone: {len(wrong)} "
            f'weights differ or are missing, as {wrong[0]}'
        )
    return state


def _weights(content) -> dict[str, Tensor]:
    """The weights of a checkpoint's content, by the names that they have without a wrapper."""
    state = content.get('state_dict', content) if isinstance(content, dict) else {}
    return {key.removeprefix('module.'): value for key, value in state.items()}
