"""Spatial bias's Triton kernels, on a CPU in Triton's interpreter, and networks on a GPU."""

import copy
import sys

import pytest
import torch
import torch.nn.functional as F

from mmsb.models import SBResNet, fuse_spatial_bias, fused_block, fusing
from tests.test_models.test_fusing import build

LAYOUTS = [torch.contiguous_format, torch.channels_last]
# (batch, channels, height, width, grid): a map smaller than the grid, one cell a program or a row
# of them, more channels and cells than a block holds, channels that fill none
SHAPES = [(2, 72, 23, 31, 10), (1, 8, 7, 9, 10), (26, 16, 5, 12, 10), (1, 16, 24, 22, 20)]


DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture
def kernels():
    pytest.importorskip('triton')
    from mmsb.models.layers import spatial_bias_triton

    with torch.device(DEVICE):
        yield spatial_bias_triton


def assert_near(ours, exact, tolerance):
    exact = exact.cpu()
    assert (ours.double().cpu() - exact).norm() <= tolerance * exact.norm()


@pytest.mark.parametrize('memory_format', LAYOUTS)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 5e-6), (torch.bfloat16, 5e-3)])
@pytest.mark.parametrize('shape', SHAPES)
def test_each_kernel(kernels, shape, dtype, tolerance, memory_format):
    torch.manual_seed(0)
    batch, channels, *hw, size = shape
    cells = size * size
    x = torch.randn(batch, channels, *hw).to(dtype).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(16, channels, 1, 1) / channels**0.5, torch.randn(16)
    pooled = kernels.pool(x, weight, bias, size)
    reduced = F.conv2d(x.double(), weight.double(), bias.double()).relu()
    assert_near(pooled, F.adaptive_avg_pool2d(reduced, size).flatten(2), tolerance)

    mixing, scale, shift = torch.randn(cells, 3, cells), torch.randn(3, 1), torch.randn(3, cells)
    maps = kernels.mix(pooled, mixing.flatten(1), scale, shift, 3)
    conv = F.conv1d(pooled[:, :5].transpose(1, 2).double(), mixing.transpose(1, 2).double())
    assert_near(maps, conv.transpose(1, 2) * scale.double() + shift.double(), 1e-6)

    added = torch.randn(channels)
    joined = kernels.join(x, added, maps, size, 8)
    features = x.double() + added.double()[:, None, None]
    upsampled = F.interpolate(maps.double().unflatten(2, (size, size)), hw, mode='bilinear')
    expected = F.pad(torch.cat([features, upsampled], dim=1), (0, 0, 0, 0, 0, 5)).relu()
    assert_near(joined, expected, tolerance)
    assert joined.is_contiguous(memory_format=memory_format) and joined.dtype == dtype


@pytest.mark.parametrize('num_channels', [1, 3, 13])
def test_kernels_equal_the_operators(kernels, num_channels):
    with torch.device('cpu'):
        model = build(dict(type='SBResNet', spatial_bias=dict(num_channels=num_channels)))
    layer = fuse_spatial_bias(model).layer2[1].spatial_bias.float().to(DEVICE)
    x, y = torch.randn(2, 128, 15, 9), torch.randn(2, 128, 15, 9)
    bias = torch.randn(128)
    with torch.no_grad():
        ours = layer.concatenate_in_kernels(y, bias, x, kernels)
        theirs = layer.concatenate(y + bias[:, None, None], x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_padded_equals_unpadded(monkeypatch):
    model = build(dict(type='SBResNet', depth=50))
    image = torch.randn(1, 3, 40, 24, dtype=torch.float64)
    monkeypatch.setattr(fusing, '_width_multiple', lambda weight: 16)
    padded = fuse_spatial_bias(copy.deepcopy(model))
    assert [padded.layer1[0].conv3.in_channels, padded.layer3[0].conv3.in_channels] == [80, 272]
    with torch.no_grad():
        for ours, plain in zip(padded(image), model(image), strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ('options', 'fits'),
    [
        (dict(), True),
        (dict(spatial_bias=None), True),
        (dict(spatial_bias=dict(pooling='max')), False),
        (dict(spatial_bias=dict(resolution='strided')), False),
        (dict(spatial_bias=dict(fusion='add', num_channels=1)), False),
        (dict(drop_path_rate=0.5), False),
        (dict(norm_cfg=dict(type='IN', affine=True)), False),
        (
            dict(plugins=[dict(cfg=dict(type='ContextBlock', ratio=0.25), position='after_conv2')]),
            False,
        ),
    ],
)
def test_which_blocks_have_the_fast_way(options, fits):
    model = fuse_spatial_bias(SBResNet(50, base_channels=16, **options).eval())
    assert (model.layer2[0].fused_forward is not None) == fits
    assert model.layer2[0].fused_forward is None or model(torch.rand(1, 3, 32, 32))  # on a CPU


def test_says_where_triton_does_not_work(monkeypatch):
    lines = []
    monkeypatch.setattr(fused_block, 'print_log', lambda line, *_: lines.append(line))
    monkeypatch.setitem(sys.modules, 'mmsb.models.layers.spatial_bias_triton', None)
    assert fused_block.triton_kernels.__wrapped__() is None
    (line,) = lines
    assert 'without its Triton kernels' in line and '\n' not in line


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


@pytest.fixture
def exact_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize('memory_format', LAYOUTS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ('depth', 'size', 'shape'),
    [(50, 10, (1, 3, 97, 161)), (50, 10, (26, 3, 64, 64)), (18, 20, (2, 3, 224, 192))],
)
def test_network_on_a_gpu(exact_float32, depth, size, shape, dtype, memory_format):
    """As near to float64 as PyTorch's operators come in the same type."""
    model = build(dict(type='SBResNet', depth=depth, spatial_bias=dict(size=size)))
    image = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        expected = model(image)
    fast = fuse_spatial_bias(model.cuda().float()).to(memory_format=memory_format)
    slow = copy.deepcopy(fast)
    for block in slow.modules():
        if hasattr(block, 'fused_forward'):
            block.fused_forward = None
    x = image.float().cuda()
    strided = x.repeat_interleave(2, dim=3)[..., ::2]
    for inputs in (x.contiguous(memory_format=memory_format), strided):
        errors = []
        for network in (fast, slow):
            cast = copy.deepcopy(network).to(dtype)
            with torch.inference_mode():
                outs = [cast(inputs.to(dtype))]
                with torch.autocast('cuda', dtype, enabled=dtype is not torch.float32):
                    outs.append(network(inputs))
            errors.append([
                ((out.double().cpu() - exact).norm() / exact.norm()).item()
                for features in outs for out, exact in zip(features, expected, strict=True)
            ])  # fmt: skip
        assert all(ours <= 2 * theirs for ours, theirs in zip(*errors, strict=True)), errors
    with torch.inference_mode():
        assert (
            fast.layer1[0].fused_forward(fast.layer1[0], torch.rand(1, 64, 9, 9).cuda()) is not None
        )


@pytest.mark.cuda
@cuda
def test_gradients_and_graphs_on_a_gpu(exact_float32):
    model = fuse_spatial_bias(build(dict(type='SBResNet')).float().cuda())
    image = torch.randn(2, 3, 64, 96, device='cuda', requires_grad=True)
    model(image)[-1].sum().backward()  # the operators one by one
    assert image.grad.abs().sum() > 0
    with torch.inference_mode():
        static = image.detach().clone()
        for _ in range(2):
            model(static)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            recorded = model(static)[-1]
        other = torch.randn_like(static)
        static.copy_(other)
        graph.replay()
        torch.testing.assert_close(recorded, model(other)[-1])
