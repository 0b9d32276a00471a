"""The mmsb command runs the tools, in a clone and from a wheel."""

import json
import subprocess
import sys

import pytest

from mmsb import __main__ as command
from tests.conftest import ROOT, TINY, assert_one_line, tool_environment


def test_every_command_has_its_tool(capsys, monkeypatch):
    for name, (script, what) in command.COMMANDS.items():
        if script is None:
            continue
        monkeypatch.setattr(sys, 'argv', ['mmsb'])
        with pytest.raises(SystemExit) as end:
            command.main([name, '--help'])
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith(f'usage: mmsb {name} '), (name, what)
    command.main([])
    listed = capsys.readouterr().out
    assert all(f'\n  {name} ' in listed for name in command.COMMANDS)


def test_configs_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = 'configs/sb_resnet50_a3-100e_in1k.py'
    assert command._config(config) == str(ROOT / config)
    assert command._config('configs/none.py') == 'configs/none.py'
    mini = 'faster_rcnn_sb_r18_fpn_mini_coco.py'
    assert command._config(mini) == str(ROOT / 'configs/mini' / mini)
    assert command._config('none.py') == 'none.py'
    (tmp_path / 'configs').mkdir()
    (tmp_path / config).write_text('')
    assert command._config(config) == config


def test_completion(capsys):
    """bash itself completes: commands first, then files."""
    command.main(['completion'])
    script = capsys.readouterr().out + 'compgen -W "$(complete -p mmsb | cut -d"\'" -f2)" -- pre'
    done = subprocess.run(['bash', '-c', script], capture_output=True, text=True)
    assert 'predict' in done.stdout.split()
    assert 'train' not in done.stdout.split()


def test_bad_input(tmp_path, capsys):
    main = command.main.__wrapped__
    assert_one_line(lambda: main(['trian']), "no command is named 'trian'")
    with pytest.raises(SystemExit):  # the launcher's own line
        main(['train', 'x.py', '--processes'])
    assert capsys.readouterr().err.startswith('error: usage: ')
    (tmp_path / 'training').mkdir()
    assert_one_line(lambda: main(['demo', str(tmp_path)]), 'exists: give another folder')


def test_demo(tmp_path):
    """From nothing to AP by one command, with a training that is much too short."""
    pytest.importorskip('mmdet')
    words = ['demo', 'out', '--train', 8, '--val', 4, '--json', '--cfg-options', *TINY]
    done = subprocess.run(
        [sys.executable, '-m', 'mmsb', *map(str, words)],
        cwd=tmp_path, env=tool_environment(''), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads(done.stdout)
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    assert (tmp_path / 'out/training/epoch_1.pth').is_file()
