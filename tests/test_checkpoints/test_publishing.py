"""Publishing: what is kept, what is left out, and that others can load it."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from mmsb import __version__
from mmsb.checkpoints.publishing import publish_checkpoint
from mmsb.engine.training_log import read_log
from mmsb.utils.errors import UserError
from tests.conftest import MINI_SB, ROOT, TINY


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
    (dict(state_dict={}), 'x.zip', r'x\.zip is not a checkpoint name: give NAME\.pth'),
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
