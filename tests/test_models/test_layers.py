"""The compared layers: against loops in numpy, against mmcv and timm, and as plugins."""

import numpy as np
import pytest
import torch
from mmcv.cnn.bricks import NonLocal2d
from mmengine.logging import MMLogger
from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn

from mmsb.models import (
    BATBlock,
    ContextMixing,
    CoordinateAttention,
    EfficientAttention,
    GatherExcite,
    GlobalFilter,
    LargeKernelBlock,
    NonLocalBlock,
    SBResNet,
    SelectiveKernel,
    SqueezeExcitation,
    StyleRecalibration,
)
from mmsb.models.layers.fourier import depthwise_conv
from tests.conftest import assert_one_line
from tests.test_models.test_spatial_bias import bilinear
from tests.weights import randomise

SHAPES = [(1, 16, 14, 14), (2, 16, 9, 13), (2, 16, 3, 20), (1, 16, 1, 1)]
PLUGINS = dict(
    nl=dict(type='NonLocalBlock'),
    reduced_nl=dict(type='NonLocalBlock', size=10),
    bat=dict(type='BATBlock'),
    se=dict(type='SqueezeExcitation', ratio=4),
    srm=dict(type='StyleRecalibration'),
    ge=dict(type='GatherExcite', extent=7),
    gc=dict(type='ContextBlock', ratio=1 / 4),
    sk=dict(type='SelectiveKernel', groups=4),
    coordinate=dict(type='CoordinateAttention'),
    global_filter=dict(type='GlobalFilter', size=6),
    large_kernel=dict(type='LargeKernelBlock', kernel_size=15, reduction=2),
    efficient=dict(type='EfficientAttention'),
    context_mixing=dict(type='ContextMixing', kernel_size=3, groups=2),
)


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_current_instance().setLevel('WARNING')


def build(cls, **kwargs):
    return randomise(cls(16, **kwargs)).eval()


def arrays(module):
    """Parameters and buffers as numpy, the trailing 1x1 of convolutions dropped."""
    return {
        name: (tensor[:, :, 0, 0] if tensor.shape[2:] == (1, 1) else tensor).numpy()
        for name, tensor in module.state_dict().items()
    }


# ---------------------------------------------------------------- plain formulations, one image


def conv1x1(x, w, name):
    out = np.einsum('oc,c...->o...', w[f'{name}.weight'], x)
    bias = w.get(f'{name}.bias')
    return out if bias is None else out + bias.reshape(-1, *[1] * (x.ndim - 1))


def norm(x, w, name):
    scale = w[f'{name}.weight'] / np.sqrt(w[f'{name}.running_var'] + 1e-5)
    shift = w[f'{name}.bias'] - w[f'{name}.running_mean'] * scale
    shape = (-1, *[1] * (x.ndim - 1))
    return x * scale.reshape(shape) + shift.reshape(shape)


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cells(length, count):
    """Adaptive pooling's cells: floor(i L / n) to ceil((i + 1) L / n)."""
    return [slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def average_to(x, size):
    rows, columns = cells(x.shape[1], size), cells(x.shape[2], size)
    return np.stack([np.stack([x[:, r, c].mean((1, 2)) for c in columns], 1) for r in rows], 1)


def naive_non_local(x, w):
    theta, phi, g = (conv1x1(x, w, name) for name in ('theta', 'phi', 'g'))
    channels, height, width = theta.shape
    places = [(i, j) for i in range(height) for j in range(width)]
    y = np.empty_like(theta)
    for i, j in places:
        scores = [theta[:, i, j] @ phi[:, p, q] / np.sqrt(channels) for p, q in places]
        weights = np.exp(scores) / np.exp(scores).sum()
        y[:, i, j] = sum(a * g[:, p, q] for a, (p, q) in zip(weights, places, strict=True))
    return norm(conv1x1(y, w, 'z'), w, 'norm')


def naive_bat(x, w, s=7, k=4):
    def conv(y, name):
        return relu(norm(conv1x1(y, w, f'{name}.0'), w, f'{name}.1'))

    def attention(matrix, length, axis):
        """Pixel r is at place r % t of region r // t, and looks at that place only."""
        t = -(-length // s)
        whole = np.zeros((length, length))
        for r in range(length):
            for q in range(length):
                if r % t == q % t:
                    whole[r, q] = matrix[r // t, q // t]
        return whole / whole.sum(axis, keepdims=True)

    inner = conv(x, 'reduce')
    channels, height, width = inner.shape
    a = conv(inner, 'compress')
    rows = np.stack([a[:, r].max((1, 2)) for r in cells(height, s)], 1)  # (k, s)
    columns = np.stack([a[:, :, c].max((1, 2)) for c in cells(width, s)], 1)
    p = np.einsum('ocs,cs->o', w['to_p.weight'][..., 0], rows) + w['to_p.bias']
    q = np.einsum('ocs,cs->o', w['to_q.weight'][:, :, 0], columns) + w['to_q.bias']
    p, q = sigmoid(p).reshape(k, s, s), sigmoid(q).reshape(k, s, s)
    y = np.empty_like(inner)
    for c in range(channels):
        group = c // (channels // k)
        y[c] = attention(p[group], height, 1) @ inner[c] @ attention(q[group], width, 0)
    return x + conv(conv(y, 'transformed'), 'expand')


def naive_se(x, w):
    hidden = relu(conv1x1(x.mean((1, 2)), w, 'fc1'))
    return x * sigmoid(conv1x1(hidden, w, 'fc2'))[:, None, None]


def naive_srm(x, w):
    z = np.empty(len(x))
    for c, channel in enumerate(x):
        mean = channel.sum() / channel.size
        variance = ((channel - mean) ** 2).sum() / max(channel.size - 1, 1)
        z[c] = mean * w['weight'][c, 0] + np.sqrt(variance + 1e-5) * w['weight'][c, 1]
    return x * sigmoid(norm(z, w, 'norm'))[:, None, None]


def naive_gather_excite(x, w, extent):
    grid = average_to(x, extent)
    z = (grid * w['gather.weight'].reshape(grid.shape)).sum((1, 2)) + w['gather.bias']
    return x * sigmoid(norm(z, w, 'norm'))[:, None, None]


def naive_selective_kernel(x, w, groups, stride):
    paths = []
    for m in range(2):
        weight, reach = w[f'paths.{m}.conv.weight'], m + 1
        each = len(x) // groups
        out = np.zeros((len(x), -(-x.shape[1] // stride), -(-x.shape[2] // stride)))
        for o, i, j in np.ndindex(out.shape):
            for c in range(each):
                for p, q in np.ndindex(3, 3):
                    y, z = stride * i + reach * (p - 1), stride * j + reach * (q - 1)
                    if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                        out[o, i, j] += weight[o, c, p, q] * x[o // each * each + c, y, z]
        paths.append(relu(norm(out, w, f'paths.{m}.bn')))
    z = relu(norm(conv1x1((paths[0] + paths[1]).mean((1, 2)), w, 'reduce.conv'), w, 'reduce.bn'))
    first, second = (np.exp(conv1x1(z, w, f'select.{m}'))[:, None, None] for m in range(2))
    return (first * paths[0] + second * paths[1]) / (first + second)


def softmax(x, axis):
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


def hardswish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def naive_coordinate_attention(x, w):
    def gate(means, name):
        return sigmoid(
            conv1x1(hardswish(norm(conv1x1(means, w, 'reduce.0'), w, 'reduce.1')), w, name)
        )

    rows, columns = gate(x.mean(2), 'to_rows'), gate(x.mean(1), 'to_columns')
    return x * rows[:, :, None] * columns[:, None, :]


def cubic(length, count):
    """Matrix of bicubic interpolation (a = -0.75) with aligned ends and repeated borders."""
    matrix = np.zeros((count, length))
    for i in range(count):
        place = i * (length - 1) / (count - 1) if count > 1 else 0
        for j in range(int(place) - 1, int(place) + 3):
            d, a = abs(place - j), -0.75
            inner = (a + 2) * d**3 - (a + 3) * d**2 + 1
            outer = a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[i, min(max(j, 0), length - 1)] += inner if d <= 1 else outer if d < 2 else 0
    return matrix


def naive_global_filter(x, w):
    """Circular convolution with the kernel that has the factors as its spectrum."""
    _, height, width = x.shape
    half = width // 2 + 1
    real, imaginary = w['weight']
    if real.shape[1:] != (height, half):
        down, across = cubic(real.shape[1], height), cubic(real.shape[2], half)
        real, imaginary = down @ real @ across.T, down @ imaginary @ across.T
    kernel, out = np.zeros(x.shape), x.copy()
    for i, j, u, v in np.ndindex(height, width, height, half):
        angle = 2 * np.pi * (u * i / height + v * j / width)
        twice = 1 if v == 0 or 2 * v == width else 2  # the other half is its conjugate
        wave = real[:, u, v] * np.cos(angle) - imaginary[:, u, v] * np.sin(angle)
        kernel[:, i, j] += twice * wave / (height * width)
    y = norm(x, w, 'norm')
    for i, j in np.ndindex(height, width):
        out += kernel[:, i, j, None, None] * np.roll(y, (i, j), (1, 2))
    return out


def depthwise(x, weight):
    """Correlation with zeros around the map."""
    size, (_, height, width) = weight.shape[-1], x.shape
    padded = np.pad(x, [(0, 0), *[(size // 2, size // 2)] * 2])
    return sum(
        weight[:, 0, p, q, None, None] * padded[:, p : p + height, q : q + width]
        for p, q in np.ndindex(size, size)
    )


def naive_large_kernel(x, w):
    y = relu(norm(conv1x1(norm(x, w, 'expand.0'), w, 'expand.1'), w, 'expand.2'))
    large, small = (
        norm(depthwise(y, w[f'{k}.weight']), w, f'{k}_norm') for k in ('large', 'small')
    )
    return x + norm(conv1x1(relu(large + small), w, 'project.0'), w, 'project.1')


def naive_efficient_attention(x, w):
    q, k, v = (conv1x1(x, w, name).reshape(8, -1) for name in ('query', 'key', 'value'))
    attention = softmax(q, 0).T @ softmax(k, 1)  # every pixel's weights for every pixel
    np.testing.assert_allclose(attention.sum(1), 1)
    return x + conv1x1((v @ attention.T).reshape(8, *x.shape[1:]), w, 'z')


def naive_context_mixing(x, w, size=3, groups=2):
    reach, each = size // 2, len(x) // groups
    query, key = conv1x1(x, w, 'query'), conv1x1(average_to(x, 7), w, 'key')
    mixed = np.zeros_like(x)
    for c, i, j in np.ndindex(x.shape):
        group = slice(c // each * each, (c // each + 1) * each)
        affinity = np.einsum('c,crs->rs', query[group, i, j], key[group]).ravel() / each**0.5
        kernel = softmax(w['to_kernel.weight'] @ affinity + w['to_kernel.bias'], 0)
        for p, q in np.ndindex(size, size):
            y, z = i + p - reach, j + q - reach
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                mixed[c, i, j] += kernel[p * size + q] * x[c, y, z]
    return x + norm(conv1x1(mixed, w, 'z'), w, 'norm')


def check(layer, shape, naive):
    torch.manual_seed(1)
    x = torch.randn(shape, dtype=torch.float64)
    expected = np.stack([naive(image, arrays(layer)) for image in x.numpy()])
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('shape', SHAPES)
class TestAgainstPlainFormulations:
    def test_non_local(self, shape):
        check(build(NonLocalBlock), shape, lambda x, w: x + naive_non_local(x, w))

    def test_reduced_non_local(self, shape):
        def naive(x, w):
            y, out = naive_non_local(average_to(x, 5), w), x.copy()
            _, height, width = x.shape
            for i, j in np.ndindex(height, width):
                out[:, i, j] += bilinear(
                    y, (i + 0.5) * 5 / height - 0.5, (j + 0.5) * 5 / width - 0.5
                )
            return out

        check(build(NonLocalBlock, size=5), shape, naive)

    def test_bat(self, shape):
        check(build(BATBlock), shape, naive_bat)

    def test_se(self, shape):
        check(build(SqueezeExcitation, ratio=4), shape, naive_se)

    def test_srm(self, shape):
        check(build(StyleRecalibration), shape, naive_srm)

    def test_gather_excite(self, shape):
        check(build(GatherExcite, extent=7), shape, lambda x, w: naive_gather_excite(x, w, 7))

    def test_coordinate_attention(self, shape):
        check(build(CoordinateAttention), shape, naive_coordinate_attention)

    @pytest.mark.parametrize('size', [9, 14])  # the second that of a shape
    def test_global_filter(self, shape, size):
        check(build(GlobalFilter, size=size), shape, naive_global_filter)

    @pytest.mark.parametrize('size', [5, 13, 15, 31])  # the last two by FFT
    def test_large_kernel(self, shape, size):
        layer = build(LargeKernelBlock, kernel_size=size, small_kernel=3, reduction=2)
        check(layer, shape, naive_large_kernel)

    def test_efficient_attention(self, shape):
        check(build(EfficientAttention), shape, naive_efficient_attention)

    def test_context_mixing(self, shape):
        layer = build(ContextMixing, kernel_size=3, groups=2)
        check(layer, shape, naive_context_mixing)

    @pytest.mark.parametrize('stride', [1, 2])
    def test_selective_kernel(self, shape, stride):
        layer = build(SelectiveKernel, groups=4, stride=stride)
        check(layer, shape, lambda x, w: naive_selective_kernel(x, w, 4, stride))


class TestAgainstOthers:
    def setup_method(self):
        self.x = torch.randn(2, 16, 14, 14, dtype=torch.float64)

    def test_non_local_is_mmcvs(self):
        ours = build(NonLocalBlock)
        nn.init.zeros_(ours.z.bias)  # mmcv's has none before a norm
        theirs = NonLocal2d(16, norm_cfg=dict(type='BN')).double().eval()
        pairs = [(theirs.g.conv, ours.g), (theirs.theta.conv, ours.theta),
                 (theirs.phi.conv, ours.phi), (theirs.conv_out.norm, ours.norm)]  # fmt: skip
        for theirs_, ours_ in pairs:
            theirs_.load_state_dict(ours_.state_dict())
        theirs.conv_out.conv.load_state_dict(dict(weight=ours.z.weight))
        torch.testing.assert_close(ours(self.x), theirs(self.x))

    def test_non_local_is_timms(self):
        layers = pytest.importorskip('timm.layers')
        ours = build(NonLocalBlock)
        theirs = layers.NonLocalAttn(16, rd_channels=8).double().eval()
        for name in ('p', 'g', 'z', 'norm'):
            mine = dict(p='phi').get(name, name)
            getattr(theirs, name).load_state_dict(ours.get_submodule(mine).state_dict())
        with torch.no_grad():  # timm scales by 1 / sqrt(C), the paper's count says sqrt(C / 2)
            theirs.t.weight.copy_(ours.theta.weight * 2**0.5)
            theirs.t.bias.copy_(ours.theta.bias * 2**0.5)
        torch.testing.assert_close(ours(self.x), theirs(self.x))

    def test_bat_is_timms(self):
        layers = pytest.importorskip('timm.layers')
        ours = build(BATBlock)
        theirs = layers.BatNonLocalAttn(16, rd_channels=8, groups=4).double().eval()
        pairs = [(theirs.conv1, ours.reduce), (theirs.ba.conv1, ours.compress),
                 (theirs.ba.conv2, ours.transformed), (theirs.conv2, ours.expand)]  # fmt: skip
        for conv_norm, (conv, bn, _) in pairs:
            nn.init.zeros_(conv.bias)  # timm's have none
            conv_norm.conv.load_state_dict(dict(weight=conv.weight))
            conv_norm.bn.load_state_dict(bn.state_dict())
        theirs.ba.conv_p.load_state_dict(ours.to_p.state_dict())
        theirs.ba.conv_q.load_state_dict(ours.to_q.state_dict())
        torch.testing.assert_close(ours(self.x), theirs(self.x))

    def test_se_is_timms(self):
        layers = pytest.importorskip('timm.layers')
        ours = build(SqueezeExcitation, ratio=4)
        theirs = layers.SEModule(16, rd_channels=4).double().eval()
        for name in ('fc1', 'fc2'):
            state = getattr(ours, name).state_dict()
            state['weight'] = state['weight'][:, :, None, None]
            getattr(theirs, name).load_state_dict(state)
        torch.testing.assert_close(ours(self.x), theirs(self.x))

    def test_coordinate_attention_is_timms(self):
        layers = pytest.importorskip('timm.layers.coord_attn')
        ours = build(CoordinateAttention, ratio=2)
        theirs = layers.CoordAttn(16, rd_channels=8, bias=True).double().eval()
        conv, bn, _ = ours.reduce
        nn.init.zeros_(theirs.conv1.bias)  # ours has none before a norm
        theirs.conv1.load_state_dict(dict(conv.state_dict(), bias=theirs.conv1.bias))
        theirs.bn1.load_state_dict(bn.state_dict())
        theirs.conv_h.load_state_dict(ours.to_rows.state_dict())
        theirs.conv_w.load_state_dict(ours.to_columns.state_dict())
        torch.testing.assert_close(ours(self.x), theirs(self.x))


class TestLargeKernel:
    @pytest.mark.parametrize('size', [5, 31])
    def test_eval_computes_the_two_convolutions(self, size):
        layer = build(LargeKernelBlock, kernel_size=size, small_kernel=3)
        x = torch.randn(2, 16, 9, 20, dtype=torch.float64)
        merged = layer(x)
        layer.training = True  # its norms stay in eval mode
        torch.testing.assert_close(merged, layer(x))

    def test_gradients_by_fft_are_the_convolutions(self):
        x = torch.randn(2, 3, 20, 7, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(3, 1, 31, 31, dtype=torch.float64, requires_grad=True)
        ys = depthwise_conv(x, weight), nn.functional.conv2d(x, weight, padding=15, groups=3)
        out = torch.randn_like(x)
        ours, theirs = (torch.autograd.grad(y, (x, weight), out) for y in ys)
        torch.testing.assert_close(ours, theirs)


class TestSizes:
    def test_bat_at_multiples_of_seven_keeps_the_papers_numbers(self):
        # nothing is cropped or normalised again: to the bit
        logits = torch.randn(2, 7 * 7 * 4, 1, 1)
        layer = BATBlock(16)
        regions = logits.view(2, 4, 7, 7).sigmoid()
        regions = regions / regions.sum(3, keepdim=True)
        spread = layer._spread(logits, 28, 3)
        for a in range(4):
            assert torch.equal(spread[..., a::4, a::4], regions)
        assert spread.count_nonzero() == regions.numel() * 4

    def test_gather_excite_at_its_extent_is_the_papers(self):
        layer = build(GatherExcite, extent=7)
        x = torch.randn(2, 16, 7, 7, dtype=torch.float64)
        assert torch.equal(layer(x), x * layer.norm(layer.gather(x)).sigmoid())

    @pytest.mark.parametrize('length', [1, 5, 8, 20, 49])
    def test_bat_averages(self, length):
        # whatever the size, each pixel is an average of pixels: constants stay
        for dim in (2, 3):
            spread = BATBlock(16)._spread(torch.randn(1, 196, 1, 1), length, dim)
            assert spread.shape == (1, 4, length, length)
            torch.testing.assert_close(spread.sum(dim), torch.ones(1, 4, length))

    @pytest.mark.parametrize('length', [5, 14])
    def test_bat_of_saturated_sigmoids_is_finite(self, length):
        logits = torch.full((1, 196, 1, 1), -200.0, requires_grad=True)
        spread = BATBlock(16)._spread(logits, length, 3)
        spread.sum().backward()
        assert spread.isfinite().all() and logits.grad.isfinite().all()


class TestInitialisation:
    @pytest.mark.parametrize('name', ['nl', 'reduced_nl', 'gc'])
    def test_is_the_identity(self, name):
        layer = ROOT_MODELS.build(dict(in_channels=16, **PLUGINS[name]))
        x = torch.randn(2, 16, 5, 6)
        assert torch.equal(layer(x), x)

    @pytest.mark.parametrize('name', ['nl', 'reduced_nl', 'gc'])
    def test_is_the_identity_after_the_backbones(self, name):
        plugins = [dict(cfg=PLUGINS[name], position='after_block')]
        model = SBResNet(base_channels=8, plugins=plugins)
        model.init_weights()
        assert (model.layer1[0].bn1.weight == 1).all()
        plain = SBResNet(base_channels=8)
        plain.load_state_dict(model.state_dict(), strict=False)
        x = torch.rand(1, 3, 32, 48)
        assert torch.equal(model.eval()(x)[-1], plain.eval()(x)[-1])

    def test_non_local_convolutions(self):
        layer = NonLocalBlock(256)
        layer.init_weights()
        for conv in (layer.theta, layer.phi, layer.g, layer.z):
            assert conv.weight.std().item() == pytest.approx((2 / len(conv.weight)) ** 0.5, rel=0.1)
            assert (conv.bias == 0).all()

    def test_srm_weighs_nothing(self):
        layer = StyleRecalibration(16)
        x = torch.randn(2, 16, 5, 6)
        torch.testing.assert_close(layer(x), x / 2)


@pytest.mark.parametrize('name', PLUGINS)
class TestEveryLayer:
    def test_gradients_reach_everything(self, name):
        layer = randomise(ROOT_MODELS.build(dict(in_channels=16, **PLUGINS[name])).train())
        x = torch.randn(4, 16, 9, 13, dtype=torch.float64, requires_grad=True)
        (layer(x) * torch.randn(x.shape)).sum().backward()
        assert (x.grad != 0).any()
        # a bias that a norm takes off again, or that all of a softmax share, has no gradient
        idle = ('z.bias', 'g.bias', '0.bias', 'gather.bias', 'phi.bias', 'conv_mask.bias')
        for key, parameter in layer.named_parameters():
            assert parameter.grad is not None, key
            assert key.endswith(idle) or parameter.grad.abs().sum() > 1e-12, key

    def test_compiles_whole(self, name):
        layer = ROOT_MODELS.build(dict(in_channels=16, **PLUGINS[name])).eval()
        x = torch.randn(1, 16, 9, 13)
        compiled = torch.compile(layer, fullgraph=True, backend='eager', dynamic=False)
        torch.testing.assert_close(compiled(x), layer(x))

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    def test_half_precision_is_near_float64(self, name, dtype):
        layer = build_plugin(name)
        x = torch.randn(2, 16, 9, 13)
        with torch.autocast('cpu', dtype):
            rounded = layer.float()(x)
        exact = layer.double()(x.double())
        assert (rounded - exact).norm() / exact.norm() < 0.03

    def test_channels_last(self, name):
        layer = build_plugin(name)
        x = torch.randn(2, 16, 9, 13, dtype=torch.float64)
        torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x))

    def test_images_do_not_mix(self, name):
        layer = build_plugin(name)
        x = torch.randn(3, 16, 9, 13, dtype=torch.float64)
        torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))

    @pytest.mark.parametrize('depth', [18, 50])
    def test_in_any_stage_and_position_with_spatial_bias(self, name, depth):
        positions = ['after_block', *(f'after_conv{i + 1}' for i in range(2 if depth == 18 else 3))]
        if name in (
            'bat',
            'sk',
            'context_mixing',
        ):  # groups do not divide the 8 + 3 channels behind the maps
            positions.remove('after_conv1' if depth == 18 else 'after_conv2')
        plugins = [
            dict(cfg=dict(postfix=i, **PLUGINS[name]), position=position)
            for i, position in enumerate(positions)
        ]
        with torch.device('meta'):
            model = SBResNet(depth, dict(size=4), base_channels=16, plugins=plugins).eval()
            outs = model(torch.empty(1, 3, 50, 70))
        assert [tuple(out.shape[2:]) for out in outs] == [(13, 18), (7, 9), (4, 5), (2, 3)]


def build_plugin(name):
    return randomise(ROOT_MODELS.build(dict(in_channels=16, **PLUGINS[name]))).eval()


class TestPlugins:
    def test_after_block_stands_behind_the_last_relu(self):
        plugins = [dict(cfg=PLUGINS['se'], position='after_block')]
        block = randomise(SBResNet(base_channels=8, plugins=plugins)).eval().layer1[0]
        x = torch.randn(1, 8, 5, 6, dtype=torch.float64)
        expected = block(x)
        se, block.se = block.se, nn.Identity()
        whole = block(x)
        assert whole.min() == 0
        torch.testing.assert_close(se(whole), expected)

    def test_in_the_blocks_that_are_named(self):
        plugins = [
            dict(cfg=PLUGINS['nl'], position='after_block', blocks=blocks, stages=stages)
            for stages, blocks in [((False, True, False, False), (1, 3)),
                                   ((False, False, True, False), (1, 3, 5))]
        ]  # fmt: skip
        model = SBResNet(base_channels=8, plugins=plugins)
        found = [name for name, module in model.named_modules() if type(module) is NonLocalBlock]
        assert found == [f'layer{stage}.{block}.non_local'
                         for stage, block in [(2, 1), (2, 3), (3, 1), (3, 3), (3, 5)]]  # fmt: skip

    def test_gradient_checkpointing(self):
        plugins = [dict(cfg=PLUGINS['bat'], position='after_block')]
        x, grads = torch.rand(2, 3, 32, 32, dtype=torch.float64), []
        for with_cp in (False, True):
            model = SBResNet(18, base_channels=8, plugins=plugins, with_cp=with_cp)
            randomise(model).train()
            torch.manual_seed(0)
            model(x)[-1].sum().backward()
            grads.append([p.grad for p in model.parameters()])
        for plain, checkpointed in zip(*grads, strict=True):
            torch.testing.assert_close(plain, checkpointed)

    @pytest.mark.parametrize('freeze', [True, None])
    def test_frozen_with_their_stage(self, freeze):
        """If they are not new, as the switch says."""
        model = SBResNet(
            depth=18, base_channels=8, frozen_stages=1, freeze_spatial_bias=freeze,
            plugins=[dict(cfg=PLUGINS['nl'], position='after_block')],
        )  # fmt: skip
        learns = {p.requires_grad for p in model.layer1[0].non_local.parameters()}
        assert learns == {not freeze}
        assert all(p.requires_grad for p in model.layer2[0].non_local.parameters())

    def test_composed_with_every_layer(self):
        plugins = [
            dict(cfg=dict(cfg, postfix=name), position='after_conv3', blocks=(0,))
            for name, cfg in PLUGINS.items()
        ]
        model = SBResNet(base_channels=8, spatial_bias=dict(size=4), plugins=plugins).train()
        model.init_weights()
        sum(out.mean() for out in model(torch.rand(2, 3, 64, 48))).backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: BATBlock(12), 'BATBlock: 6 channels do not divide into 4 groups'),
        (lambda: BATBlock(16, groups=0), 'do not divide into 0 groups'),
        (lambda: ContextMixing(10), 'ContextMixing: 10 channels do not divide into 4 groups'),
        (lambda: LargeKernelBlock(8, 30), 'kernel_size 30 and small_kernel 5 must be odd'),
        (lambda: LargeKernelBlock(8, 3), 'the second at most the first'),
        (lambda: SelectiveKernel(48), '48 channels do not divide into 32 groups'),
        (lambda: plugged(position='after_conv4'), 'the position of a plugin is'),
        (lambda: plugged(depth=18, position='after_conv3'), "'after_conv2', 'after_block'"),
        (lambda: plugged(blocks=(1, 3)), 'are (1, 3), but stage 1 has blocks 0 to 2'),
        (lambda: plugged(blocks=(-1,)), 'stage 1 has blocks 0 to 2'),
        (lambda: plugged(block=(1,)), "a key of a plugin is 'block'"),
        (lambda: plugged(stages=(True,)), 'the stages of a plugin'),
        (lambda: plugged(cfg=PLUGINS['bat'], position='after_conv2'),
         'BATBlock: 5 channels do not divide into 4 groups'),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(make, message):
    assert_one_line(make, message)


def plugged(depth=50, **plugin):
    plugin = {'cfg': PLUGINS['se'], 'position': 'after_block', **plugin}
    return SBResNet(depth, base_channels=8, plugins=[plugin])
