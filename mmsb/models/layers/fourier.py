"""Depthwise filters applied in the frequency domain."""

import torch
import torch.nn.functional as F
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """Return half precision as float32, because many FFTs have no half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def depthwise_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve each map with its own kernel, with zeros around the map.

    Args:
        x: Maps, (B, C, H, W).
        weight: One square kernel of odd size K per channel, (C, 1, K, K).

    Returns:
        ``F.conv2d(x, weight, padding=K // 2, groups=C)``, computed by FFT where that is faster.
    """
    channels, _, size, _ = weight.shape
    reach = size // 2
    # For 31 x 31 kernels PyTorch's gradient on a CPU takes about 15 times as long as these FFTs.
    if size <= 13 or x.is_cuda:
        return F.conv2d(x, weight, padding=reach, groups=channels)
    height, width = x.shape[2:]
    # what wraps around lands in the first `reach` rows and columns, which are cut off
    shape = [-(-max(length + reach, size) // 16) * 16 for length in (height, width)]
    kernel = torch.fft.rfft2(full_precision(weight[:, 0].flip(1, 2)), shape)
    spectrum = torch.fft.rfft2(full_precision(x), shape) * kernel
    y = torch.fft.irfft2(spectrum, shape)
    return y[..., reach : reach + height, reach : reach + width].to(x.dtype)
