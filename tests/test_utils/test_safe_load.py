"""Safe loading: mmengine's own checkpoints pass, code does not."""

import gzip
import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OneCycleLR
from mmengine.optim.scheduler import OneCycleParamScheduler

from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import (
    check_checkpoint_file,
    checkpoint_keys,
    load_checkpoint_file,
    load_pickle,
    pretrained_files,
    safe_loading,
)


def test_what_mmengine_saves_loads(tmp_path):
    hub = MessageHub('test')
    hub.update_scalar('train/loss', 1.5)
    hub.update_scalar('train/loss', torch.tensor(0.5))
    hub.update_info('epoch', 3)
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = dict(
        state_dict=model.state_dict(), optimizer=optimizer.state_dict(), meta=dict(epoch=3),
        message_hub=hub.state_dict(),
    )  # fmt: skip
    torch.save(content, tmp_path / 'epoch_3.pth')
    with safe_loading():
        loaded = torch.load(tmp_path / 'epoch_3.pth')
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer) and history.mean() == 1.0


class Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('content', [
    Call(os.mkdir, 'PWNED'),
    Call(getattr, str, 'format'),
    Call(getattr, HistoryBuffer, '__init__'),
    Call(eval, '1'),
])  # fmt: skip
def test_code_does_not(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(value=content), 'evil.pth')
    with safe_loading(), pytest.raises(UserError, match='pickled code'):
        torch.load('evil.pth')
    # also where it is asked to: OneDL's mmengine falls back to this
    with safe_loading(), pytest.raises(UserError, match='pickled code'):
        torch.load('evil.pth', weights_only=False)
    # nor because others allow getattr, as OneDL's mmengine does
    torch.serialization.add_safe_globals([getattr, eval])
    try:
        with safe_loading(), pytest.raises(UserError, match='pickled code'):
            torch.load('evil.pth')
        assert {getattr, eval} <= {*torch.serialization.get_safe_globals()}
    finally:
        torch.serialization.clear_safe_globals()
    assert not os.path.exists('PWNED')


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_pickles_of_data_load(tmp_path, protocol):
    content = [dict(boxes=torch.ones(2, 4), labels=np.arange(3), score=np.float32(0.5), id=1,
                    mask=torch.eye(3, dtype=torch.bool), names=('a', None), bf=b'x')]  # fmt: skip
    path = tmp_path / 'predictions.pkl'
    path.write_bytes(pickle.dumps(content, protocol))
    (found,) = load_pickle(path)
    assert torch.equal(found['boxes'], torch.ones(2, 4)) and found['mask'].sum() == 3
    assert found['labels'].tolist() == [0, 1, 2] and found['score'] == 0.5
    inner = io.BytesIO()  # code in a tensor's own pickle, inside the pickle
    torch.save(Call(os.abort), inner)
    evil = [Call(os.abort), Call(torch.storage._load_from_bytes, inner.getvalue())]
    for one in evil:
        path.write_bytes(pickle.dumps([one], protocol))
        with pytest.raises(UserError, match=r'predictions\.pkl cannot be read'):
            load_pickle(path)


def test_nothing_is_left_behind(monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    load = torch.load
    with safe_loading():
        assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'
        with safe_loading():
            pass
        assert torch.load is not load
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ and torch.load is load


@pytest.mark.parametrize('name', ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', 'both'])
def test_the_environment_cannot_switch_it_off(tmp_path, monkeypatch, name):
    """torch refuses every file when both variables are set, and runs code with this one alone."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    if name == 'both':
        monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    monkeypatch.chdir(tmp_path)
    torch.save(dict(a=torch.zeros(1)), 'good.pth')
    torch.save(dict(value=Call(os.mkdir, 'PWNED')), 'evil.pth')
    assert checkpoint_keys('good.pth') == ['a']
    with safe_loading(), pytest.raises(UserError, match='pickled code'):
        torch.load('evil.pth')
    assert not os.path.exists('PWNED')
    assert os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] == '1'


def rewritten(path, old: bytes, new: bytes):
    """A checkpoint with another pickle in it."""
    out = path.with_stem(f'{path.stem}_')
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(out, 'w') as after:
        for name in before.namelist():
            content = before.read(name)
            if name.endswith('data.pkl'):
                assert old in content
                content = content.replace(old, new)
            after.writestr(name, content)
    return out


@pytest.mark.parametrize('theirs', ['core', '_core'])
def test_both_numpys_files_load(tmp_path, theirs):
    """numpy 1 and 2 write other names for the functions that rebuild arrays and scalars."""
    mine = f'numpy.{"_" * (np.__version__ >= "2")}core.multiarray'
    arrays = dict(scalar=np.float64(1.5), array=np.arange(3, dtype=np.uint32), flag=np.bool_(True))
    torch.save(dict(meta=arrays), tmp_path / 'mine.pth')
    path = rewritten(
        tmp_path / 'mine.pth', f'c{mine}\n'.encode(), f'cnumpy.{theirs}.multiarray\n'.encode()
    )
    loaded = load_checkpoint_file(path)['meta']
    assert loaded['scalar'] == 1.5 and loaded['array'].tolist() == [0, 1, 2] and loaded['flag']
    # only these two functions of the module
    evil = rewritten(path, b'multiarray\nscalar', b'multiarray\nfromfile')
    with pytest.raises(UserError, match=r'pickled code \(numpy\._?core\.multiarray\.fromfile'):
        load_checkpoint_file(evil)


def test_one_cycle_states_load(tmp_path):
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)
    for strategy in ('cos', 'linear'):
        scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=20, anneal_strategy=strategy)
        torch.save(dict(param_schedulers=[scheduler.state_dict()]), tmp_path / 'a.pth')
        (state,) = load_checkpoint_file(tmp_path / 'a.pth')['param_schedulers']
        function = getattr(OneCycleParamScheduler, f'_annealing_{strategy}')
        assert state['anneal_func'] is function


def other_files():
    """Files that are given in place of a checkpoint, and what the error calls them."""
    numbers = io.BytesIO()
    np.savez(numbers, a=np.zeros(3))
    program = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), program)
    archive, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('folder/model.pth', b'x')
    with tarfile.open(fileobj=tar, mode='w') as file:
        file.addfile(tarfile.TarInfo('pickle'))
    return {
        'empty': (b'', 'is empty'),
        'npz': (numbers.getvalue(), 'numpy archive'),
        'npy': (b'\x93NUMPY\x01\x00', 'numpy array'),
        'jit': (program.getvalue(), 'TorchScript program: give the checkpoint'),
        'zip': (archive.getvalue(), r'zip archive: unpack it .*, folder/model\.pth'),
        'tar': (tar.getvalue(), 'tar archive'),
        'lfs': (b'version https://git-lfs.github.com/spec/v1\noid sha256:4d', 'git lfs pull'),
        'html': (b'\n<!DOCTYPE html><html>', 'web page'),
        'text': (b'model = dict()\n', 'text file'),
        'gzip': (gzip.compress(b'x'), 'compressed'),
        'noise': (bytes(range(1, 255)), 'unknown, not a checkpoint'),
    }


@pytest.mark.parametrize('kind', other_files())
def test_other_files_are_named(tmp_path, kind):
    content, message = other_files()[kind]
    (tmp_path / 'model.pth').write_bytes(content)
    for load in (check_checkpoint_file, load_checkpoint_file):
        with pytest.raises(UserError, match=message) as error:
            load(str(tmp_path / 'model.pth'))
        assert '\n' not in str(error.value) and 'model.pth' in str(error.value)


def test_a_plain_pickle_of_arrays(tmp_path):
    """As in Detectron2's model zoo, from Python 2 or 3."""
    content = dict(model={'stem.conv1.weight': np.ones((2, 3), np.float32)}, __author__='x')
    for protocol in (2, 4):
        (tmp_path / 'R-50.pkl').write_bytes(pickle.dumps(content, protocol))
        found = load_checkpoint_file(tmp_path / 'R-50.pkl')
        assert found['model']['stem.conv1.weight'].sum() == 6
    (tmp_path / 'R-50.pkl').write_bytes(pickle.dumps(dict(model=Call(os.abort))))
    with pytest.raises(UserError, match=r'R-50\.pkl cannot be read: it holds pickled code'):
        load_checkpoint_file(tmp_path / 'R-50.pkl')


def test_a_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / 'model.pth')
    with pytest.raises(UserError, match=r'Linear\).*torch\.save\(model\.state_dict\(\)'):
        load_checkpoint_file(tmp_path / 'model.pth')


def test_damaged_files(tmp_path):
    torch.save(dict(a=torch.zeros(1000)), tmp_path / 'whole.pth')
    check_checkpoint_file(str(tmp_path / 'whole.pth'))
    check_checkpoint_file('torchvision://resnet50')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'whole.pth').read_bytes()[:2000])
    (tmp_path / 'empty.pth').write_bytes(b'')
    for name, message in (('cut', 'cut short'), ('empty', 'is empty'), ('gone', 'not exist')):
        with pytest.raises(UserError, match=message):
            check_checkpoint_file(str(tmp_path / f'{name}.pth'))


@pytest.mark.parametrize('legacy', [False, True])
def test_keys(tmp_path, legacy):
    state = dict(a=torch.zeros(3), b=torch.ones(2))
    for name, content in (('bare', state), ('whole', dict(state_dict=state, meta=dict(epoch=1)))):
        path = str(tmp_path / name)
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        assert checkpoint_keys(path) == ['a', 'b']
    torch.save([1, 2], tmp_path / 'list', _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match='holds a list, not weights'):
        checkpoint_keys(str(tmp_path / 'list'))
    torch.save(Call(eval, '1'), tmp_path / 'evil', _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match='pickled code'):
        checkpoint_keys(str(tmp_path / 'evil'))


def test_pretrained_files_of_an_init_cfg():
    pretrained = dict(type='Pretrained', checkpoint='a.pth')
    others = [dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', val=1)]
    assert pretrained_files(None) == pretrained_files(others) == []
    assert pretrained_files(pretrained) == pretrained_files([*others, pretrained]) == ['a.pth']
