"""Spatial bias's kernels, Triton's on a CPU in its interpreter, and networks that take them."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmsb.models import SBResNet, fuse_spatial_bias
from mmsb.models.fusion import block as fused_block
from mmsb.models.fusion import fusing
from mmsb.models.kernels import dispatch
from mmsb.models.kernels.dispatch import padded_width
from tests.test_models.test_fusion.test_fusing import build

LAYOUTS = [torch.contiguous_format, torch.channels_last]
# (batch, channels, height, width, grid): a map smaller than the grid, one cell a program or a row
# of them, more channels and cells than a block holds, channels that fill none
SHAPES = [(2, 72, 23, 31, 10), (1, 8, 7, 9, 10), (26, 16, 5, 12, 10), (1, 16, 24, 22, 20)]


DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture
def triton_kernels():
    pytest.importorskip('triton')
    from mmsb.models.kernels import spatial_bias_triton

    with torch.device(DEVICE):
        yield spatial_bias_triton


@pytest.fixture
def cpu_kernels():
    if shutil.which(os.environ.get('CXX') or 'c++') is None:
        pytest.skip('needs a C++ compiler')
    from mmsb.models.kernels import spatial_bias_cpu

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield spatial_bias_cpu
    torch.set_num_threads(threads)


@pytest.fixture(params=['triton_kernels', 'cpu_kernels'])
def kernels(request):
    return request.getfixturevalue(request.param)


def assert_near(ours, exact, tolerance):
    exact = exact.cpu()
    assert (ours.double().cpu() - exact).norm() <= tolerance * exact.norm()


@pytest.mark.parametrize('memory_format', LAYOUTS)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 5e-6), (torch.bfloat16, 5e-3)])
@pytest.mark.parametrize('shape', SHAPES)
def test_each_triton_kernel(triton_kernels, shape, dtype, tolerance, memory_format):
    torch.manual_seed(0)
    batch, channels, *hw, size = shape
    cells = size * size
    x = torch.randn(batch, channels, *hw).to(dtype).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(16, channels, 1, 1) / channels**0.5, torch.randn(16)
    pooled = triton_kernels.pool(x, weight, bias, size)
    reduced = F.conv2d(x.double(), weight.double(), bias.double()).relu()
    assert_near(pooled, F.adaptive_avg_pool2d(reduced, size).flatten(2), tolerance)

    mixing, scale, shift = torch.randn(cells, 3, cells), torch.randn(3, 1), torch.randn(3, cells)
    maps = triton_kernels.mix(pooled, mixing.flatten(1), scale, shift, 3, 'ieee')
    conv = F.conv1d(pooled[:, :5].transpose(1, 2).double(), mixing.transpose(1, 2).double())
    assert_near(maps, conv.transpose(1, 2) * scale.double() + shift.double(), 1e-6)

    added = torch.randn(channels)
    joined = triton_kernels.join(x, added, maps, size, 8)
    features = x.double() + added.double()[:, None, None]
    upsampled = F.interpolate(maps.double().unflatten(2, (size, size)), hw, mode='bilinear')
    expected = F.pad(torch.cat([features, upsampled], dim=1), (0, 0, 0, 0, 0, 5)).relu()
    assert_near(joined, expected, tolerance)
    assert joined.is_contiguous(memory_format=torch.channels_last) and joined.dtype == dtype


@pytest.mark.parametrize('memory_format', LAYOUTS)
@pytest.mark.parametrize(('stride', 'taps'), [(1, 3), (2, 1)])
@pytest.mark.parametrize('shape', [*SHAPES, (3, 13, 1, 3, 2)])
def test_the_cpu_kernel(cpu_kernels, shape, stride, taps, memory_format):
    torch.manual_seed(0)
    batch, channels, *hw, size = shape
    cells = size * size
    x = torch.randn(batch, channels, *hw).contiguous(memory_format=memory_format)
    y = torch.randn(batch, 2 * channels + 3, *hw)[:, 3:, ::stride, ::stride]  # of no format
    weight, bias = torch.randn(16, channels, 1, 1) / channels**0.5, torch.randn(16)
    mixing, scale = torch.randn(cells, taps, cells), torch.randn(10, 1)
    shift, added = torch.randn(10, cells), torch.randn(2 * channels)
    ours = cpu_kernels.concatenate(
        lambda: y, added, x, weight, bias, mixing.flatten(1), scale, shift, size, 10, 13
    )
    assert ours.is_contiguous(memory_format=torch.channels_last)

    reduced = F.conv2d(x.double(), weight.double(), bias.double()).relu()
    pooled = F.adaptive_avg_pool2d(reduced, size).flatten(2)[:, : 9 + taps]
    mixed = F.conv1d(pooled.transpose(1, 2), mixing.transpose(1, 2).double()).transpose(1, 2)
    maps = (mixed * scale.double() + shift.double()).unflatten(2, (size, size))
    features = y.double() + added.double()[:, None, None]
    parts = features, F.interpolate(maps, y.shape[2:], mode='bilinear')
    assert_near(ours, F.pad(torch.cat(parts, dim=1), (0, 0, 0, 0, 0, 3)).relu(), 2e-6)
    with pytest.raises(ValueError, match='float32 on a CPU is expected'):
        cpu_kernels.concatenate(
            lambda: y, added, x.double(), weight, bias, mixing, scale, shift, size, 1, 1
        )


def by_operators(fused):
    """A copy of a fused network that takes PyTorch's operators."""
    network = copy.deepcopy(fused)
    for block in network.modules():
        if isinstance(block, fused_block.FusedBlock):
            block.fast = False
    return network


def relative_errors(outs, expected):
    return [
        ((out.double().cpu() - exact).norm() / exact.norm()).item()
        for out, exact in zip(outs, expected, strict=True)
    ]


@pytest.mark.parametrize('num_channels', [1, 3, 13])
def test_kernels_equal_the_operators(kernels, num_channels):
    device = 'cpu' if kernels.__name__.endswith('cpu') else DEVICE
    with torch.device('cpu'):
        model = build(dict(type='SBResNet', spatial_bias=dict(num_channels=num_channels)))
    layer = fuse_spatial_bias(model).layer2[1].spatial_bias.float().to(device)
    x, y = torch.randn(2, 2, 128, 15, 9, device=device)
    x[0, 3, 4, 5] = float('nan')  # where PyTorch's operators keep it, so do the kernels
    bias = torch.randn(128, device=device)
    with torch.no_grad():
        ours = layer.concatenate_in_kernels(lambda: y, bias, x, kernels)
        theirs = layer.concatenate(y + bias[:, None, None], x)
    assert theirs.isnan().any() and not theirs[1].isnan().any()
    joined = 128 + num_channels
    assert ours.shape == theirs.shape and not ours[:, joined:].any()
    ours, theirs = ours[:, :joined], theirs[:, :joined]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_padded_equals_unpadded(monkeypatch):
    model = build(dict(type='SBResNet', depth=50))
    image = torch.randn(1, 3, 40, 24, dtype=torch.float64)
    monkeypatch.setattr(fusing, '_width', lambda weight, *channels: padded_width(*channels))
    padded = fuse_spatial_bias(copy.deepcopy(model))
    assert [padded.layer1[0].conv3.in_channels, padded.layer3[0].conv3.in_channels] == [96, 272]
    with torch.no_grad():
        for ours, plain in zip(padded(image), model(image), strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ('options', 'fits'),
    [
        (dict(), True),
        (dict(spatial_bias=None), True),
        (dict(groups=8, base_width=32), True),
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
def test_which_blocks_have_the_fast_way(monkeypatch, options, fits):
    model = fuse_spatial_bias(SBResNet(50, base_channels=16, **options).eval())
    assert getattr(model.layer2[0], 'fast', False) == fits
    calls = []
    forward = fused_block.fast_forward

    def recorded(block, x, overwrite):
        out = forward(block, x, overwrite)
        calls.extend([out] * (block is model.layer2[0]))
        return out

    monkeypatch.setattr(fused_block, 'fast_forward', recorded)
    with torch.no_grad():
        outs = model(torch.rand(1, 3, 64, 64))
    assert [out.shape for out in calls] == [outs[1].shape] * fits


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(dispatch, 'print_log', lambda line, *_: lines.append(line))
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (8, 0))
    return lines


def test_says_where_triton_does_not_work(monkeypatch, said):
    monkeypatch.setitem(sys.modules, 'mmsb.models.kernels.spatial_bias_triton', None)
    assert fused_block._kernels.__wrapped__('cuda') is None
    (line,) = said
    assert 'run in PyTorch operators' in line and 'spatial_bias_triton' in line
    assert '\n' not in line


def test_one_switch_turns_all_kernels_off(monkeypatch, said):
    monkeypatch.setenv('MMSB_KERNELS', 'off')
    for device in ('cpu', 'cuda'):
        assert fused_block._kernels.__wrapped__(device) is None
        assert dispatch._kernels.__wrapped__(device) is None
    assert len(said) == 4 and all(line.startswith('MMSB_KERNELS=off: ') for line in said)


@pytest.mark.parametrize(
    ('compiler', 'reason'), [('no-such-c++', "'no-such-c++'"), ('false', 'false failed')]
)
def test_says_where_nothing_compiles(monkeypatch, tmp_path, said, compiler, reason):
    monkeypatch.setenv('CXX', compiler)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.delitem(sys.modules, 'mmsb.models.kernels.spatial_bias_cpu', raising=False)
    assert fused_block._kernels.__wrapped__('cpu') is None
    (line,) = said
    assert 'run in PyTorch operators' in line and reason in line and '\n' not in line
    assert not any((tmp_path / 'mmsb').iterdir())


def test_compiles_once(monkeypatch, tmp_path, cpu_kernels):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    library = cpu_kernels._compile()
    assert list(tmp_path.rglob('*')) == [tmp_path / 'mmsb', library]
    monkeypatch.setattr(subprocess, 'run', None)
    assert cpu_kernels._compile() == library


@pytest.fixture
def cached(monkeypatch, tmp_path, cpu_kernels):
    """A compiled library in a cache of its own, and how often it was compiled since."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    library = cpu_kernels._compile()
    content, calls = library.read_bytes(), []

    def run(command, **_):  # compiling takes seconds
        calls.append(command)
        Path(command[-1]).write_bytes(content[:-32])
        return subprocess.CompletedProcess(command, 0, '', '')

    monkeypatch.setattr(subprocess, 'run', run)
    monkeypatch.setattr(cpu_kernels, 'print_log', lambda line, *_: calls.append(line))
    return library, calls


def truncate(library):
    library.write_bytes(library.read_bytes()[:5000])


def make_link(library):
    library.rename(library.with_name('other.so'))
    library.symlink_to('other.so')


@pytest.mark.parametrize('spoil', [
    truncate, lambda library: library.write_bytes(b''), make_link,
    lambda library: library.chmod(0o777),
])  # fmt: skip
def test_a_spoilt_library_is_compiled_again(cached, cpu_kernels, spoil):
    library, calls = cached
    whole = library.read_bytes()
    spoil(library)
    assert cpu_kernels._compile() == library and len(calls) == 1
    assert not library.is_symlink() and library.read_bytes() == whole
    assert library.stat().st_mode & 0o022 == 0
    assert cpu_kernels._compile() == library and len(calls) == 1


def test_a_cache_that_others_can_write(cached, cpu_kernels, monkeypatch):
    library, calls = cached
    library.parent.chmod(0o777)
    cpu_kernels._compile()
    assert library.parent.stat().st_mode & 0o022 == 0 and not calls
    monkeypatch.setattr(os, 'getuid', lambda: 12345)
    with pytest.raises(PermissionError, match='belongs to another user'):
        cpu_kernels._compile()


def test_a_cache_that_cannot_be_used(cached, cpu_kernels, monkeypatch):
    """A file is where the folder should be, as a read-only home for everybody but root."""
    _, calls = cached
    home = Path(os.environ['TORCH_HOME'])
    monkeypatch.setenv('TORCH_HOME', str(home / 'mmsb' / 'file' / 'home'))
    (home / 'mmsb' / 'file').write_text('')
    assert cpu_kernels._load().concatenate
    _, line = calls
    assert 'cannot keep the compiled kernel' in line and 'set TORCH_HOME' in line


def test_a_compiler_of_two_words(cached, cpu_kernels, monkeypatch):
    _, calls = cached
    monkeypatch.setenv('CXX', 'ccache g++')
    cpu_kernels._compile()
    assert calls[0][:2] == ['ccache', 'g++']


def test_kernels_that_compute_something_else_are_not_used(cpu_kernels, monkeypatch, said):
    assert fused_block._kernels.__wrapped__('cpu') is cpu_kernels
    right = cpu_kernels.concatenate
    monkeypatch.setattr(cpu_kernels, 'concatenate', lambda *args: right(*args) + 0.1)
    assert fused_block._kernels.__wrapped__('cpu') is None
    assert 'they compute something else' in said[0]


@pytest.mark.parametrize('memory_format', LAYOUTS)
@pytest.mark.parametrize('compiler', [True, False])
@pytest.mark.parametrize(
    ('options', 'shape'),
    [
        (dict(depth=50), (1, 3, 97, 161)),
        (
            dict(depth=50, avg_down=True, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1)),
            (3, 3, 64, 64),
        ),
        (dict(depth=18, spatial_bias=dict(size=20)), (2, 3, 96, 64)),
        (dict(depth=50, spatial_bias=None), (2, 3, 64, 96)),
    ],
)
def test_network_on_a_cpu(monkeypatch, request, options, shape, compiler, memory_format):
    if compiler:
        request.getfixturevalue('cpu_kernels')
    else:
        monkeypatch.setattr(fused_block, '_kernels', lambda device: None)
    model = build(dict(type='SBResNet', **options))
    images = [torch.randn(*shape, dtype=torch.float64), torch.randn(1, 3, 40, 33).double()]
    with torch.no_grad():
        expected = [model(image) for image in images]
    model = fuse_spatial_bias(model).float().to(memory_format=memory_format)
    operators = by_operators(model)
    with torch.inference_mode():
        for image, exact in zip(images, expected, strict=True):  # the weights arranged once
            x = image.float().contiguous(memory_format=memory_format)
            errors = [relative_errors(network(x), exact) for network in (model, operators)]
            assert all(ours <= 2 * theirs for ours, theirs in zip(*errors, strict=True)), errors
        block = model.layer1[0]
        out = fused_block.fast_forward(block, torch.rand(1, 64, 9, 9))
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_only_features_that_nobody_else_has_are_overwritten(cpu_kernels, monkeypatch):
    model = fuse_spatial_bias(SBResNet(base_channels=8).eval())
    x = torch.randn(2, 32, 9, 7).contiguous(memory_format=torch.channels_last)
    block, kept, seen = model.layer1[1], x.clone(), {}

    def keep(name, tensor):
        seen.setdefault(name, (tensor, tensor.clone()))

    def after(module, args, out):
        keep(module, out)
        assert args[0].data_ptr() != out.data_ptr()

    with torch.no_grad():
        alone, over = block(x), block(x.clone(), overwrite=True)
        assert torch.equal(alone, over) and torch.equal(x, kept)
        assert block(x, overwrite=True).data_ptr() == x.data_ptr()

        image = torch.randn(2, 3, 64, 48)
        outs, kept = model(image), image.clone()
        model.layer2[0].register_forward_hook(after)  # a hook keeps what it sees
        model.layer3[2].register_forward_hook(after)
        model.layer2[3].register_forward_pre_hook(lambda module, args: keep(module, *args[:1]))
        hooked = model(image)
        monkeypatch.setattr(fused_block.FusedStage, 'forward', nn.Sequential.forward)
        separate = model(image)
    for three in zip(outs, hooked, separate, strict=True):
        assert all(torch.equal(out, three[0]) for out in three)
    assert torch.equal(image, kept) and len(seen) == 3
    for now, then in seen.values():
        assert torch.equal(now, then)


def test_a_profile_shows_the_kernel(cpu_kernels):
    block = fuse_spatial_bias(SBResNet(50, base_channels=16).eval()).layer1[1]
    with torch.no_grad(), torch.profiler.profile() as profiler:
        block(torch.rand(1, 64, 12, 12))
    assert 'mmsb::concatenate' in {event.key for event in profiler.key_averages()}


def test_weights_that_change_after_they_were_arranged():
    block = fuse_spatial_bias(SBResNet(50, base_channels=16).eval()).layer1[1]
    x = torch.rand(1, 64, 12, 12)
    with torch.no_grad():
        before = block(x)
        state = {name: 2 * tensor for name, tensor in block.state_dict().items()}
        block.load_state_dict(state)
        after = block(x)
        block.fast = False
        torch.testing.assert_close(after, block(x))
        assert (after - before).abs().max() > 0.1


@pytest.mark.parametrize('case', ['gradients', 'float64', 'autocast', 'no oneDNN', 'inference'])
def test_operators_where_a_cpu_has_no_fast_way(case):
    with torch.inference_mode(case == 'inference'):  # weights that do not tell when they change
        block = fuse_spatial_bias(SBResNet(50, base_channels=16).eval()).layer1[1]
    x = torch.rand(1, 64, 12, 12)
    if case == 'float64':
        block, x = block.double(), x.double()
    with (
        torch.set_grad_enabled(case == 'gradients'),
        torch.autocast('cpu', torch.bfloat16, enabled=case == 'autocast'),
        torch.backends.mkldnn.flags(enabled=case != 'no oneDNN'),
    ):
        assert fused_block.fast_forward(block, x) is None
        assert block(x).shape == x.shape


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


@pytest.mark.skipif(torch.cuda.is_available(), reason='networks run on the GPU itself')
@pytest.mark.parametrize(
    'options',
    [dict(avg_down=True), dict(spatial_bias=None), dict(depth=50, groups=8, base_width=32)],
)
def test_a_gpus_way_in_operators_of_a_cpu(monkeypatch, triton_kernels, options):
    def relu(x, weight, bias, *options):
        return F.conv2d(x, weight, bias, *options).relu()

    def add_relu(x, weight, z, alpha, bias, *options):
        return (F.conv2d(x, weight, bias, *options) + alpha * z).relu()

    monkeypatch.setattr(torch, 'cudnn_convolution_relu', relu)
    monkeypatch.setattr(torch, 'cudnn_convolution_add_relu', add_relu)
    monkeypatch.setattr(fused_block, '_convolution', lambda *_: fused_block._cudnn)
    monkeypatch.setattr(fused_block, '_kernels', lambda device: triton_kernels)
    stages = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))
    model = build({**dict(type='SBResNet', depth=18, base_channels=16), **stages, **options})
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = model(image)
        model = fuse_spatial_bias(model).float()
        networks = model, by_operators(model)
        errors = [relative_errors(network(image.float()), expected) for network in networks]
    assert all(ours <= 2 * theirs for ours, theirs in zip(*errors, strict=True)), errors


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
    slow = by_operators(fast)
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
            errors.append(relative_errors(outs[0] + outs[1], expected + expected))
        assert all(ours <= 2 * theirs for ours, theirs in zip(*errors, strict=True)), errors
    with torch.inference_mode():
        assert fused_block.fast_forward(fast.layer1[0], torch.rand(1, 64, 9, 9).cuda()) is not None


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
