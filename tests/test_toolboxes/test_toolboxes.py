"""The toolboxes are told apart in their room alone, and a new one is a file of its own."""

import ast

import pytest
import torch
from mmengine.config import Config

from mmsb import toolboxes
from mmsb.engine.config import input_shape, read_config
from mmsb.toolboxes import TOOLBOXES, Toolbox, toolbox_of
from mmsb.utils.environment import PACKAGES, TASKS
from tests.conftest import ROOT, assert_one_line

# What is installed is said in utils, which may not import the toolboxes' room.
NAMED_IN = {'toolboxes', 'utils/environment.py'}


def test_no_other_module_names_a_toolbox_to_tell_it_apart():
    naming = set()
    for path in sorted((ROOT / 'mmsb').rglob('*.py')):
        nodes = ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if any(isinstance(node, ast.Constant) and node.value in TOOLBOXES for node in nodes):
            where = path.relative_to(ROOT / 'mmsb').as_posix()
            naming.add('toolboxes' if where.startswith('toolboxes/') else where)
    assert naming == NAMED_IN


def test_every_toolbox_is_a_task_that_can_be_installed():
    assert set(TOOLBOXES) == set(TASKS.values()) <= set(PACKAGES)


@pytest.mark.parametrize('name', TOOLBOXES)
def test_a_toolbox_answers_for_itself(name):
    """None of the methods that have no neutral answer is left out."""
    toolbox = TOOLBOXES[name]
    for method in ('predictor', 'random_inputs', 'target'):
        assert getattr(type(toolbox), method) is not getattr(Toolbox, method)
    replaces = type(toolbox).replace_network is not Toolbox.replace_network
    assert toolbox.evaluates_exports == replaces
    images, samples = toolbox.random_inputs(2, (32, 48), 'cpu')
    assert images.shape == (2, 3, 32, 48) and len(samples) == 2


def test_a_new_toolbox_needs_no_change_elsewhere(monkeypatch, tmp_path):
    class MMPose(Toolbox):
        name = 'mmpose'
        image_size = (256, 192)

    monkeypatch.setitem(toolboxes.TOOLBOXES, 'mmpose', MMPose())
    monkeypatch.setitem(PACKAGES, 'mmpose', ('onedl-mmpose', 'mmpose'))
    cfg = Config(dict(default_scope='mmpose', model=dict(type='TopdownPoseEstimator')))
    assert input_shape(cfg) == (256, 192)
    assert toolbox_of(cfg).forward(lambda x, mode: (x, mode), torch.ones(1))[1] == 'tensor'
    path = tmp_path / 'pose.py'
    path.write_text("default_scope = 'mmpose'\nmodel = dict(type='TopdownPoseEstimator')\n")
    assert_one_line(lambda: read_config(path), 'pip install onedl-mmpose (OneDL) or mmpose')
