"""Building models from configs and checkpoints outside a runner."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmsb.checkpoints.fitting import weights_of, whole_weights
from mmsb.engine.config import read_model_config
from mmsb.models.finding import find_resnet
from mmsb.models.pretrained import init_quietly
from mmsb.utils.errors import UserError
from mmsb.utils.finite import warn_not_finite
from mmsb.utils.safe_load import load_checkpoint_file, pretrained_files


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model and leave the config whole: mmdet's DETRs write into theirs."""
    return MODELS.build(deepcopy(cfg.model))


def load_model(cfg: Config, checkpoint: str) -> tuple[nn.Module, Sequence[str] | None]:
    """Build a config's model and load all its weights from one checkpoint.

    Args:
        cfg: The config, after :func:`mmsb.engine.config.use_weights`.
        checkpoint: A local file.

    Returns:
        The model, in evaluation mode, and its class names, or None if the file has none.

    Raises:
        UserError: The file is missing or damaged, or belongs to another model.
    """
    content = load_checkpoint_file(checkpoint)
    model = build_model(cfg)
    state = whole_weights(model, content, checkpoint)
    model.load_state_dict(state, strict=False)
    warn_not_finite(state, f'checkpoint {checkpoint}')
    meta = content.get('meta') or {}
    return revert_sync_batchnorm(model).eval(), _class_names(meta)


def _class_names(meta) -> Sequence[str] | None:
    """Return the names of classes in a checkpoint's ``meta``, None if it is of another kind."""
    found = meta.get('dataset_meta') if isinstance(meta, dict) else None
    classes = found.get('classes') if isinstance(found, dict) else None
    return classes if isinstance(classes, list | tuple) else None


def load_backbone(
    config: str, checkpoint: str | None = None, cfg_options: dict | None = None, seed: int = 0
) -> tuple[Config, nn.Module]:
    """Build a config's model and load a checkpoint's weights into its backbone.

    Args:
        config: A config for any of the three tasks.
        checkpoint: Weights for the whole model, from which the backbone's are used, or for the
            backbone alone, with or without torchvision's ``fc``. Defaults to None: random weights
            as the config or the backbone initialises them; pretrained ones are not loaded.
        cfg_options: Settings of the config to override. Defaults to None.
        seed: The seed for random weights. Defaults to 0.

    Returns:
        The config, and the model in eval mode without gradients for its parameters. Use only its
        ``backbone`` and ``data_preprocessor``; the heads are random.

    Raises:
        UserError: The config, its toolbox or the checkpoint is missing, or they do not fit.
    """
    cfg = read_model_config(config, cfg_options)
    if pretrained_files(cfg.model.backbone.get('init_cfg')):
        cfg.model.backbone.pop('init_cfg')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = revert_sync_batchnorm(build_model(cfg))
        if checkpoint is None:
            init_quietly(model.backbone)
        else:
            state = _backbone_weights(checkpoint, model.backbone)
            model.backbone.load_state_dict(state, strict=False)
    return cfg, model.eval().requires_grad_(False)


def _backbone_weights(path: str, backbone: nn.Module) -> dict[str, Tensor]:
    """Return the backbone's weights in a checkpoint; raise an error unless they are complete."""
    content = load_checkpoint_file(path)
    state = weights_of(content, path)
    if any(key.startswith('backbone.') for key in state):
        state = {k.removeprefix('backbone.'): v for k, v in state.items() if k[:9] == 'backbone.'}
    else:
        try:
            state = find_resnet(content).network
        except UserError:  # another backbone
            state = {key: value for key, value in state.items() if not key.startswith('fc.')}
    # compared before loading, because loading grows a plain ResNet into an SB-ResNet
    found, wanted = (
        {key: x.shape for key, x in tensors.items() if not key.endswith('num_batches_tracked')}
        for tensors in (state, backbone.state_dict())
    )
    wrong = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    if wrong:
        raise UserError(
            f"checkpoint {path} does not belong to the config's backbone: {len(wrong)} weights "
            f'differ or are missing, e.g. {wrong[0]}; give the config it was trained with'
        )
    return state
