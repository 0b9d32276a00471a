"""Packaging. The toolboxes' stack is not a requirement: two distributions provide each import
name (OneDL's and OpenMMLab's), and installing one over the other overwrites files silently."""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What `mim` and `ModelHub` look for inside the installed package.
MIM_FILES = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Adds configs, tools and the model index as ``mmsb/.mim``: copied, or linked if editable."""

    def run(self):
        super().run()
        target = ROOT / 'mmsb' if self.editable_mode else Path(self.build_lib) / 'mmsb'
        mim = target / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in MIM_FILES:
            if self.editable_mode:
                os.symlink(os.path.relpath(ROOT / name, mim), mim / name)
            elif (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns('__pycache__')
                shutil.copytree(ROOT / name, mim / name, ignore=ignore)
            else:
                shutil.copy(ROOT / name, mim / name)


def requirements(name: str) -> list[str]:
    """The pins of requirements/NAME.txt."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


version = {}
exec((ROOT / 'mmsb' / 'version.py').read_text(), version)

setup(
    name='mmsb',
    version=version['__version__'],
    description='Spatial bias (attention-free global context) for OpenMMLab backbones',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmsb', 'mmsb.*']),
    package_data={'mmsb.models.kernels': ['*.cpp']},
    install_requires=['torch>=2.4', 'torchvision>=0.19'],
    extras_require={
        'onedl': requirements('onedl'),
        'openmmlab': requirements('openmmlab'),
        'deploy': requirements('deploy'),
        'visualization': requirements('visualization'),
        'tests': requirements('tests'),
    },
    cmdclass={'build_py': BuildWithMim},
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    zip_safe=False,
)
