"""Safe loading: mmengine's own checkpoints pass, code does not."""

import os
import pickle

import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import (
    check_checkpoint_file,
    checkpoint_keys,
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
    with safe_loading(), pytest.raises(pickle.UnpicklingError):
        torch.load('evil.pth')
    # also where it is asked to: OneDL's mmengine falls back to this
    with safe_loading(), pytest.raises((pickle.UnpicklingError, RuntimeError)):
        torch.load('evil.pth', weights_only=False)
    assert not os.path.exists('PWNED')


def test_nothing_is_left_behind(monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    with safe_loading():
        assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


def test_damaged_files(tmp_path):
    torch.save(dict(a=torch.zeros(1000)), tmp_path / 'whole.pth')
    check_checkpoint_file(str(tmp_path / 'whole.pth'))
    check_checkpoint_file('torchvision://resnet50')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'whole.pth').read_bytes()[:2000])
    (tmp_path / 'empty.pth').write_bytes(b'')
    for name, message in (('cut', 'cut short'), ('empty', 'cut short'), ('gone', 'not exist')):
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
