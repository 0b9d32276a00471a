"""The long-range networks: what reaches an object from a key far away, and what cannot."""

import numpy as np
import pytest
import torch

from mmsb.studies.longrange.dataset import CELL, IGNORED, PALETTE, draw_scene
from tests.conftest import ROOT
from tests.weights import build_randomised

pytest.importorskip('mmseg.models')
CONFIGS = sorted((ROOT / 'configs/longrange').glob('*-row.py'))
PLAIN = ('fcn_r14', 'fcn_r11')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_only_global_context_sees_the_key(path):
    """Logits of the objects with another key: exactly the same without, different with."""
    model = build_randomised(path, gain=1.5)
    image, labels, *_ = draw_scene('row', np.random.default_rng(0))
    other = image.copy()
    (colour,) = {tuple(pixel) for pixel in image[4:12, 0]}
    other[4 : 4 + CELL, :CELL:2] = next(c for c in PALETTE if c != colour)
    images = torch.from_numpy(np.stack([image, other])).permute(0, 3, 1, 2).double() / 127.5 - 1
    with torch.no_grad():
        one, two = model.decode_head(model.backbone(images))
    there = torch.from_numpy(labels != IGNORED)
    assert (one != two)[:, 4:12, :8].any()
    changed = (one != two)[:, there].any()
    assert changed == (path.stem.split('_600')[0] not in PLAIN)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_of_the_same_trunk(path):
    """Beside their blocks of global context the networks have the same layers."""
    trunk = dict(build_randomised(path, 1).named_parameters())
    base = PLAIN['r11' in path.stem]
    plain = build_randomised(path.with_name(f'{base}_600_longrange-row.py'), 1).named_parameters()
    widened = [name for name, p in plain if trunk[name].shape != p.shape]
    assert all('bn2' in name or 'conv3' in name for name in widened)
    assert bool(widened) == ('_sb_' in path.stem and 'add' not in path.stem)
