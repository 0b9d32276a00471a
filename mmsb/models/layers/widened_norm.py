"""Norm over a convolution's features and the spatial bias maps concatenated to them."""

import torch
import torch.nn.functional as F
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.func import functional_call


def widened_norm(norm: nn.Module, features: Tensor, maps: Tensor, features_held: bool) -> Tensor:
    """Normalise features and maps with one norm and concatenate them.

    Args:
        norm: The norm; its first channels belong to the features, its last ones to the maps.
        features: (B, C, H, W).
        maps: Spatial bias, (B, b, H, W).
        features_held: If True, training normalises the features by the running statistics and only
            the maps by the batch's. Use it when spatial bias is new to frozen pretrained weights.

    Returns:
        (B, C + b, H, W).
    """
    learns = norm.training and norm.track_running_stats
    if type(norm) is nn.BatchNorm2d and learns and norm.affine and norm.momentum is not None:
        return _normalise_by_parts(norm, features, maps, features_held)
    if features_held and learns:
        return _hold_features(norm, features, maps)
    return norm(torch.cat([features, maps], dim=1))


def _hold_features(norm: nn.Module, features: Tensor, maps: Tensor) -> Tensor:
    """Normalise features by the running statistics, maps by the batch's, which update them."""
    channels = features.shape[1]
    tensors = {**dict(norm.named_parameters()), **dict(norm.named_buffers())}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor.ndim}
    first = {name: tensor[:channels] for name, tensor in tensors.items()}
    last = {name: tensor[channels:] for name, tensor in tensors.items()}
    features = F.batch_norm(features, **first, eps=norm.eps)
    # call the module, so that its momentum and SyncBN's synchronisation apply
    return _concatenate(features, functional_call(norm, last, (maps,)))


def _normalise_by_parts(
    norm: nn.BatchNorm2d, features: Tensor, maps: Tensor, features_held: bool
) -> Tensor:
    """Normalise both separately: batch norm is faster on a round number of channels."""
    channels = features.shape[1]
    norm.num_batches_tracked.add_(1)
    parts = []
    for x, part, training in (
        (features, slice(channels), not features_held),
        (maps, slice(channels, None), True),
    ):
        stats = norm.running_mean[part], norm.running_var[part]
        affine = norm.weight[part], norm.bias[part]
        parts.append(F.batch_norm(x, *stats, *affine, training, norm.momentum, norm.eps))
    return _concatenate(*parts)


def _concatenate(features: Tensor, maps: Tensor) -> Tensor:
    """Concatenate the outputs of two norms so that each gets a contiguous gradient.

    The gradients that torch.cat returns are parts of a wider tensor. For these, batch norm's
    backward pass on a CPU is up to nine times slower in channels last, and two times in NCHW.
    """
    if features.is_cpu and not torch.compiler.is_compiling():
        for part in (features, maps):
            if part.requires_grad:
                part.register_hook(_contiguous)
    return torch.cat([features, maps], dim=1)


def _contiguous(gradient: Tensor | None) -> Tensor | None:
    """Copy some channels of a tensor to one of their own, in the same layout."""
    if gradient is None:  # a second derivative that is zero
        return None
    _, by_channel, _, by_column = gradient.stride()
    layout = torch.channels_last if by_channel < by_column else torch.contiguous_format
    return gradient.contiguous(memory_format=layout)


def split_norm(norm: _BatchNorm, num_maps: int) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    """Split a widened batch norm into the features' part and the maps' part, for inference."""
    return _part(norm, slice(-num_maps)), _part(norm, slice(-num_maps, None))


def _part(norm: _BatchNorm, channels: slice) -> nn.BatchNorm2d:
    """Return a batch norm over some of the channels, in eval mode."""
    tensors = {k: v[channels] if v.ndim else v for k, v in norm.state_dict().items()}
    part = nn.BatchNorm2d(len(tensors['running_mean']), norm.eps, affine=norm.affine)
    part.to(norm.running_mean).load_state_dict(tensors)
    return part.eval()
