"""CARAFE: every output cell is a weighted sum of the input cells around it.

``features`` are (B, C, H, W). ``masks``, (B, groups * K * K, H * scale, W * scale), hold the K x K
weights of each output cell; the channels are divided into ``group_size`` groups. Everything is
computed tap by tap, so that memory stays at a few maps of the output's size. Unfolded patches
would take K * K maps of the input's size. Each of the K * K taps reads and writes the whole output.
"""

import torch.nn.functional as F
from torch import Tensor

from mmsb.ops.common import full


class _Reassembly:
    """The geometry of one call, and views of its tensors by group, input cell and scale."""

    def __init__(self, features, kernel_size, group_size, scale_factor):
        self.kernel, self.groups, self.scale = kernel_size, group_size, scale_factor
        self.batch, _, self.height, self.width = features.shape
        self.padding = [(kernel_size - 1) // 2] * 4

    def by_cell(self, x: Tensor) -> Tensor:
        """(B, groups * D, H * scale, W * scale) to (B, groups, D, H, scale, W, scale)."""
        shape = (self.batch, self.groups, -1, self.height, self.scale, self.width, self.scale)
        return x.reshape(shape)

    def pad(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, groups, C / groups, padded height, padded width)."""
        padded = F.pad(features, self.padding)
        return padded.reshape(self.batch, self.groups, -1, *padded.shape[2:])

    def crop(self, padded: Tensor) -> Tensor:
        """Undo :meth:`pad`."""
        return F.pad(padded.flatten(1, 2), [-side for side in self.padding])

    def taps(self, padded: Tensor):
        """Yield each tap and its view of ``padded``, (B, groups, C / groups, H, 1, W, 1)."""
        for tap in range(self.kernel**2):
            y, x = divmod(tap, self.kernel)
            window = padded[..., y : y + self.height, x : x + self.width]
            yield tap, window[:, :, :, :, None, :, None]


def carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor) -> None:
    """Write the reassembled ``features`` to ``output`` (B, C, H * scale, W * scale)."""
    geometry = _Reassembly(features, kernel_size, group_size, scale_factor)
    features, masks = full(features, masks)
    masks = geometry.by_cell(masks)
    total = geometry.by_cell(features.new_zeros(output.shape))
    for tap, window in geometry.taps(geometry.pad(features)):
        total.addcmul_(window, masks[:, :, tap : tap + 1])
    output.copy_(total.view(output.shape))


def carafe_naive_backward(
    top_grad,
    features,
    masks,
    bottom_grad,
    mask_grad,
    kernel_size,
    group_size,
    scale_factor,
) -> None:
    """Write the gradients of features and masks to ``bottom_grad`` and ``mask_grad``."""
    geometry = _Reassembly(features, kernel_size, group_size, scale_factor)
    features, masks, grad = full(features, masks, top_grad)
    masks, grad = geometry.by_cell(masks), geometry.by_cell(grad)
    padded = geometry.pad(features)
    padded_grad = padded.new_zeros(padded.shape)
    masks_grad = masks.new_zeros(masks.shape)
    windows = zip(geometry.taps(padded), geometry.taps(padded_grad), strict=True)
    for (tap, window), (_, window_grad) in windows:
        masks_grad[:, :, tap] = (grad * window).sum(dim=2)
        window_grad += (grad * masks[:, :, tap : tap + 1]).sum(dim=(4, 6), keepdim=True)
    bottom_grad.copy_(geometry.crop(padded_grad))
    mask_grad.copy_(masks_grad.view(mask_grad.shape))


def carafe_forward(
    features,
    masks,
    rfeatures,
    routput,
    rmasks,
    output,
    kernel_size,
    group_size,
    scale_factor,
) -> None:
    """Do as :func:`carafe_naive_forward`; keep ``rfeatures``, which backward gets."""
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    top_grad,
    rfeatures,
    masks,
    rtop_grad,
    rbottom_grad_hs,
    rbottom_grad,
    rmask_grad,
    bottom_grad,
    mask_grad,
    kernel_size,
    group_size,
    scale_factor,
) -> None:
    """Do as :func:`carafe_naive_backward`."""
    sizes = (kernel_size, group_size, scale_factor)
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, *sizes)
