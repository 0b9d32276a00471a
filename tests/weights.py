"""Weights for tests: none at a value that would hide a mistake."""

import torch


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
