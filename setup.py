"""What pyproject.toml cannot say: the package carries configs and tools for ``mim``."""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What `mim` and `ModelHub` look for inside the installed package.
MIM_FILES = ('configs', 'demo', 'tools', 'model-index.yml')


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


setup(cmdclass={'build_py': BuildWithMim})
