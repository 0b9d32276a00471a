"""NaN and infinity in images and weights come out where the plain network has them."""

import copy
import io

import pytest
import torch

from mmsb.deployment.operators import ExportSafe, make_exportable
from mmsb.models import SBResNet, fuse_spatial_bias
from mmsb.models.fusion import block as fused_block
from tests.weights import randomise

NAN, INF = float('nan'), float('inf')
SMALL = dict(depth=50, base_channels=8, stem_channels=16)


@pytest.fixture(params=['default', None], scope='module', ids=['spatial bias', 'plain'])
def plain(request):
    """A ResNet-50 with spatial bias, or without."""
    torch.manual_seed(0)
    settings = {} if request.param == 'default' else dict(spatial_bias=None)
    return randomise(SBResNet(**SMALL, **settings)).float().eval()


@pytest.fixture(scope='module')
def ways(plain):
    """The network in each fast form that runs on a CPU."""
    return fast_forms(fuse_spatial_bias(copy.deepcopy(plain)))


def fast_forms(fused):
    import onnxruntime

    file, options = io.BytesIO(), onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with torch.no_grad():
        script = torch.jit.trace(fused, IMAGE, check_trace=False)
        with ExportSafe():
            torch.onnx.export(fused, IMAGE, file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), options)
    (image,) = session.get_inputs()
    return dict(
        fused=fused,
        torchscript=script,
        frozen=torch.jit.freeze(script),
        onnx=lambda x: [torch.from_numpy(y) for y in session.run(None, {image.name: x.numpy()})],
    )


IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def with_pixel(value):
    image = IMAGE.clone()
    image[1, 0, 20, 30] = value
    return image


IMAGES = dict(
    finite=IMAGE, nan=with_pixel(NAN), all_nan=IMAGE * NAN, inf=with_pixel(INF),
    minus_inf=with_pixel(-INF), all_inf=IMAGE * INF, large=with_pixel(1e30),
)  # fmt: skip


def marks(features):
    """Per feature map: where it is NaN, and where it is infinite."""
    return [(x.isnan(), x.isinf()) for x in features]


def assert_same_marks(ours, theirs):
    for (nan, inf), (plain_nan, plain_inf) in zip(marks(ours), marks(theirs), strict=True):
        assert torch.equal(nan, plain_nan) and torch.equal(inf, plain_inf)


@pytest.mark.parametrize('name', IMAGES)
@torch.no_grad()
def test_images(plain, ways, name):
    theirs = plain(IMAGES[name])
    assert any(not x.isfinite().all() for x in theirs) == (name not in ('finite', 'large'))
    for way in ('fused', 'torchscript', 'frozen'):
        assert_same_marks(ways[way](IMAGES[name]), theirs)
    # ONNX Runtime's max pooling passes NaN over, its other operators do not
    for ours, x in zip(ways['onnx'](IMAGES[name]), theirs, strict=True):
        assert torch.equal(ours.isfinite().flatten(1).all(1), x.isfinite().flatten(1).all(1))


# name of a parameter: the value of one of its elements
WEIGHTS = {
    'layer1.1.conv1.weight': NAN, 'layer3.0.conv2.weight': NAN, 'layer4.2.conv3.weight': INF,
    'layer2.1.bn3.bias': NAN, 'layer3.1.bn1.running_var': NAN, 'layer4.0.downsample.0.weight': NAN,
}  # fmt: skip


@pytest.mark.parametrize('name', WEIGHTS)
@torch.no_grad()
def test_weights(plain, name):
    broken = copy.deepcopy(plain)
    broken.state_dict()[name].view(-1)[0] = WEIGHTS[name]
    theirs = broken(IMAGE)
    assert not theirs[-1].isfinite().all()
    assert_same_marks(fuse_spatial_bias(broken)(IMAGE), theirs)


def assert_same_images_in_files(fused, theirs):
    """Compare the files that mmsb's export writes with the plain network, image by image."""
    make_exportable(fused)
    forms = fast_forms(fused)
    for way in ('torchscript', 'frozen', 'onnx'):
        for ours, x in zip(forms[way](IMAGE), theirs, strict=True):
            assert torch.equal(ours.isfinite().flatten(1).all(1), x.isfinite().flatten(1).all(1))


@pytest.mark.parametrize('name', ['layer3.0.conv2.weight', 'layer3.0.spatial_bias.mixing.weight'])
@torch.no_grad()
def test_weights_in_files(plain, name):
    broken = copy.deepcopy(plain)
    if name not in broken.state_dict():
        pytest.skip('the plain network has no such weights')
    broken.state_dict()[name].view(-1)[0] = NAN
    theirs = broken(IMAGE)
    assert_same_images_in_files(fuse_spatial_bias(broken), theirs)
    assert [bool(x.isfinite().all()) for x in theirs] == [True, True, False, False]


@torch.no_grad()
def test_overflow(plain):
    """Images and weights are finite, features within a block are not."""
    broken = copy.deepcopy(plain)
    broken.layer2[1].conv1.weight *= 1e30
    broken.layer2[1].conv2.weight *= 1e30
    theirs = broken(IMAGE)
    assert [bool(x.isfinite().all()) for x in theirs] == [True, False, False, False]
    fused = fuse_spatial_bias(broken)
    for x, y in zip(fused(IMAGE), theirs, strict=True):
        assert torch.equal(x.isnan().flatten(1).any(1), y.isnan().flatten(1).any(1))
    assert_same_images_in_files(fused, theirs)


@torch.no_grad()
def test_finite_features_stay_fast(plain, ways, monkeypatch):
    """The check does not send ordinary images the slow way, and notices changed weights."""
    slow = []
    monkeypatch.setattr(fused_block.FusedBlock, '_forward', lambda self, x: slow.append(self) or x)
    fused = copy.deepcopy(ways['fused'])
    fused(IMAGE)
    assert not slow
    fused.layer4[2].conv2.weight.view(-1)[0] = NAN
    fused(IMAGE)
    assert len(slow) == 1 and slow[0] is fused.layer4[2]
