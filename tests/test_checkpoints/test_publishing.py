"""Publishing: what is kept, what is left out, and that others can load it."""

import hashlib
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmsb import __version__
from mmsb.checkpoints.model_folder import publish_to_hub
from mmsb.checkpoints.publishing import publish_checkpoint
from mmsb.engine.training_log import read_log
from mmsb.models import SBResNet
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_checkpoint_file
from tests.conftest import MINI_SB, ROOT, TINY, assert_one_line


@pytest.fixture(scope='module')
def trained(run_here, tmp_path_factory):
    """A checkpoint of a training with averaged weights."""
    pytest.importorskip('mmdet')
    work = tmp_path_factory.mktemp('work')
    config = work / 'averaged.py'
    hooks = [dict(type='EMAHook', momentum=0.5)]
    config.write_text(f'_base_ = {str(ROOT / MINI_SB)!r}\ncustom_hooks = {hooks}')
    run_here('python', 'tools/train.py', config, '--work-dir', work, '--cfg-options', *TINY)
    return work / 'epoch_1.pth'


def test_of_a_training(trained, run_here, tmp_path):
    done = run_here(
        'python', 'tools/model_converters/publish_model.py', trained, tmp_path / 'sb.pth'
    )
    (path,) = tmp_path.iterdir()
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert path.name == f'sb-{digits}.pth'
    assert done.stdout.splitlines()[-1] == str(path)
    assert 'left out: message_hub, optimizer, param_schedulers, ema_state_dict' in done.stdout
    assert '(averaged, EMAHook)' in done.stdout

    before = torch.load(trained, weights_only=False)
    code = (  # in a Python in which nothing more than torch's own names is allowed
        f'import torch; found = torch.load({str(path)!r}, weights_only=True); '
        "print(sorted(found), found['meta']['dataset_meta']['classes'][0])"
    )
    printed = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout
    assert printed.split('\n')[0] == "['meta', 'state_dict'] person"
    after = torch.load(path, weights_only=True)
    assert after['state_dict'].keys() == before['state_dict'].keys()
    averaged, trained_on = before['state_dict'], before['ema_state_dict']
    name = 'backbone.layer1.0.conv1.weight'
    assert torch.equal(after['state_dict'][name], averaged[name])
    assert not torch.equal(averaged[name], trained_on[f'module.{name}'])
    for name in ('cfg', 'seed', 'epoch', 'mmengine_version', 'dataset_meta'):
        assert after['meta'][name] == before['meta'][name]
    assert after['meta']['mmsb_version'] == __version__

    file = tmp_path / 'metrics.json'
    run_here(
        'python', 'tools/test.py', MINI_SB, path, '--work-dir', tmp_path / 'w',
        '--metrics-out', file, '--cfg-options', *TINY,
    )  # fmt: skip
    validation = read_log(trained.parent).val[-1]
    metrics = json.loads(file.read_text())
    classwise = {name for name in metrics if name.endswith('_precision')}  # of the test alone
    assert 'coco/bbox_mAP' in metrics.keys() - classwise and 'coco/person_precision' in classwise
    for name in metrics.keys() - classwise:
        assert metrics[name] == validation[name]


def test_safetensors_are_the_same_checkpoint(trained, run_here, tmp_path):
    tool = 'tools/model_converters/publish_model.py'
    run_here('python', tool, trained, tmp_path / 'a.safetensors')
    run_here('python', tool, trained, tmp_path / 'b', '--format', 'safetensors')
    a, b = sorted(tmp_path.iterdir())
    digits = hashlib.sha256(a.read_bytes()).hexdigest()[:8]
    assert (a.name, b.name) == (f'a-{digits}.safetensors', f'b-{digits}.safetensors')
    wanted = torch.load(publish_checkpoint(trained, tmp_path / 'c.pth'), weights_only=True)
    found = load_checkpoint_file(a)
    assert found['meta'] == json.loads(json.dumps(wanted['meta']))  # tuples are lists
    assert found['meta']['dataset_meta']['classes'][0] == 'person'
    package = pytest.importorskip('safetensors.torch')
    for state in (found['state_dict'], package.load_file(a)):
        assert state.keys() == wanted['state_dict'].keys()
        for key, tensor in wanted['state_dict'].items():
            assert state[key].dtype == tensor.dtype and torch.equal(state[key], tensor)

    metrics = []
    for path in (a, next(tmp_path.glob('c-*.pth'))):
        out = tmp_path / f'{path.stem}.json'
        run_here(
            'python', 'tools/test.py', MINI_SB, path, '--work-dir', tmp_path / 'w',
            '--metrics-out', out, '--cfg-options', *TINY,
        )  # fmt: skip
        metrics.append(json.loads(out.read_text().replace('NaN', 'null')))
    assert metrics[0] == metrics[1]


def test_endings(tmp_path):
    source = save(tmp_path / 'in.pth')
    assert publish_checkpoint(source, tmp_path / 'v1.2', format='pth').name.startswith('v1.2-')
    for name, format in (('x.pth', 'safetensors'), ('x.safetensors', 'pth')):
        assert_one_line(
            lambda name=name, format=format: publish_checkpoint(
                source, tmp_path / name, format=format
            ),
            f'does not end as --format {format} says: give NAME.{format}',
        )
    odd = save(tmp_path / 'odd.pth', meta=dict(odd=torch.ones(1)))
    assert_one_line(lambda: publish_checkpoint(odd, tmp_path / 'x.safetensors'), 'meta holds what')


# ----------------------------------------------------------------------- for the Hub


def test_folder_for_the_hub(trained, run_here, tmp_path):
    (tmp_path / 'm.json').write_text('{"coco/bbox_mAP": 0.25, "nothing": NaN}')
    done = run_here(
        'python', 'tools/model_converters/publish_model.py', trained, tmp_path / 'out',
        '--to-hub', 'me/sb-mini', '--dry-run', '--metrics', tmp_path / 'm.json',
        '--license', 'apache-2.0',
    )  # fmt: skip
    assert 'not uploaded to me/sb-mini (--dry-run)' in done.stdout
    (whole,) = (tmp_path / 'out').glob('sb-mini-*.pth')
    names = {'README.md', 'config.json', 'config.py', 'model.safetensors', whole.name}
    assert {path.name for path in (tmp_path / 'out').iterdir()} == names

    state = torch.load(trained, weights_only=False)['state_dict']
    backbone = SBResNet.from_pretrained(tmp_path / 'out')
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, state[f'backbone.{key}'])
    wanted = Config.fromfile(ROOT / MINI_SB).model.backbone
    found = Config.fromfile(tmp_path / 'out/config.py').model.backbone
    assert found == wanted
    arguments = json.loads((tmp_path / 'out/config.json').read_text())
    assert arguments == json.loads(json.dumps({k: wanted[k] for k in wanted if k != 'init_cfg'}))

    card = (tmp_path / 'out/README.md').read_text()
    for block in re.findall('```python\n(.*?)```', card, re.DOTALL):
        compile(block, 'card', 'exec')
    assert f'sb-mini/{whole.name}' in card and "from_pretrained('me/sb-mini')" in card
    hub = pytest.importorskip('huggingface_hub')
    data = hub.ModelCard.load(tmp_path / 'out/README.md').data  # the Hub's own reader
    assert (data.license, data.library_name) == ('apache-2.0', 'mmsb')
    assert data.pipeline_tag == 'object-detection'
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ('coco/bbox_mAP', 0.25)
    assert result.dataset_name == 'CocoDataset'


def test_a_backbone_of_others_is_left_out(tmp_path):
    text = "model = dict(type='FasterRCNN', backbone=dict(type='ResNet', depth=18))"
    source = tmp_path / 'in.pth'
    torch.save(dict(state_dict={'backbone.a': torch.ones(1)}, meta=dict(cfg=text)), source)
    lines = []
    publish_to_hub(source, tmp_path / 'out', 'me/r18', dry_run=True, log=lines.append)
    assert lines[0].startswith('left out: config.json and model.safetensors')
    card = (tmp_path / 'out/README.md').read_text()
    assert 'from_pretrained' not in card and 'None is given for the weights' in card


def test_upload(tmp_path, monkeypatch):
    """What would be sent, with the real package's signatures; nothing is."""
    hub = pytest.importorskip('huggingface_hub')
    calls = []

    def recorded(name):
        signature = inspect.signature(getattr(hub.HfApi, name))

        def call(*args, **kwargs):
            calls.append((name, signature.bind(*args, **kwargs).arguments))
            return 'https://hub/me/sb'

        return call

    for name in ('create_repo', 'upload_folder'):
        monkeypatch.setattr(hub.HfApi, name, recorded(name))
    lines = []
    publish_to_hub(save(tmp_path / 'in.pth'), tmp_path / 'out', 'me/sb', log=lines.append)
    (_, made), (_, sent) = calls
    assert made['repo_id'] == sent['repo_id'] == 'me/sb' and made['exist_ok']
    assert sent['folder_path'] == tmp_path / 'out'
    assert lines[-1].startswith('https://hub/me/sb: README.md, sb-')


def test_what_the_hub_cannot_get(tmp_path, monkeypatch):
    source = save(tmp_path / 'in.pth')
    out = tmp_path / 'out'
    (tmp_path / 'a.json').write_text('[1]')
    for name, options, message in (
        ('sb', {}, 'sb is no model on the Hugging Face Hub: give OWNER/NAME'),
        ('me/s b', {}, 'is no model on the Hugging Face Hub'),
        ('me/sb', dict(metrics=tmp_path / 'none'), 'none cannot be read'),
        ('me/sb', dict(metrics=tmp_path / 'a.json'), 'holds no numbers by name'),
        ('me/sb', dict(metrics=source), 'is no JSON'),
    ):
        assert_one_line(
            lambda name=name, options=options: publish_to_hub(source, out, name, **options), message
        )
    monkeypatch.setattr('mmsb.utils.hub.importlib.util.find_spec', lambda name: None)
    assert_one_line(lambda: publish_to_hub(source, out, 'me/sb'), 'pip install huggingface_hub')
    assert not out.exists()
    monkeypatch.undo()
    constants = pytest.importorskip('huggingface_hub.constants')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setenv('HF_TOKEN', 'hf_none')
    assert_one_line(lambda: publish_to_hub(source, out, 'me/sb', log=len), 'could not be uploaded')
    assert_one_line(lambda: publish_to_hub(source, out, 'me/sb'), 'give the name of a new folder')


def save(path, **content):
    torch.save(dict(state_dict={'a': torch.arange(3.0)}, **content), path)
    return path


def test_the_name_is_the_contents(tmp_path):
    first = publish_checkpoint(save(tmp_path / 'a.pth', epoch=1), tmp_path / 'x.pth')
    again = publish_checkpoint(save(tmp_path / 'b.pth', optimizer={}), tmp_path / 'deep/y.pth')
    assert first.name[1:] == again.name[1:]
    other = publish_checkpoint(save(tmp_path / 'c.pth', meta=dict(epoch=2)), tmp_path / 'x.pth')
    assert other.name != first.name
    with pytest.raises(UserError, match=rf'{first.name} exists: .* --force'):
        publish_checkpoint(tmp_path / 'a.pth', tmp_path / 'x.pth')
    assert publish_checkpoint(tmp_path / 'a.pth', tmp_path / 'x.pth', force=True) == first


def test_numpy_in_the_facts(tmp_path):
    meta = dict(dataset_meta=dict(palette=np.array([[1, 2]]), classes=('a',)), lr=np.float64(0.5))
    path = publish_checkpoint(save(tmp_path / 'a.pth', meta=meta), tmp_path / 'x.pth')
    found = torch.load(path, weights_only=True)['meta']
    assert found == dict(
        dataset_meta=dict(palette=[[1, 2]], classes=('a',)), lr=0.5, mmsb_version=__version__
    )
    assert type(found['dataset_meta']['palette']) is list


class Malicious:
    def __reduce__(self):
        return print, ('PWNED',)


@pytest.mark.parametrize(('content', 'target', 'message'), [
    (dict(model={}), 'x.pth', 'has no state_dict: give a checkpoint from training'),
    ([1], 'x.pth', 'has no state_dict'),
    (dict(state_dict={}, hook=Malicious()), 'x.pth', 'refused: .* pickled code'),
    (dict(state_dict={}), 'x.zip', r'x\.zip is not .* give NAME\.pth or NAME\.safetensors'),
    (None, 'x.pth', 'in.pth is damaged or cut short'),
])  # fmt: skip
def test_what_cannot_be_published(tmp_path, capsys, content, target, message):
    torch.save(content, tmp_path / 'in.pth')
    if content is None:
        (tmp_path / 'in.pth').write_bytes((tmp_path / 'in.pth').read_bytes()[:200])
    with pytest.raises(UserError, match=message) as error:
        publish_checkpoint(tmp_path / 'in.pth', tmp_path / target)
    assert '\n' not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']
    assert 'PWNED' not in capsys.readouterr().out
