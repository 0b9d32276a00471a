"""The wheel and the editable installation, without a network."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mmsb.version import __version__
from tests import readme
from tests.conftest import ROOT

STACK_NAMES = {'mmengine', 'mmcv', 'mmdet', 'mmsegmentation', 'mmseg', 'mmpretrain'}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the tracked tree, so that building leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp('source')
    files = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    for name in files:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def setup(source, *args):
    done = subprocess.run(
        [sys.executable, 'setup.py', '-q', *args], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def build_wheel(source, out):
    pytest.importorskip('setuptools.command.bdist_wheel', reason='setuptools without wheel')
    setup(source, 'bdist_wheel', '--dist-dir', str(out))
    (wheel,) = out.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / 'site')
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    """The folder that the wheel unpacks to, and its files' contents by name."""
    out = tmp_path_factory.mktemp('wheel')
    return out / 'site', build_wheel(source, out)


def test_wheel(wheel, tmp_path):
    site, names = wheel
    for name in (
        'mmsb/.mim/configs/faster_rcnn_sb_r50_fpn_1x_coco.py',
        'mmsb/.mim/configs/_base_/models/faster_rcnn_r50_fpn.py',
        'mmsb/.mim/tools/train.py',
        'mmsb/.mim/tools/dist_train.sh',
        'mmsb/.mim/model-index.yml',
        'mmsb/ops/mmcv_ext/_ext.py',
        'mmsb/py.typed',
    ):
        assert name in names
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'mmsb').rglob('*.[pc]*p*')}
    sources = {name for name in sources if name.endswith(('.py', '.cpp')) and '.mim' not in name}
    assert sources <= set(names)
    assert any(name.endswith('.cpp') for name in sources)
    assert {name.split('/')[0] for name in names} == {'mmsb', f'mmsb-{__version__}.dist-info'}

    # what `mim train mmsb CONFIG` runs, and ModelHub reads
    done = subprocess.run(
        [sys.executable, site / 'mmsb/.mim/tools/train.py', '--help'],
        env={'PYTHONPATH': str(site)}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert '--auto-scale-lr' in done.stdout, done.stderr

    class Hub(pytest.importorskip('mmpretrain.apis').ModelHub):
        _models_dict = {}

    mim = site / 'mmsb/.mim'
    Hub.register_model_index(mim / 'model-index.yml', config_prefix=mim)
    found = Hub.get('faster_rcnn_sb_r50_fpn_1x_coco').config
    assert found.filename.startswith(str(mim)) and found.auto_scale_lr.base_batch_size == 16


def test_metadata(wheel):
    (name,) = [name for name in wheel[1] if name.endswith('/METADATA')]
    found = message_from_bytes(wheel[1][name])
    assert (found['Name'], found['Version']) == ('mmsb', __version__)
    assert (found['License-Expression'], found['Author']) == ('Apache-2.0', 'The mmsb contributors')
    assert found['License-File'] == 'LICENSE' and found['Requires-Python'] == '>=3.10'
    assert found.get_payload().startswith('# mmsb')
    assert set(found.get_all('Provides-Extra')) == {
        'onedl', 'openmmlab', 'deploy', 'visualization', 'tests', 'docs',
    }  # fmt: skip


def test_source_distribution_builds_the_same_wheel(source, wheel, tmp_path):
    setup(source, 'sdist', '--dist-dir', str(tmp_path))
    (archive,) = tmp_path.glob('*.tar.gz')
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path)
    unpacked = tmp_path / f'mmsb-{__version__}'
    for name in ('LICENSE', 'README.md', 'CHANGELOG.md', 'CITATION.cff', 'requirements/docs.txt'):
        assert (unpacked / name).is_file()
    again = build_wheel(unpacked, tmp_path)
    assert {name: text for name, text in again.items() if not name.endswith('/RECORD')} == {
        name: text for name, text in wheel[1].items() if not name.endswith('/RECORD')
    }


def test_one_version_in_all_files():
    citation = (ROOT / 'CITATION.cff').read_text()
    assert f'\nversion: {__version__}\n' in citation
    assert f'Version: {__version__}\n' in (ROOT / 'configs/metafile_mmpretrain.yml').read_text()
    newest = re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert newest[1] == __version__


def configs_found_by_mim(root):
    """The configs below a folder as `mim train` sees them: it follows links, and wants each once.

    Returns a dict of paths by file name, and asserts that no name is found twice.
    """
    names = [
        path.name for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts
    ]  # fmt: skip
    found = {name: [] for name in names}
    assert len(found) == len(names) > 100
    for folder, _, files in os.walk(root, followlinks=True):
        for name in found.keys() & files:
            found[name].append(Path(folder, name))
    assert [paths for paths in found.values() if len(paths) != 1] == []
    return {name: path for name, (path,) in found.items()}


def test_mim_finds_each_config_in_an_editable_installation(source):
    """onedl-mim looks from the repository's root, which includes `mmsb/.mim` and `build`."""
    for folder in ('mmsb/.mim', 'build/lib/mmsb/.mim/configs'):
        (source / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / 'configs/sb_resnet50_a3-100e_in1k.py', source / folder)
    (source / 'mmsb/.mim/configs').symlink_to('../../configs')  # as former versions linked it
    code = (
        'import setuptools, sys; from setuptools.dist import Distribution; '
        "sys.argv = ['setup.py', '--version']; import runpy; "
        "names = runpy.run_path('setup.py'); d = Distribution(dict(packages=['mmsb'])); "
        "c = names['BuildWithMim'](d); c.editable_mode = True; c.ensure_finalized(); c.run()"
    )
    *_, target = shlex.split(readme.command('install'))
    folder = source / target
    subprocess.run([sys.executable, '-c', code], cwd=folder, check=True, capture_output=True)
    found = configs_found_by_mim(source)
    name = 'faster_rcnn_sb_r50_fpn_1x_coco.py'
    assert found[name] == source / 'configs' / name
    assert (source / 'tools/train.py').is_file() and (source / 'model-index.yml').is_file()


def test_mim_finds_each_config_in_the_wheel(wheel):
    """openmim looks from the installed package."""
    package = wheel[0] / 'mmsb'
    name = 'faster_rcnn_sb_r50_fpn_1x_coco.py'
    assert configs_found_by_mim(package)[name] == package / '.mim/configs' / name


def test_the_stack_is_not_required():
    for line in metadata.requires('mmsb') or ():
        requirement = Requirement(line)
        if 'extra' not in str(requirement.marker):
            assert requirement.name.removeprefix('onedl-') not in STACK_NAMES


@pytest.mark.parametrize(
    'command',
    [
        readme.command('install onedl'),
        readme.command('install openmmlab'),
        readme.command('install deploy'),
        readme.command('install visualization'),
    ],
)
def test_readmes_installations_name_extras_that_exist(command):
    *_, target = shlex.split(command)
    extra = target.removeprefix('.').strip('[]')
    provided = [
        Requirement(line) for line in metadata.requires('mmsb') if f"extra == '{extra}'" in line
        or f'extra == "{extra}"' in line
    ]  # fmt: skip
    pinned = {r.name: str(r.specifier) for r in provided}
    lines = (ROOT / 'requirements' / f'{extra}.txt').read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith('#')]
    assert {r.name for r in wanted} == set(pinned)
