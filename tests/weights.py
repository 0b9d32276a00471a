"""Weights for tests: none at a value that would hide a mistake."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope


def randomise(module):
    """Gives a module random weights and statistics, in float64, and returns it."""
    module.double()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.5, generator=generator)
    return module


def build_randomised(path, gain, options=None):
    """A config's model whose weights and norms all say something, in float64.

    The gain over ``1 / sqrt(fan in)`` keeps the features of order one, and so the scores apart.
    """
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options or {})
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = randomise(MODELS.build(cfg.model))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight *= gain / weight[0].numel() ** 0.5
    return model.eval()
