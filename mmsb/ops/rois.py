"""Pooling of regions of interest. rois are (K, 5): index in the batch, x1, y1, x2, y2."""

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from mmsb.ops.common import full, needs_compiled_mmcv


def roi_align_forward(
    input,
    rois,
    output,
    argmax_y,
    argmax_x,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    pool_mode,
    aligned,
) -> None:
    """RoI align of ``input`` (B, C, H, W) into ``output`` (K, C, aligned_height, aligned_width)."""
    if pool_mode != 1:
        raise NotImplementedError(needs_compiled_mmcv("roi_align with pool_mode='max'"))
    (input,) = full(input)
    size = (aligned_height, aligned_width)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input, rois.to(input.dtype), spatial_scale, *size, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output,
    rois,
    argmax_y,
    argmax_x,
    grad_input,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    pool_mode,
    aligned,
) -> None:
    """Gradient of :func:`roi_align_forward`, written to ``grad_input`` (B, C, H, W)."""
    (grad,) = full(grad_output)
    size = (aligned_height, aligned_width, *grad_input.shape)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad, rois.to(grad.dtype), spatial_scale, *size, sampling_ratio, aligned
        )
    )


def roi_pool_forward(
    input, rois, output, argmax, pooled_height, pooled_width, spatial_scale
) -> None:
    """RoI max pooling with mmcv's bins.

    A RoI ends at (x2 + 1) * scale and isn't rounded. torchvision rounds it, so its forward can't
    be used.

    Args:
        input (Tensor): (B, C, H, W).
        output (Tensor): Output, (K, C, pooled_height, pooled_width); 0 where a bin is empty.
        argmax (Tensor): Output, same shape: y * W + x; -1 where a bin is empty.
    """
    (input,) = full(input)
    rois = rois.to(input.dtype)
    starts = rois[:, 1:3] * spatial_scale
    ends = (rois[:, 3:] + 1) * spatial_scale

    def bins(start, end, count, size):
        """Return which cells belong to each bin, bool (count, size)."""
        edges = torch.arange(count + 1, device=input.device) * ((end - start) / count) + start
        cell = torch.arange(size, device=input.device)
        inside = (cell >= edges[:-1, None].floor()) & (cell < edges[1:, None].ceil())
        return inside & (end > start)

    for k, image in enumerate(rois[:, 0].long().tolist()):
        columns = bins(starts[k, 0], ends[k, 0], pooled_width, input.shape[3])
        rows = bins(starts[k, 1], ends[k, 1], pooled_height, input.shape[2])
        # (C, H, 1, W) -> (C, H, pooled_width) -> (C, pooled_height, pooled_width)
        value, x = input[image][:, :, None].masked_fill(~columns, -torch.inf).max(dim=3)
        value, y = value[:, None].masked_fill(~rows[:, :, None], -torch.inf).max(dim=2)
        empty = value == -torch.inf
        output[k] = value.masked_fill(empty, 0)
        argmax[k] = (y * input.shape[3] + x.gather(1, y)).masked_fill(empty, -1)


def roi_pool_backward(
    grad_output, rois, argmax, grad_input, pooled_height, pooled_width, spatial_scale
) -> None:
    """Gradient of :func:`roi_pool_forward`, written to ``grad_input`` (B, C, H, W)."""
    (grad,) = full(grad_output)
    size = (pooled_height, pooled_width, *grad_input.shape)
    grad_input.copy_(
        torch.ops.torchvision._roi_pool_backward(
            grad, rois.to(grad.dtype), argmax, spatial_scale, *size
        )
    )


# The next two sample bins whose positions depend on the RoI. Samples are enumerated one after
# the other, because each RoI has its own number of them, and summed by embedding_bag, which
# needs no memory for the samples' values.


class _Samples:
    """The samples of all bins, and the weights of the four cells around each of them.

    Args:
        rois (Tensor): (K, 5 or 6).
        sizes (Tensor): (K, 2), height and width of each RoI in cells.
        bins (tuple): Number of bins, vertical and horizontal.
        sampling_ratio (int): Samples per bin and axis; 0: one per started cell of a bin.

    Attributes:
        bin (Tensor): Index of each sample's bin, (S,), of K * bins[0] * bins[1].
        within (list[Tensor]): Position of each sample relative to the RoI's start, (S,), y and x.
    """

    def __init__(self, rois, sizes, bins, sampling_ratio):
        per_roi = bins[0] * bins[1]
        bin_sizes = sizes / sizes.new_tensor(bins)
        grids = bin_sizes.ceil().clamp(min=0).long()
        if sampling_ratio > 0:
            grids = torch.full_like(grids, sampling_ratio)
        self.counts = grids.prod(dim=1).repeat_interleave(per_roi)  # samples in each bin
        self.starts = self.counts.cumsum(0) - self.counts
        index = torch.arange(len(self.counts), device=rois.device)
        self.bin = index.repeat_interleave(self.counts)
        number = torch.arange(len(self.bin), device=rois.device) - self.starts[self.bin]
        self.roi = self.bin // per_roi
        place = self.bin % per_roi
        grid = grids[self.roi]
        columns = grid[:, 1]
        self.within = []
        for axis, cell, sample in (
            (0, place // bins[1], number // columns),
            (1, place % bins[1], number % columns),
        ):
            side = bin_sizes[self.roi, axis]
            self.within.append(cell * side + (sample + 0.5) * side / grid[:, axis])
        self.image = rois[:, 0].long()[self.roi]

    def place(self, y, x, shape) -> None:
        """Find the cells around positions (S,) on maps of ``shape`` (B, C, H, W).

        Sets ``cells``, (S, 4) indices of rows (B * H * W), their bilinear ``weights``, and
        ``slopes``, the derivatives of the weights by y and x, as mmcv has them: at the borders,
        where mmcv clamps positions, they are not those of the clamped positions.
        """
        inside, low, high, fraction, position = True, [], [], [], (y, x)
        for value, size in zip(position, shape[2:], strict=True):
            inside = inside & (value >= -1) & (value <= size)
        for value, size in zip(position, shape[2:], strict=True):
            clamped = value.where(inside, 0).clamp(0, size - 1)
            low.append(clamped.long())
            high.append((low[-1] + 1).clamp(max=size - 1))
            fraction.append(clamped - low[-1])
        corners = [(rows, columns) for rows in (low, high) for columns in (low, high)]
        image = self.image * shape[2]
        self.cells = torch.stack(
            [(image + rows[0]) * shape[3] + columns[1] for rows, columns in corners], dim=1
        )
        scale = inside / self.counts[self.bin]
        (v, h) = fraction
        weights = ((1 - v) * (1 - h), (1 - v) * h, v * (1 - h), v * h)
        self.weights = torch.stack([weight * scale for weight in weights], dim=1)
        from_low, to_high = (
            [value - edge for value, edge in zip(position, edges, strict=True)]
            for edges in (low, high)
        )
        by_y = (to_high[1], -from_low[1], -to_high[1], from_low[1])
        by_x = (to_high[0], -to_high[0], -from_low[0], from_low[0])
        self.slopes = [
            torch.stack([slope * scale for slope in slopes], dim=1) for slopes in (by_y, by_x)
        ]

    def pool(self, rows, weights) -> Tensor:
        """Sum the samples of each bin: ``rows`` (B * H * W, C) to (K * bins, C)."""
        return F.embedding_bag(
            self.cells.flatten(),
            rows,
            4 * self.starts,
            mode='sum',
            per_sample_weights=weights.flatten(),
        )

    def pool_backward(self, rows, grad) -> tuple[Tensor, Tensor]:
        """Gradients of ``rows`` and of the weights, (S, 4)."""
        leaves = [t.detach().requires_grad_() for t in (rows, self.weights)]
        with torch.enable_grad():
            out = self.pool(*leaves)
        return torch.autograd.grad(out, leaves, grad)


def _rows(maps: Tensor) -> Tensor:
    """(B, C, H, W) to (B * H * W, C)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """Rows (B * H * W, C) to maps of the shape of ``like`` (B, C, H, W)."""
    batch, channels, *size = like.shape
    return rows.reshape(batch, *size, channels).permute(0, 3, 1, 2)


def _deformed_samples(rois, offset, shape, bins, spatial_scale, sampling_ratio, gamma):
    """Return the samples of :func:`deform_roi_pool_forward`, and (K, 2) RoI heights and widths."""
    corners = rois[:, 1:] * spatial_scale - 0.5
    start = corners[:, [1, 0]]
    sizes = corners[:, [3, 2]] - start
    samples = _Samples(rois, sizes, bins, sampling_ratio)
    start = start.repeat_interleave(bins[0] * bins[1], dim=0)
    if offset.numel():
        shift = offset.flip(1).flatten(2).transpose(1, 2)  # (K, bins, y and x)
        start = start + (gamma * sizes[:, None] * shift).flatten(0, 1)
    start = start[samples.bin]
    samples.place(*(start[:, axis] + samples.within[axis] for axis in (0, 1)), shape)
    return samples, sizes


def deform_roi_pool_forward(
    input,
    rois,
    offset,
    output,
    pooled_height,
    pooled_width,
    spatial_scale,
    sampling_ratio,
    gamma,
) -> None:
    """RoI align of ``input`` (B, C, H, W) whose bins are moved, into ``output``.

    Args:
        offset (Tensor): (K, 2, pooled_height, pooled_width), x before y, in RoI sizes divided by
            ``gamma``; or empty.
        output (Tensor): Output, (K, C, pooled_height, pooled_width).
    """
    input, rois, offset = full(input, rois, offset)
    bins = (pooled_height, pooled_width)
    samples, _ = _deformed_samples(
        rois, offset, input.shape, bins, spatial_scale, sampling_ratio, gamma
    )
    output.copy_(_maps(samples.pool(_rows(input), samples.weights), output))


def deform_roi_pool_backward(
    grad_output,
    input,
    rois,
    offset,
    grad_input,
    grad_offset,
    pooled_height,
    pooled_width,
    spatial_scale,
    sampling_ratio,
    gamma,
) -> None:
    """Gradients of input and offset, written to ``grad_input`` and ``grad_offset``."""
    grad, input, rois, offset = full(grad_output, input, rois, offset)
    bins = (pooled_height, pooled_width)
    samples, sizes = _deformed_samples(
        rois, offset, input.shape, bins, spatial_scale, sampling_ratio, gamma
    )
    by_rows, by_weights = samples.pool_backward(_rows(input), _rows(grad))
    grad_input.copy_(_maps(by_rows, grad_input))
    if offset.numel():
        by_position = torch.stack([(by_weights * s).sum(1) for s in samples.slopes], dim=1)
        by_bin = by_position.new_zeros(len(samples.counts), 2)
        by_bin.index_add_(0, samples.bin, by_position)
        by_shift = gamma * sizes[:, None] * by_bin.unflatten(0, (len(rois), -1))
        grad_offset.copy_(by_shift.transpose(1, 2).reshape(grad_offset.shape).flip(1))


def _rotated_samples(rois, shape, bins, spatial_scale, sampling_ratio, aligned, clockwise):
    """Return the samples of :func:`roi_align_rotated_forward`."""
    center = rois[:, [2, 1]] * spatial_scale - (0.5 if aligned else 0)
    sizes = rois[:, [4, 3]] * spatial_scale
    sizes = sizes if aligned else sizes.clamp(min=1)
    samples = _Samples(rois, sizes, bins, sampling_ratio)
    theta = -rois[:, 5] if clockwise else rois[:, 5]
    cos, sin = theta.cos()[samples.roi], theta.sin()[samples.roi]
    start, center = (-sizes / 2)[samples.roi], center[samples.roi]
    y, x = (start[:, axis] + samples.within[axis] for axis in (0, 1))
    samples.place(y * cos - x * sin + center[:, 0], y * sin + x * cos + center[:, 1], shape)
    return samples


def roi_align_rotated_forward(
    input,
    rois,
    output,
    pooled_height,
    pooled_width,
    spatial_scale,
    sampling_ratio,
    aligned,
    clockwise,
) -> None:
    """RoI align of ``input`` (B, C, H, W) in rotated RoIs.

    Args:
        rois (Tensor): (K, 6): index in the batch, centre x and y, width, height, angle in radians.
        output (Tensor): Output, (K, C, pooled_height, pooled_width).
    """
    input, rois = full(input, rois)
    bins = (pooled_height, pooled_width)
    samples = _rotated_samples(
        rois, input.shape, bins, spatial_scale, sampling_ratio, aligned, clockwise
    )
    output.copy_(_maps(samples.pool(_rows(input), samples.weights), output))


def roi_align_rotated_backward(
    top_grad,
    rois,
    bottom_grad,
    pooled_height,
    pooled_width,
    spatial_scale,
    sampling_ratio,
    aligned,
    clockwise,
) -> None:
    """Gradient of :func:`roi_align_rotated_forward`, written to ``bottom_grad`` (B, C, H, W)."""
    grad, rois = full(top_grad, rois)
    bins = (pooled_height, pooled_width)
    shape = bottom_grad.shape
    samples = _rotated_samples(rois, shape, bins, spatial_scale, sampling_ratio, aligned, clockwise)
    rows = grad.new_zeros(shape[0] * shape[2] * shape[3], shape[1])
    bottom_grad.copy_(_maps(samples.pool_backward(rows, _rows(grad))[0], bottom_grad))
