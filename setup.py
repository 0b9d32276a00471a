"""What pyproject.toml cannot say: the package carries configs and tools for ``mim``."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What `mim` and `ModelHub` look for inside the installed package.
MIM_FILES = ('configs', 'demo', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Copies configs, tools and the model index to ``mmsb/.mim``.

    Not for an editable installation: there `mim` and we take them from the repository, and `mim`,
    which follows links, would find each config a second time and refuse both.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            # former versions' links, and what building a wheel here has left
            for left in ('mmsb/.mim', 'build/lib/mmsb/.mim'):
                shutil.rmtree(ROOT / left, ignore_errors=True)
            return
        mim = Path(self.build_lib) / 'mmsb' / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in MIM_FILES:
            if (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns('__pycache__')
                shutil.copytree(ROOT / name, mim / name, ignore=ignore)
            else:
                shutil.copy(ROOT / name, mim / name)


setup(cmdclass={'build_py': BuildWithMim})
