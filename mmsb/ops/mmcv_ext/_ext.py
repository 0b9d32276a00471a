"""``mmcv._ext`` without a compiler: mmcv's operators on torchvision's kernels and plain torch.

Functions have the names, arguments (keywords included) and in-place outputs that mmcv's Python
code expects. They run on CPU and CUDA, in float32 and float64; half precision is computed in
float32. Where torchvision defines an operator differently (RoI pooling, focal loss), mmcv's
definition is used. mmcv has no position-sensitive RoI operator, so there is none here.
It is one long file because mmcv imports one module.
"""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

_kernels = torch.ops.torchvision
# mmcv clamps probabilities to FLT_MIN before the logarithm, in every precision.
_FLT_MIN = torch.finfo(torch.float32).tiny


def __getattr__(name: str):
    """Return a stub for any other operator: mmcv needs it at import; a call raises an error."""
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def unserved(*args, **kwargs):
        raise NotImplementedError(_needs_compiled_mmcv(name))

    unserved.__name__ = unserved.__qualname__ = name
    return unserved


def _needs_compiled_mmcv(operator: str) -> str:
    return (
        f"mmcv's operator {operator} needs a compiled mmcv; mmsb.ops doesn't serve it from "
        'torchvision. OneDL: `MMCV_WITH_OPS=1 pip install --no-build-isolation --no-deps '
        '--force-reinstall --no-binary onedl-mmcv onedl-mmcv`. '
        'OpenMMLab: `pip uninstall mmcv-lite`, then `mim install mmcv`.'
    )


def get_compiler_version() -> str:
    return f'none: torchvision {torchvision.__version__} (mmsb.ops)'


def get_compiling_cuda_version() -> str:
    return f'{torch.version.cuda or "not available"}: torchvision (mmsb.ops)'


def _full(*tensors: Tensor) -> list[Tensor]:
    """Convert tensors below float32 to float32, which every kernel supports."""
    return [t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors]


# Boxes


def _intersection_areas(boxes1: Tensor, boxes2: Tensor, offset: int) -> tuple[Tensor, ...]:
    """Areas of intersection and of both boxes (..., 4), broadcast; sides are x2 - x1 + offset."""
    start = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    end = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    sides = (
        (end - start + offset).clamp(min=0),
        boxes1[..., 2:] - boxes1[..., :2] + offset,
        boxes2[..., 2:] - boxes2[..., :2] + offset,
    )
    return tuple(side[..., 0] * side[..., 1] for side in sides)


def _iou(boxes1: Tensor, boxes2: Tensor, offset: int) -> Tensor:
    intersection, area1, area2 = _intersection_areas(boxes1, boxes2, offset)
    return intersection / (area1 + area2 - intersection)


def bbox_overlaps(bboxes1, bboxes2, ious, mode, aligned, offset) -> None:
    """IoU (mode 0) or intersection over ``bboxes1`` (mode 1).

    Args:
        bboxes1 (Tensor): Boxes (M, 4).
        bboxes2 (Tensor): Boxes (N, 4).
        ious (Tensor): Output, (M, N), or (M,) if ``aligned``.
    """
    bboxes1, bboxes2 = _full(bboxes1, bboxes2)
    if not aligned:
        bboxes1 = bboxes1[:, None]
    intersection, area1, area2 = _intersection_areas(bboxes1, bboxes2, offset)
    base = area1 + area2 - intersection if mode == 0 else area1
    ious.copy_(intersection / base.clamp(min=offset))


def nms(boxes, scores, iou_threshold, offset) -> Tensor:
    """Return the indices of the ``boxes`` (N, 4) that NMS keeps, by descending score."""
    boxes, scores = _full(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32, torchvision in float64: without rounding first, an IoU equal to
    # the threshold would be suppressed for 0.3 and kept for 0.7.
    iou_threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    # mmcv's sort isn't stable and torchvision's is: sorting here keeps mmcv's order of ties.
    scores, order = scores.sort(descending=True)
    return order[_kernels.nms(boxes[order], scores, iou_threshold)]


def softnms(boxes, scores, dets, iou_threshold, sigma, min_score, method, offset) -> Tensor:
    """Soft NMS; ``method`` is 0 (naive), 1 (linear) or 2 (gaussian).

    Args:
        boxes (Tensor): (N, 4).
        scores (Tensor): (N,).
        dets (Tensor): Output, (N, 5): its first K rows are the kept boxes and new scores.

    Returns:
        Tensor: Indices of the K kept boxes, in order of selection.
    """
    boxes, scores = _full(boxes, scores)
    rows = torch.cat([boxes, scores[:, None]], dim=1)
    inds = torch.arange(len(rows), device=rows.device)
    picked, count = 0, len(rows)
    while picked < count:
        best = picked + int(rows[picked:count, 4].argmax())
        for table in (rows, inds):
            table[[picked, best]] = table[[best, picked]]
        rest = slice(picked + 1, count)
        iou = _iou(rows[picked, :4], rows[rest, :4], offset)
        if method == 2:
            decay = (-(iou * iou) / sigma).exp()
        else:
            overlapping = 1 - iou if method == 1 else torch.zeros_like(iou)
            decay = torch.where(iou >= iou_threshold, overlapping, 1)
        rows[rest, 4] *= decay
        # mmcv overwrites a discarded box with the last one; the resulting order decides between
        # equal scores.
        keep = ~(rows[rest, 4] < min_score)
        kept = int(keep.sum())
        order = torch.arange(len(keep), device=keep.device)
        order[:kept][~keep[:kept]] = order[kept:][keep[kept:]].flip(0)
        picked, count = picked + 1, picked + 1 + kept
        for table in (rows, inds):
            table[picked:count] = table[rest][order[:kept]]
    dets[:count] = rows[:count]
    return inds[:count]


def nms_match(dets, iou_threshold) -> list[list[int]]:
    """Return groups of indices: a kept box of ``dets`` (N, 5), then the boxes it suppresses."""
    (dets,) = _full(dets)
    left = dets[:, 4].argsort(descending=True)
    groups = []
    while len(left):
        first, left = left[:1], left[1:]
        match = _iou(dets[first, :4], dets[left, :4], 0) >= iou_threshold
        groups.append(first.tolist() + left[match].tolist())
        left = left[~match]
    return groups


# Regions of interest. rois are (K, 5): index in the batch, x1, y1, x2, y2.


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
        raise NotImplementedError(_needs_compiled_mmcv("roi_align with pool_mode='max'"))
    (input,) = _full(input)
    size = (aligned_height, aligned_width)
    output.copy_(
        _kernels.roi_align(
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
    (grad,) = _full(grad_output)
    size = (aligned_height, aligned_width, *grad_input.shape)
    grad_input.copy_(
        _kernels._roi_align_backward(
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
    (input,) = _full(input)
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
    (grad,) = _full(grad_output)
    size = (pooled_height, pooled_width, *grad_input.shape)
    grad_input.copy_(
        _kernels._roi_pool_backward(grad, rois.to(grad.dtype), argmax, spatial_scale, *size)
    )


# Convolutions. Offsets are (B, 2 * groups * kH * kW, outH, outW) with y before x, and masks
# (B, groups * kH * kW, outH, outW), in both libraries. mmcv's buffers (columns, ones) and
# im2col_step are not used.


def _deform_conv(backward, input, weight, offset, mask, bias, geometry) -> Tensor | tuple:
    """Run torchvision's kernel, or its backward if ``backward``, the output's gradient, is given.

    Returns:
        Tensor | tuple: The output, or the gradients of input, weight, offset, mask and bias.
    """
    use_mask = mask is not None
    mask = mask if use_mask else input.new_zeros(len(input), 1)
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    tensors = _full(input, weight, offset, mask, bias)
    if backward is None:
        return _kernels.deform_conv2d(*tensors, *geometry, use_mask)
    return _kernels._deform_conv2d_backward(*_full(backward), *tensors, *geometry, use_mask)


def deform_conv_forward(
    input,
    weight,
    offset,
    output,
    columns,
    ones,
    kW,
    kH,
    dW,
    dH,
    padW,
    padH,
    dilationW,
    dilationH,
    group,
    deformable_group,
    im2col_step,
) -> None:
    """Deformable convolution of ``input`` (B, C, H, W) into ``output``."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_deform_conv(None, input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input,
    offset,
    gradOutput,
    gradInput,
    gradOffset,
    weight,
    columns,
    kW,
    kH,
    dW,
    dH,
    padW,
    padH,
    dilationW,
    dilationH,
    group,
    deformable_group,
    im2col_step,
) -> None:
    """Gradients of input and offset, written to ``gradInput`` and ``gradOffset``."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    grads = _deform_conv(gradOutput, input, weight, offset, None, None, geometry)
    gradInput.copy_(grads[0])
    gradOffset.copy_(grads[2])


def deform_conv_backward_parameters(
    input,
    offset,
    gradOutput,
    gradWeight,
    columns,
    ones,
    kW,
    kH,
    dW,
    dH,
    padW,
    padH,
    dilationW,
    dilationH,
    group,
    deformable_group,
    scale,
    im2col_step,
) -> None:
    """Gradient of the weight, added to ``gradWeight``; it doesn't depend on the weight itself."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    grads = _deform_conv(gradOutput, input, gradWeight, offset, None, None, geometry)
    gradWeight.add_(grads[1], alpha=scale)


def modulated_deform_conv_forward(
    input,
    weight,
    bias,
    ones,
    offset,
    mask,
    output,
    columns,
    kernel_h,
    kernel_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    group,
    deformable_group,
    with_bias,
) -> None:
    """Modulated deformable convolution of ``input`` (B, C, H, W) into ``output``."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias = bias if with_bias else None
    output.copy_(_deform_conv(None, input, weight, offset, mask, bias, geometry))


def modulated_deform_conv_backward(
    input,
    weight,
    bias,
    ones,
    offset,
    mask,
    columns,
    grad_input,
    grad_weight,
    grad_bias,
    grad_offset,
    grad_mask,
    grad_output,
    kernel_h,
    kernel_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    group,
    deformable_group,
    with_bias,
) -> None:
    """Gradients of every input, written to the ``grad_*`` of the same names."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias = bias if with_bias else None
    grads = _deform_conv(grad_output, input, weight, offset, mask, bias, geometry)
    for out, grad in zip((grad_input, grad_weight, grad_offset, grad_mask), grads, strict=False):
        out.copy_(grad)
    if with_bias:
        grad_bias.copy_(grads[4])


def masked_im2col_forward(
    im, mask_h_idx, mask_w_idx, col, kernel_h, kernel_w, pad_h, pad_w
) -> None:
    """Copy the patches of ``im`` (1, C, H, W) at M positions to ``col`` (C * kH * kW, M)."""
    patches = F.unfold(im, (kernel_h, kernel_w), padding=(pad_h, pad_w))[0]
    out_w = im.shape[3] + 2 * pad_w - kernel_w + 1
    col.copy_(patches[:, mask_h_idx * out_w + mask_w_idx])


def masked_col2im_forward(col, mask_h_idx, mask_w_idx, im, height, width, channels) -> None:
    """Copy columns ``col`` (C, M) to their positions in ``im`` (1, C, H, W)."""
    im[0, :, mask_h_idx, mask_w_idx] = col


# Focal losses. target holds labels, (N,); weight is (C,), or empty for no weights.


def _sigmoid_focal(input, target, weight, output, of_target, of_others) -> None:
    """Write ``of_target(p)`` in the column of each row's label and ``of_others(p)`` elsewhere.

    A label outside [0, C) is background: its row has no target column.
    """
    p = _full(input)[0].sigmoid()
    value = of_others(p)
    rows = ((target >= 0) & (target < input.shape[1])).nonzero().squeeze(1)
    columns = target[rows]
    value[rows, columns] = of_target(p[rows, columns])
    if weight.numel():
        value *= weight[target][:, None]
    output.copy_(value)


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=_FLT_MIN).log()


def sigmoid_focal_loss_forward(input, target, weight, output, gamma, alpha) -> None:
    """Write the sigmoid focal loss of logits (N, C) to ``output`` (N, C)."""
    _sigmoid_focal(
        input,
        target,
        weight,
        output,
        lambda p: -alpha * (1 - p) ** gamma * _log(p),
        lambda p: -(1 - alpha) * p**gamma * _log(1 - p),
    )


def sigmoid_focal_loss_backward(input, target, weight, grad_input, gamma, alpha) -> None:
    """Write the derivative of each loss element by its logit to ``grad_input`` (N, C)."""
    _sigmoid_focal(
        input,
        target,
        weight,
        grad_input,
        lambda p: -alpha * (1 - p) ** gamma * (1 - p - gamma * p * _log(p)),
        lambda p: -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p),
    )


def _softmax_focal(softmax, target, weight, of_target) -> Tensor:
    """Return the weighted ``of_target(p)`` of each row's label; 0 if the label is negative."""
    label = target.clamp(min=0)
    value = of_target(softmax.gather(1, label[:, None]).squeeze(1))
    if weight.numel():
        value = value * weight[label]
    return value.masked_fill(target < 0, 0)


def softmax_focal_loss_forward(input, target, weight, output, gamma, alpha) -> None:
    """Write the softmax focal loss of probabilities (N, C) to ``output`` (N,)."""
    (softmax,) = _full(input)
    loss = _softmax_focal(softmax, target, weight, lambda p: -alpha * (1 - p) ** gamma * _log(p))
    output.copy_(loss)


def softmax_focal_loss_backward(input, target, weight, buff, grad_input, gamma, alpha) -> None:
    """Write the derivative of each row's loss by its logits to ``grad_input`` (N, C)."""
    (softmax,) = _full(input)
    factor = _softmax_focal(
        softmax,
        target,
        weight,
        lambda p: alpha * (gamma * (1 - p) ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma),
    )
    one_hot = F.one_hot(target.clamp(min=0), softmax.shape[1])
    grad_input.copy_(factor[:, None] * (one_hot - softmax))
