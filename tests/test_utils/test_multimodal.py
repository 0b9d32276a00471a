"""The toolboxes beside a transformers that they do not know."""

import os
import subprocess
import sys

CODE = """
import mmsb
import mmpretrain.models, mmdet.models
from mmpretrain.utils.dependency import WITH_MULTIMODAL
from transformers import version
assert not WITH_MULTIMODAL and mmpretrain.models.ResNet and mmdet.models.ResNet
print(version)
"""


def test_beside_transformers_5(tmp_path):
    """A stand-in for transformers 5 on a torch that it refuses; alone mmpretrain fails there."""
    package, info = tmp_path / 'transformers', tmp_path / 'transformers-5.24.0.dist-info'
    package.mkdir()
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: transformers\nVersion: 5.24.0\n')
    (package / '__init__.py').write_text("version = '5.24.0'\n")
    (package / 'modeling_utils.py').write_text('class Identity(nn.Identity): pass\n')
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', CODE],
        env=dict(os.environ, PYTHONPATH=path), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-800:]
    assert done.stdout.splitlines()[-1] == '5.24.0'
    assert done.stdout.count('multimodal models are left out') == 1
