"""What holds for every miniature but COCO's, which has tests of its own."""

import hashlib
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from mmsb.utils.errors import UserError

TOOLS = Path(__file__).parents[3] / 'tools/dataset_tools'
SMALL = {  # arguments of the function, flags of the tool
    'ade20k': (dict(num_train=5, num_val=4, size=(64, 80)), '--train 5 --val 4 --size 64 80'),
    'imagenet': (dict(num_train=2, num_val=1, size=(64, 72)), '--train 2 --val 1 --size 64 72'),
    'cifar100': (dict(num_train=2, num_val=1), '--train 2 --val 1'),
}


def digests(root):
    files = sorted(p for p in Path(root).rglob('*') if p.is_file())
    return {str(p.relative_to(root)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


@pytest.fixture
def module(name):
    return importlib.import_module(f'mmsb.datasets.miniatures.{name}')


@pytest.fixture
def make(name, module):
    """Draws a small one; keyword arguments change it."""

    def run(out, **changed):
        return getattr(module, f'make_mini_{name}')(out, **{**SMALL[name][0], **changed})

    return run


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """One of each, made once; not to be changed."""
    folder = tmp_path_factory.mktemp('drawn')
    for name, (arguments, _) in SMALL.items():
        module = importlib.import_module(f'mmsb.datasets.miniatures.{name}')
        getattr(module, f'make_mini_{name}')(folder / name, **arguments)
    return folder


@pytest.fixture
def copy(drawn, name, tmp_path):
    """One that a test may change."""
    return shutil.copytree(drawn / name, tmp_path / 'mini')


def pictures(found):
    """Of the digests those that hold pictures."""
    return {k: v for k, v in found.items() if not k.endswith(('.json', '.txt', 'meta'))}


def test_same_bytes_whoever_draws(drawn, name, make, tmp_path):
    first = digests(drawn / name)
    assert digests(make(tmp_path / 'b', num_workers=3)) == first
    other = digests(make(tmp_path / 'c', seed=1))
    assert set(other) == set(first)
    assert not set(pictures(other).values()) & set(pictures(first).values())
    assert len(set(pictures(first).values())) == len(pictures(first))  # all differ


def test_record_lists_every_file(drawn, name):
    found = digests(drawn / name)
    found.pop('miniature.json')
    record = json.loads((drawn / name / 'miniature.json').read_text())
    assert record['files'] == found
    assert record['recipe']['seed'] == 0 and record['recipe']['num_train'] in (2, 5)


def test_what_is_there_is_kept_or_refused(copy, make, module):
    before, said = digests(copy), []
    make(copy, log=said.append)
    assert said == [f'already there: {copy}']
    with pytest.raises(UserError, match=r'another miniature .*; redraw it with --force'):
        make(copy, seed=1)
    assert digests(copy) == before
    make(copy, seed=1, force=True)
    assert digests(copy) != before
    victim = sorted(copy.rglob('*'), key=lambda p: (p.is_file(), p.name != 'miniature.json'))[-1]
    victim.write_bytes(b'damaged')
    with pytest.raises(UserError, match='incomplete'):
        make(copy, seed=1)
    victim.unlink()
    with pytest.raises(UserError, match='incomplete'):
        make(copy, seed=1)
    assert digests(make(copy, force=True)) == before
    (copy / 'notes.txt').write_text('mine')
    for force in (False, True):
        with pytest.raises(UserError, match=r'something other than a miniature .*; not touched'):
            make(copy, force=force)
    assert (copy / 'notes.txt').read_text() == 'mine'
    assert [p.name for p in copy.parent.iterdir()] == ['mini']


def test_another_data_set_is_never_replaced(drawn, name, make, tmp_path):
    for other in SMALL.keys() - {name}:
        out = shutil.copytree(drawn / other, tmp_path / other)
        with pytest.raises(UserError, match='not touched'):
            make(out, force=True)
        assert digests(out) == digests(drawn / other)


def test_the_real_one_is_never_replaced(make, tmp_path):
    path = tmp_path / 'data/train/image.jpg'
    path.parent.mkdir(parents=True)
    path.write_bytes(b'real')
    for record in (None, '[]', '{"half', '{"name": "mine", "recipe": {}, "files": {}}'):
        if record:
            (tmp_path / 'data/miniature.json').write_text(record)
        with pytest.raises(UserError, match='not touched'):
            make(tmp_path / 'data', force=True)
    assert path.read_bytes() == b'real'
    with pytest.raises(UserError, match='not touched'):
        make(path)  # not a folder


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError(28, 'No space left on device')])
@pytest.mark.parametrize('redraw', [False, True])
def test_interruption_leaves_nothing(
    drawn, name, make, module, tmp_path, monkeypatch, error, redraw
):
    out, calls, draw = tmp_path / 'mini', [], module._draw_image
    if redraw:
        shutil.copytree(drawn / name, out)

    def stop_at_last(*args, **kwargs):
        calls.append(args)
        if len(calls) == 9:  # some are written
            raise error
        return draw(*args, **kwargs)

    monkeypatch.setattr(module, '_draw_image', stop_at_last)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt):
        make(out, seed=2, force=redraw)
    assert [p.name for p in tmp_path.iterdir()] == ['mini'] * redraw
    assert digests(out) == (digests(drawn / name) if redraw else {})


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'num_train': 0}, 'train images must be within 1 and'),
        ({'num_val': -3}, r'(val|test) images must be within 1 and \d+, got -3'),
        ({'seed': -1}, 'seed must be within'),
        ({'num_workers': 0}, 'workers must be within'),
    ],
)
def test_bad_arguments(make, tmp_path, wrong, message):
    with pytest.raises(UserError, match=message) as error:
        make(tmp_path / 'deep/out', **wrong)
    assert '\n' not in str(error.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('name', 'size', 'message'),
    [
        ('ade20k', (20, 100), 'height must be within 64 and 4096, got 20'),
        ('ade20k', (100, 5000), 'width must be within 64 and 4096, got 5000'),
        ('imagenet', (20, 100), 'size must be within 64 and 4096, got 20 100'),
        ('imagenet', (100, 80), 'size must be given smallest first, got 100 80'),
    ],
)
def test_bad_sizes(make, tmp_path, size, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path / 'out', size=size)
    assert not any(tmp_path.iterdir())


def test_sheet(drawn, name, module, tmp_path):
    module.draw_sheet(drawn / name, tmp_path / 'sheet.png')
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert sheet.shape[0] % 320 == sheet.shape[1] % 320 == 0
    assert (sheet != 40).any(2).mean() > 0.3
    with pytest.raises(UserError, match='ends in'):
        module.draw_sheet(drawn / name, tmp_path / 'sheet')


@pytest.fixture(scope='module')
def by_tools(tmp_path_factory):
    """The folder in which the tools drew, each twice: the second time where it cannot."""
    folder = tmp_path_factory.mktemp('tools')
    (folder / 'file').write_text('')
    commands = []
    for name, (_, flags) in SMALL.items():
        tool = str(TOOLS / f'make_mini_{name}.py')
        show = ('--workers', '3', '--show', str(folder / f'{name}.png'))
        commands.append([tool, str(folder / name), *flags.split(), *show])
        commands.append([tool, str(folder / 'file/out'), '--train', '1'])
    code = f"""
import runpy, sys
for sys.argv in {commands!r}:
    try:
        runpy.run_path(sys.argv[0], run_name='__main__')
    except SystemExit as exit:
        print('exit code', exit.code)
"""
    command = [sys.executable, '-W', 'ignore', '-c', code]  # one process: importing takes long
    return folder, subprocess.run(command, capture_output=True, text=True)


def test_tools_draw_the_same_in_another_process(drawn, by_tools):
    folder, done = by_tools
    said = [line for line in done.stdout.splitlines() if line.startswith('drew ')]
    assert [line.rpartition(': ')[2] for line in said] == [str(folder / name) for name in SMALL]
    for name in SMALL:
        assert (folder / f'{name}.png').exists()
        assert digests(folder / name) == digests(drawn / name)


def test_tools_say_what_is_wrong_in_one_line(by_tools):
    folder, done = by_tools
    assert done.stdout.splitlines().count('exit code 2') == len(SMALL)
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert errors == [f'error: cannot write {folder / "file/out"}: Not a directory'] * len(SMALL)
    assert 'Traceback' not in done.stderr
