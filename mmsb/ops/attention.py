"""Multi-scale deformable attention (Deformable DETR) and PSANet's point-wise attention masks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmsb.ops.common import full


def _levels(value, spatial_shapes, level_start_index, locations, weights):
    """Yield each level's keys (slice), size (H, W), and inputs of :func:`_attend`."""
    starts, sizes = level_start_index.tolist(), spatial_shapes.tolist()
    for level, (start, (height, width)) in enumerate(zip(starts, sizes, strict=True)):
        keys = slice(start, start + height * width)
        inputs = (value[:, keys], locations[:, :, :, level], weights[:, :, :, level])
        yield keys, (height, width), inputs


def _attend(size, value, locations, weights) -> Tensor:
    """Sum the weighted samples of one level.

    Args:
        size (tuple): H, W.
        value (Tensor): (B, H * W, heads, D).
        locations (Tensor): (B, queries, heads, points, 2), x before y, from 0 to 1.
        weights (Tensor): (B, queries, heads, points).

    Returns:
        Tensor: (B, queries, heads, D).
    """
    heads, depth = value.shape[2:]
    maps = value.permute(0, 2, 3, 1).reshape(-1, depth, *size)
    grid = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    samples = F.grid_sample(maps, grid, align_corners=False)  # (B * heads, D, queries, points)
    output = torch.einsum('ndqp,nqp->nqd', samples, weights.transpose(1, 2).flatten(0, 1))
    return output.unflatten(0, (-1, heads)).transpose(1, 2)


def ms_deform_attn_forward(
    value,
    value_spatial_shapes,
    value_level_start_index,
    sampling_locations,
    attention_weights,
    im2col_step,
) -> Tensor:
    """Multi-scale deformable attention by ``grid_sample``, level by level.

    A level's samples, B * heads * queries * points * D numbers, are held at a time; ``im2col_step``
    isn't used.

    Args:
        value (Tensor): (B, keys, heads, D).
        value_spatial_shapes (Tensor): (levels, 2), H and W of each level.
        value_level_start_index (Tensor): (levels,), index of each level's first key.
        sampling_locations (Tensor): (B, queries, heads, levels, points, 2), x before y, 0 to 1.
        attention_weights (Tensor): (B, queries, heads, levels, points).

    Returns:
        Tensor: (B, queries, heads * D).
    """
    tensors = full(value, sampling_locations, attention_weights)
    levels = _levels(
        tensors[0], value_spatial_shapes, value_level_start_index, tensors[1], tensors[2]
    )
    output = sum(_attend(size, *inputs) for _, size, inputs in levels)
    return output.flatten(2).to(value.dtype)


def ms_deform_attn_backward(
    value,
    value_spatial_shapes,
    value_level_start_index,
    sampling_locations,
    attention_weights,
    grad_output,
    grad_value,
    grad_sampling_loc,
    grad_attn_weight,
    im2col_step,
) -> None:
    """Gradients of :func:`ms_deform_attn_forward`, written to the ``grad_*`` of the same names.

    Samples are computed again, level by level. As in mmcv's CUDA kernel and unlike in
    ``grid_sample``, a sample exactly one cell outside has no gradient for its location.
    """
    *tensors, grad = full(value, sampling_locations, attention_weights, grad_output)
    grad = grad.unflatten(2, tensors[0].shape[2:])
    levels = _levels(
        tensors[0], value_spatial_shapes, value_level_start_index, tensors[1], tensors[2]
    )
    for level, (keys, size, inputs) in enumerate(levels):
        leaves = [t.detach().requires_grad_() for t in inputs]
        with torch.enable_grad():
            output = _attend(size, *leaves)
        grads = torch.autograd.grad(output, leaves, grad)
        cells = inputs[1] * inputs[1].new_tensor([size[1], size[0]]) - 0.5
        outside = (cells == -1).any(dim=-1, keepdim=True)
        grad_value[:, keys] = grads[0].to(grad_value.dtype)
        grad_sampling_loc[:, :, :, level] = grads[1].masked_fill(outside, 0).to(grad_value.dtype)
        grad_attn_weight[:, :, :, level] = grads[2].to(grad_value.dtype)


def _mask_cells(size, mask_size, half, device):
    """For every pair of feature cells, the mask cell that relates them.

    Returns:
        tuple[Tensor, Tensor]: Index of the cell in a mask centred on the second cell, and whether
            it is inside; both (H * W, H * W).
    """
    inside, index = True, 0
    for axis in (0, 1):
        cell = torch.arange(size[0] * size[1], device=device)
        cell = cell // size[1] if axis == 0 else cell % size[1]
        place = cell[:, None] - cell + half[axis]
        inside = inside & (place >= 0) & (place < mask_size[axis])
        index = index * mask_size[axis] + place
    return index.masked_fill(~inside, 0), inside


def psamask_forward(
    input,
    output,
    psa_type,
    num_,
    h_feature,
    w_feature,
    h_mask,
    w_mask,
    half_h_mask,
    half_w_mask,
) -> None:
    """Lay each cell's mask over the feature map: PSANet's attention from or to every cell.

    Needs a mask of the output's H * W * H * W cells in int64 besides the output itself.

    Args:
        input (Tensor): (B, h_mask * w_mask, H, W): a mask, centred on it, for each cell.
        output (Tensor): Output, (B, H * W, H, W). Collect: channel i at cell j is the weight of
            cell i in the mask of j. Distribute: i and j exchanged.
        psa_type (int): 0 (collect) or 1 (distribute).
    """
    cells = ((h_feature, w_feature), (h_mask, w_mask), (half_h_mask, half_w_mask))
    index, inside = _mask_cells(*cells, input.device)
    masks = input.flatten(2)
    weights = masks.gather(1, index.expand(len(masks), -1, -1)).masked_fill(~inside, 0)
    if psa_type == 1:
        weights = weights.transpose(1, 2)
    output.copy_(weights.reshape(output.shape))


def psamask_backward(
    grad_output,
    grad_input,
    psa_type,
    num_,
    h_feature,
    w_feature,
    h_mask,
    w_mask,
    half_h_mask,
    half_w_mask,
) -> None:
    """Gradient of :func:`psamask_forward`, written to ``grad_input``."""
    cells = ((h_feature, w_feature), (h_mask, w_mask), (half_h_mask, half_w_mask))
    index, inside = _mask_cells(*cells, grad_output.device)
    grad = grad_output.flatten(2)
    if psa_type == 1:
        grad = grad.transpose(1, 2)
    masks = torch.zeros_like(grad_input, memory_format=torch.contiguous_format).flatten(2)
    masks.scatter_add_(1, index.expand(len(grad), -1, -1), grad.masked_fill(~inside, 0))
    grad_input.copy_(masks.view(grad_input.shape))
