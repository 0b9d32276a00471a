"""Backbones as folders and on the Hub, against the Hub's own mixin; ``torch.hub``."""

import http.server
import json
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch

from mmsb.models import SBResNet, SBResNet_CIFAR, SBSKNet, fuse_spatial_bias
from mmsb.utils.errors import UserError
from tests import readme
from tests.conftest import ROOT, assert_one_line, tool_environment

SMALL = dict(base_channels=8, out_indices=(1, 3))


def randomised(kind=SBResNet, *args, **kwargs):
    """A backbone in which every tensor, statistics and counters too, is random."""
    torch.manual_seed(0)
    backbone = kind(*args, **kwargs)
    for tensor in backbone.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) * (0.1 if tensor.is_floating_point() else 9))
    return backbone


def assert_same(found, wanted):
    found, wanted = found.state_dict(), wanted.state_dict()
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor), key


@pytest.fixture
def saved(tmp_path):
    backbone = randomised(depth=18, spatial_bias=dict(size=6, stages=(0, 1, 1, 0)), **SMALL)
    backbone.save_pretrained(tmp_path / 'sb')
    return backbone, tmp_path / 'sb'


@pytest.mark.parametrize(('kind', 'args', 'kwargs'), [
    (SBResNet, (50, None), SMALL),
    (SBResNet, (), dict(depth=50, deep_stem=True, avg_down=True, style='caffe', num_stages=3,
     base_channels=8, strides=(1, 2, 1), dilations=(1, 1, 2), out_indices=[2])),
    (SBResNet, (18,), dict(norm_cfg=dict(type='BN', momentum=0.2), plugins=[
        dict(cfg=dict(type='ContextBlock', ratio=0.25), stages=(False, True, True, False),
             position='after_conv2')], **SMALL)),
    (SBResNet_CIFAR, (20,), dict(in_channels=1)),
    (SBSKNet, (50,), dict(spatial_bias=dict(norm='all'), base_channels=64)),
])  # fmt: skip
def test_round_trip(kind, args, kwargs, tmp_path):
    backbone = randomised(kind, *args, **kwargs)
    backbone.save_pretrained(tmp_path / 'a/b')
    found = SBResNet.from_pretrained(tmp_path / 'a/b')
    assert type(found) is kind
    assert_same(found, backbone)
    channels = kwargs.get('in_channels', 3)
    images = torch.rand(1, channels, 64, 64)
    outs = [network.eval()(images) for network in (found, backbone)]
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))
    found.save_pretrained(tmp_path / 'again')
    for name in ('config.json', 'model.safetensors'):
        assert (tmp_path / 'again' / name).read_bytes() == (tmp_path / 'a/b' / name).read_bytes()


def test_the_mixin_of_the_hub_loads_it(saved, tmp_path):
    hub = pytest.importorskip('huggingface_hub')
    pytest.importorskip('safetensors')

    class Net(hub.PyTorchModelHubMixin, SBResNet):
        pass

    backbone, folder = saved
    net = Net.from_pretrained(folder)
    assert net.out_indices == (1, 3)
    assert_same(net, backbone)


def test_the_config_builds_it_in_a_toolbox(saved):
    from mmengine.registry import MODELS

    backbone, folder = saved
    config = json.loads((folder / 'config.json').read_text())
    config['init_cfg'] = dict(type='Pretrained', checkpoint=str(folder / 'model.safetensors'))
    built = MODELS.build(config)
    built.init_weights()
    assert_same(built, backbone)


def test_other_arguments(saved, tmp_path):
    _, folder = saved
    found = SBResNet.from_pretrained(folder, out_indices=(0,), frozen_stages=1)
    assert found.out_indices == (0,)
    assert found.freeze_spatial_bias  # trained weights, as by init_cfg
    plain = randomised(depth=18, spatial_bias=None, **SMALL)
    plain.save_pretrained(tmp_path / 'plain')
    grown = SBResNet.from_pretrained(tmp_path / 'plain', spatial_bias={})
    images = torch.rand(1, 3, 64, 64)
    for a, b in zip(grown.eval()(images), plain.eval()(images), strict=True):
        torch.testing.assert_close(a, b)
    assert_one_line(
        lambda: SBResNet.from_pretrained(folder, dephts=50), 'the arguments given do not fit'
    )
    assert_one_line(lambda: SBResNet.from_pretrained(folder, depth=34), 'of another depth')


def test_bad_folders(saved, tmp_path, monkeypatch):
    _, folder = saved

    def load():
        return SBResNet.from_pretrained(folder)

    for name in ('none', 'a/b/c', './sb/none'):
        assert_one_line(
            lambda name=name: SBResNet.from_pretrained(name),
            f'{name} does not exist: give a folder that save_pretrained wrote, or OWNER/NAME',
        )
    assert_one_line(lambda: SBSKNet.from_pretrained(folder), 'is of mmsb.SBResNet, not of SBSKNet')
    text = (folder / 'config.json').read_text()
    for wrong, message in (
        ('{', 'is no JSON of a backbone'),
        ('[1]', 'is no JSON of a backbone'),
        ('{"type": "mmsb.None"}', 'is of mmsb.None, not of SBResNet'),
    ):
        (folder / 'config.json').write_text(wrong)
        assert_one_line(load, message)
    (folder / 'config.json').write_text(text)
    content = (folder / 'model.safetensors').read_bytes()
    (folder / 'model.safetensors').write_bytes(content[:-9])
    assert_one_line(load, 'damaged')
    (folder / 'model.safetensors').unlink()
    assert_one_line(load, 'has no model.safetensors')
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert_one_line(lambda: SBResNet.from_pretrained('a/b'), 'pip install huggingface_hub')


def test_what_cannot_be_saved(tmp_path):
    backbone = SBResNet(18, **SMALL).eval()
    fuse_spatial_bias(backbone)
    assert_one_line(lambda: backbone.save_pretrained(tmp_path / 'a'), 'before it is fused')
    odd = SBResNet(18, None, norm_cfg=dict(type=torch.nn.BatchNorm2d), **SMALL)
    assert_one_line(lambda: odd.save_pretrained(tmp_path / 'a'), 'cannot hold an argument')
    assert not (tmp_path / 'a').exists()


class Hub(http.server.SimpleHTTPRequestHandler):
    """Serves a folder at OWNER/NAME/resolve/REVISION/FILE as the Hub does."""

    def translate_path(self, path):
        known = path.startswith(('/me/sb/resolve/main/', '/me/sb/resolve/v1/'))
        return super().translate_path(f'/{path.rpartition("/")[2] if known else "none"}')

    def end_headers(self):
        self.send_header('ETag', f'"{self.path.rpartition("/")[2]}"')
        self.send_header('X-Repo-Commit', '0' * 40)
        super().end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(saved, tmp_path, monkeypatch):
    """The Hub on this machine; the last folder that was saved is me/sb."""
    constants = pytest.importorskip('huggingface_hub.constants')
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Hub, directory=saved[1]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{server.server_port}'
    template = address + '/{repo_id}/resolve/{revision}/{filename}'
    monkeypatch.setattr(constants, 'ENDPOINT', address)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    yield saved[0]
    server.shutdown()
    server.server_close()


def test_from_the_hub(hub):
    assert_same(SBResNet.from_pretrained('me/sb'), hub)
    assert_same(SBResNet.from_pretrained('me/sb', revision='v1'), hub)
    arguments = {key: value for key, value in hub.to_config().items() if key != 'type'}
    for address in ('hf://me/sb', 'hf://me/sb/model.safetensors'):
        built = SBResNet(**arguments, pretrained=address)
        built.init_weights()
        assert_same(built, hub)
    assert_one_line(
        lambda: SBResNet.from_pretrained('me/other'),
        'config.json of me/other could not be downloaded from the Hugging Face Hub',
    )
    assert_one_line(lambda: SBResNet.from_pretrained('me/s--b'), 'is no model on the')


def test_without_a_network(monkeypatch, tmp_path):
    constants = pytest.importorskip('huggingface_hub.constants')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    assert_one_line(
        lambda: SBResNet.from_pretrained('me/sb'),
        'config.json of me/sb could not be downloaded from the Hugging Face Hub',
    )


def test_torch_hub_has_all_depths(monkeypatch):
    monkeypatch.setattr(SBResNet, 'init_weights', lambda self: None)
    with torch.device('meta'):
        for depth in SBResNet.arch_settings:
            net = torch.hub.load(str(ROOT), f'sb_resnet{depth}', source='local')
            assert (type(net), net.depth) == (SBResNet, depth)


def test_torch_hub_loads_weights(saved, tmp_path):
    import torchvision

    torch.manual_seed(0)
    plain = torchvision.models.resnet18()
    torch.save(plain.state_dict(), tmp_path / 'resnet18.pth')
    load = partial(torch.hub.load, str(ROOT), 'sb_resnet18', source='local')
    names, text = {}, readme.example('torch hub').replace('path/to/clone', str(ROOT))
    exec(text.replace('resnet50', 'resnet18').replace("='resnet", f"='{tmp_path}/resnet"), names)
    grown = names['backbone']
    images = torch.rand(1, 3, 64, 64)
    layers = torch.nn.Sequential(*list(plain.children())[:-2]).eval()
    torch.testing.assert_close(grown.eval()(images)[-1], layers(images))
    with pytest.raises(UserError, match='no weights are published'):
        load(pretrained=True)


def test_torch_hub_without_an_installation(tmp_path):
    """In another folder, with a Python that finds mmsb only through the clone."""
    code = (
        'import sys, torch; '
        'sys.path = [p for p in sys.path if "mmsb" not in p]; '
        'sys.meta_path = [f for f in sys.meta_path if "editable" not in str(f).lower()]; '
        'import importlib.util; assert importlib.util.find_spec("mmsb") is None; '
        f'net = torch.hub.load({str(ROOT)!r}, "sb_resnet18", source="local"); '
        'print([tuple(x.shape) for x in net.eval()(torch.rand(1, 3, 64, 64))])'
    )
    environment = {k: v for k, v in tool_environment('').items() if k != 'PYTHONPATH'}
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith('(1, 512, 2, 2)]')


def test_the_documentations_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(readme.example('folder'), names)
    torch.testing.assert_close(names['same'].state_dict(), names['backbone'].state_dict())
    assert names['same'].out_indices == (3,)
