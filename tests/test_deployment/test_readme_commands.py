"""README's way out of the framework, line by line."""

import runpy
import shlex
import sys

import pytest

from tests import readme
from tests.conftest import ROOT


def test_from_a_checkpoint_to_metrics_of_int8(tiny, data, tmp_path, monkeypatch, capsys):
    pytest.importorskip('mmseg')
    config, checkpoint = tiny('mmseg')
    names = {
        'configs/fpn_sb_r50_40k_ade20k-512x512.py': config,
        'work_dirs/fpn_sb_r50_40k_ade20k-512x512/iter_40000.pth': checkpoint,
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMSB_ADE20K_ROOT', data['mmseg'])
    workers = [f'{name}_dataloader.num_workers=0' for name in ('val', 'test')]
    lines = [readme.command('export'), readme.command('quantize'), readme.command('test onnx')]
    more = ['--shape', '64', '96'], ['--cfg-options', *workers], ['--cfg-options', *workers]
    for line, flags in zip(lines, more, strict=True):
        _, tool, *args = shlex.split(line)
        args = [names.get(arg, arg) for arg in args]
        monkeypatch.setattr(sys, 'argv', [tool, *args, *flags])
        runpy.run_path(str(ROOT / tool), run_name='__main__')
    assert {path.name for path in tmp_path.iterdir()} == {'sb.onnx', 'sb_int8.onnx'}
    assert capsys.readouterr().out.splitlines()[-3].startswith('aAcc')
