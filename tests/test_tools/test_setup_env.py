"""Setting up: what goes wrong is one line, and a second call does nothing."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path):
    """A copy of what setting up reads, with a folder of fake commands first on the path."""
    copy = tmp_path / 'project'
    copy.mkdir()
    for name in ('setup.py', 'pyproject.toml', 'model-index.yml'):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / 'requirements', copy / 'requirements')
    (copy / 'tools').mkdir()
    shutil.copy(ROOT / 'tools/setup_env.sh', copy / 'tools')
    (tmp_path / 'bin').mkdir()
    return copy


def fake(project, name, script):
    path = project.parent / 'bin' / name
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)


def setup(project, stack='onedl', **env):
    env = {**os.environ, 'PYTHON': sys.executable, **env}
    env['PATH'] = f'{project.parent / "bin"}:{env["PATH"]}'
    return subprocess.run(
        ['tools/setup_env.sh', stack], cwd=project, env=env, capture_output=True, text=True
    )


def error_of(done):
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()  # above it, what pip or uv said
    assert last.startswith('error: '), done.stderr
    return last


def test_wrong_python(project):
    assert 'PYTHON=/bin/false is not a CPython 3.10 to 3.13' in error_of(
        setup(project, PYTHON='/bin/false')
    )


def test_no_python(project):
    for name in ('python3', 'python', *(f'python3.{minor}' for minor in range(10, 14))):
        fake(project, name, 'exit 1')
    assert 'no CPython 3.10 to 3.13 found' in error_of(setup(project, PYTHON=''))


def test_unknown_stack(project):
    assert "STACK is 'mmlab': give onedl, openmmlab or docs" in error_of(setup(project, 'mmlab'))


def test_full_disk(project):
    fake(project, 'df', "printf 'header\\n/dev/x 100 100 2097152 100%% /\\n'")
    assert 'the disk has 2 GiB free here' in error_of(setup(project))
    fake(project, 'df', "printf 'header\\n/dev/x 100 100 99999999 1%% /\\n'")
    fake(project, 'uv', 'echo "No space left on device (os error 28)" >&2; exit 2')
    assert 'the disk is full' in error_of(setup(project))


@pytest.mark.parametrize(('said', 'line'), [
    ('error: dns error: failed to lookup address', 'could not be downloaded: no network?'),
    ('cause: invalid peer certificate: UnknownIssuer', 'a certificate was refused'),
    ('error: something else', 'setting up .venv failed (see above)'),
])  # fmt: skip
def test_what_uv_cannot_do(project, said, line):
    fake(project, 'uv', f'echo "{said}" >&2; exit 2')
    done = setup(project)
    assert line in error_of(done) and said in done.stderr
    assert not (project / '.venv/.installed').exists()


def test_a_second_call_does_nothing(project):
    log = project / 'calls'
    python = '.venv/bin/python'
    make_venv = f'mkdir -p .venv/bin; printf "#!/bin/sh\nexit 0\n" > {python}; chmod +x {python}'
    fake(project, 'uv', f'echo "$1 $2" >> {log}; {make_venv}')
    assert setup(project).returncode == 0
    calls = log.read_text()
    assert calls.count('pip install') == 2
    assert setup(project).returncode == 0
    assert log.read_text() == calls
    with (project / 'requirements/onedl.txt').open('a') as file:
        file.write('six\n')  # another pin: set up anew
    assert setup(project).returncode == 0
    assert log.read_text() == 2 * calls


def test_the_documentation_needs_no_torch(project):
    log = project / 'calls'
    fake(project, 'uv', f'echo "$@" >> {log}; mkdir -p .venv-docs')
    assert setup(project, 'docs').returncode == 0
    (line,) = [line for line in log.read_text().splitlines() if line.startswith('pip install')]
    assert re.findall(r'requirements/[\w.]+', line) == [
        'requirements/docs.lock',
        'requirements/docs.txt',
    ]
    assert 'torch' not in (project / 'requirements/docs.lock').read_text()


def test_another_torch(project):
    """Its own pins are left out, of the stack and of the lock; the others stay."""
    show = '--requirements=*) cat "${arg#*=}" ;; */lock) cat "$arg" ;;'
    fake(project, 'uv', f'for arg; do case "$arg" in {show} esac; done >&2; [ "$1" = venv ]')
    lines = setup(project, TORCH='9.8.7', MMSB_VENV='.venv-new').stderr.splitlines()
    packages = ('torch', 'torchvision', 'triton', 'nvidia-', 'cuda-')
    assert [line for line in lines if line.startswith(packages)] == ['torch==9.8.7', 'torchvision']
    assert 'onedl-mmcv==2.3.6' in lines and any(line.startswith('numpy==') for line in lines)
    assert lines[-1] == 'error: setting up .venv-new failed (see above)'
