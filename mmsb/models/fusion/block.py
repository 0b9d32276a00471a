"""Fused residual block: fused cuDNN or oneDNN convolutions and our kernels for spatial bias.

PyTorch's convolution needs separate passes over memory for the bias (on a GPU), ReLU and shortcut,
and on a CPU it reorders its weights at every call. Fused cuDNN and oneDNN calls need neither.
"""

from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from mmsb.models.backbones.residual_block import ResidualBlock
from mmsb.models.kernels.dispatch import working_kernels
from mmsb.models.layers.widened_norm import split_norm


class FusedBlock(nn.Module):
    """Residual block for inference, with its widened norm split so that all norms can be folded.

    The maps' part of the widened norm moves into spatial bias, before the upsampling. This is
    exact: at inference a batch norm is affine per channel, and the weights of bilinear
    interpolation sum to one. The features' part can then be folded into their convolution.

    Args:
        block: A basic block or bottleneck in eval mode whose norms are batch norms. Its child
            modules are reused under the same names.
    """

    def __init__(self, block: ResidualBlock):
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        self.downsample = block.downsample
        self.num_layers = block.num_layers
        self.norm_names, self.plugin_names = block.norm_names, block.plugin_names
        self.spatial_bias_at = block.spatial_bias_at
        self.fast = False  # whether to use fast_forward; set after the norms are folded
        if self.spatial_bias_at:
            self.widened_layers = block.widened_layers
            name = self.widened_layers[0]
            num_maps = self.spatial_bias.num_channels
            features, self.spatial_bias.norm = split_norm(getattr(self, name), num_maps)
            setattr(self, name, features)
        self.training = False

    def forward(self, x: Tensor, overwrite: bool = False) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride).

        Args:
            x: The block's input.
            overwrite: Whether the output may be written over the input. Defaults to False.
        """
        out = fast_forward(self, x, overwrite) if self.fast else None
        return self._forward(x) if out is None else out

    def _forward(self, x: Tensor) -> Tensor:
        """Compute the block with PyTorch's operators."""
        out = x
        for i in range(1, self.num_layers + 1):
            y = getattr(self, self.norm_names[i - 1])(getattr(self, f'conv{i}')(out))
            if i == self.spatial_bias_at:
                out = self.spatial_bias.concatenate(y, out)
            else:
                out = self.relu(y) if i < self.num_layers else y
            for name in self.plugin_names[f'after_conv{i}']:
                out = getattr(self, name)(out)
        out = self.drop_path(out)
        out += x if self.downsample is None else self.downsample(x)
        out = self.relu(out)
        for name in self.plugin_names['after_block']:
            out = getattr(self, name)(out)
        return out


class FusedStage(nn.Sequential):
    """Stage of fused blocks, which write over the features between them.

    On a CPU it is faster to add to memory that is in use than to write to new memory. Nobody else
    has these features, unless a hook sees them.
    """

    def forward(self, x: Tensor) -> Tensor:
        seen = True
        for block in self:
            hooked = bool(block._forward_hooks or _global_forward_hooks)
            given = bool(block._forward_pre_hooks or _global_forward_pre_hooks)
            x = block(x, not (seen or hooked or given))
            seen = hooked
        return x


def is_folded(conv: nn.Module) -> bool:
    return type(conv) is nn.Conv2d and conv.bias is not None


def fits(block: FusedBlock) -> bool:
    """Tell whether :func:`fast_forward` supports this block."""
    convs = [getattr(block, f'conv{i}') for i in range(1, block.num_layers + 1)]
    norms = [getattr(block, name) for name in block.norm_names]
    fits = (
        all(map(is_folded, convs))
        and all(conv.padding_mode == 'zeros' for conv in convs)
        and all(isinstance(layer, nn.Identity) for layer in (*norms, block.drop_path))
        and not any(block.plugin_names.values())
    )
    if not block.spatial_bias_at:
        return fits
    layer = block.spatial_bias
    conv = layer.reduction.conv
    return (
        fits
        and layer.mixing is not None
        and layer.pool is F.adaptive_avg_pool2d
        and is_folded(conv)
        and conv.stride == (1, 1)
        and conv.out_channels % 16 == 0
    )


def fast_forward(block: FusedBlock, x: Tensor, overwrite: bool = False) -> Tensor | None:
    """Compute a block with cuDNN or oneDNN convolutions and, if available, our kernels.

    Args:
        block: A block with folded norms for which :func:`fits` is true.
        x: (B, in_channels, H, W).
        overwrite: Whether the output may be written over x. Defaults to False.

    Returns:
        The block's output, channels last, or None if PyTorch's operators are needed: on another
        device, for another dtype, with gradients, inside a compiler or tracer, or on a CPU if NaN
        or infinity can come up.
    """
    if (
        not (x.is_cuda or x.is_cpu)
        or torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
    ):
        return None
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    convolve = _convolution(block.conv1.weight, x, dtype)
    if convolve is None or (convolve is _onednn and not _stays_finite(block, x)):
        return None
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    shortcut = out = x
    for layer in block.downsample or ():
        overwrite = is_folded(layer)  # which makes a new tensor
        shortcut = convolve(layer, shortcut, relu=False) if overwrite else layer(shortcut)
    for i in range(1, block.num_layers + 1):
        conv = getattr(block, f'conv{i}')
        if i == block.spatial_bias_at:
            out = _concatenate(block.spatial_bias, conv, out, convolve)
        else:
            last = i == block.num_layers
            out = convolve(conv, out, shortcut if last else None, overwrite=overwrite)
    return out


def _concatenate(layer: nn.Module, conv: nn.Conv2d, x: Tensor, convolve: Callable) -> Tensor:
    """Concatenate a convolution's output and the maps made from its input, and apply ReLU."""
    kernels = _kernels(x.device.type)
    if kernels is None:
        return layer.concatenate(convolve(conv, x, relu=False), x)
    features = partial(convolve, conv, x, bias=False, relu=False)
    return layer.concatenate_in_kernels(features, conv.bias, x, kernels)


def _convolution(weight: Tensor, x: Tensor, dtype: torch.dtype) -> Callable | None:
    """Return the function that convolves x with such weights, or None for PyTorch's own.

    It takes a convolution, its input, and optionally a shortcut to add before the ReLU, which it
    may then overwrite if it is told so.
    """
    if type(x) is not Tensor or not x.numel():
        return None
    if x.is_cuda and torch.backends.cudnn.enabled and not torch.version.hip:
        return _cudnn if dtype in (torch.float32, torch.bfloat16, torch.float16) else None
    if x.is_cpu and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled:
        # inference tensors have no version counter, so a cached copy could become outdated
        plain = x.dtype is dtype is weight.dtype is torch.float32 and not weight.is_inference()
        return _onednn if plain else None
    return None


def _cudnn(
    conv: nn.Conv2d,
    x: Tensor,
    shortcut: Tensor | None = None,
    bias: bool = True,
    relu: bool = True,
    overwrite: bool = False,
) -> Tensor:
    weight = conv.weight.to(x.dtype)
    summand = conv.bias.to(x.dtype) if bias else None
    options = conv.stride, conv.padding, conv.dilation, conv.groups
    if not relu:
        return F.conv2d(x, weight, summand, *options)
    if shortcut is None:
        return torch.cudnn_convolution_relu(x, weight, summand, *options)
    return torch.cudnn_convolution_add_relu(x, weight, shortcut, 1, summand, *options)


def _onednn(
    conv: nn.Conv2d,
    x: Tensor,
    shortcut: Tensor | None = None,
    bias: bool = True,
    relu: bool = True,
    overwrite: bool = False,
) -> Tensor:
    summand = conv.bias if bias else None
    options = conv.padding, conv.stride, conv.dilation, conv.groups
    if shortcut is None:
        attribute = 'relu' if relu else 'none'
        return torch.ops.mkldnn._convolution_pointwise(
            x, _arranged(conv, x), summand, *options, attribute, [], ''
        )
    add, tensors = torch.ops.mkldnn._convolution_pointwise.binary, (x, shortcut)
    if overwrite:
        add, tensors = torch.ops.mkldnn._convolution_pointwise_.binary, (shortcut, x)
    return add(*tensors, _arranged(conv, x), summand, *options, 'add', None, 'relu', [], None)


# Per block: the state of its weights, and how much larger its features can be than its input.
_GROWTH: WeakKeyDictionary[FusedBlock, tuple[tuple, tuple[float, float]]] = WeakKeyDictionary()
_LARGEST = torch.finfo(torch.float32).max / 2


def _stays_finite(block: FusedBlock, x: Tensor) -> bool:
    """Tell whether no feature in the block can be NaN or infinite: oneDNN's ReLU turns NaN into 0.

    A pass over every convolution's output would cost up to 5 % of the time, as measured on
    ResNet-50; one sum over the block's input costs 1 %. The sum is NaN or infinite if an element
    is. It also bounds the elements, which a ReLU made 0 or more, and with the weights' sums all
    features in the block.
    """
    state = tuple((p.data_ptr(), p._version) for p in block.parameters())
    kept = _GROWTH.get(block)
    if kept is None or kept[0] != state:
        _GROWTH[block] = kept = state, _growth(block)
    factor, summand = kept[1]
    return abs(float(x.sum())) * factor + summand < _LARGEST  # false for NaN


def _growth(block: FusedBlock) -> tuple[float, float]:
    """Return f and s so that f * x + s bounds all features in a block with an input up to x."""

    def after(conv: nn.Conv2d, bound: tuple[float, float]) -> tuple[float, float]:
        factor = float(conv.weight.detach().abs().flatten(1).sum(1).max())
        return bound[0] * factor, bound[1] * factor + float(conv.bias.detach().abs().max())

    bounds = [(1.0, 0.0)]
    for layer in block.downsample or ():
        bounds.append(after(layer, bounds[-1]) if is_folded(layer) else bounds[-1])
    last = 1.0, 0.0
    for i in range(1, block.num_layers + 1):
        before, last = last, after(getattr(block, f'conv{i}'), last)
        if i == block.spatial_bias_at:
            layer = block.spatial_bias
            factor, summand = after(layer.reduction.conv, before)
            scale = float(layer.mixing.detach().abs().sum() * layer.scale.abs().max())
            bounds.append((factor, summand))
            bounds.append((factor * scale, summand * scale + float(layer.shift.abs().max())))
            last = last[0] + bounds[-1][0], last[1] + bounds[-1][1]
        bounds.append(last)
    factors, summands = zip(*bounds, strict=True)
    return sum(factors), sum(summands)


# Per convolution: the state of its weights, and a copy of them in oneDNN's order.
_ARRANGED: WeakKeyDictionary[nn.Conv2d, tuple[tuple, Tensor]] = WeakKeyDictionary()


def _arranged(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return the weights in oneDNN's order for inputs like x; oneDNN reorders them for others."""
    weight = conv.weight
    state = weight.data_ptr(), weight._version
    kept = _ARRANGED.get(conv)
    if kept is None or kept[0] != state:
        arranged = torch.ops.mkldnn._reorder_convolution_weight(
            weight.detach().contiguous(memory_format=torch.channels_last),
            conv.padding,
            conv.stride,
            conv.dilation,
            conv.groups,
            x.shape,
        )
        _ARRANGED[conv] = kept = state, arranged
    return kept[1]


@cache
def _kernels(device: str) -> ModuleType | None:
    """Return the kernel module for 'cuda' or 'cpu'; None, with a line in the log, if it fails."""
    name = {'cuda': 'spatial_bias_triton', 'cpu': 'spatial_bias_cpu'}[device]
    return working_kernels(name, device, _test, "a fused network's spatial bias layers run")


def _test(kernels: ModuleType, device: str) -> None:
    with torch.inference_mode():
        x, weight = torch.linspace(-1, 2, 512, device=device).view(2, 16, 16, 1, 1)
        bias, one = weight[0, :, 0, 0], x.new_ones(1, 1)
        ours = kernels.concatenate(lambda: x, bias, x, weight, bias, one, one, one, 1, 1, 8)
        maps = F.conv2d(x, weight, bias).relu()[:, :1] + 1
        features = (x + bias.view(-1, 1, 1)).relu()
        theirs = torch.cat([features, maps, maps.new_zeros(len(x), 7, 1, 1)], 1)
        if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2):  # some GPUs use TF32
            raise RuntimeError('they compute something else than the operators')
