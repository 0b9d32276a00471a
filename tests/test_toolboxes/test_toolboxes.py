"""What differs between toolboxes is said in their room: a new task is a new file there."""

import ast

import pytest
from mmengine.config import Config

from mmsb.engine.arguments import parse_test_args
from mmsb.engine.config import apply_test_args, check_data_paths, input_shape, read_config
from mmsb.toolboxes import TOOLBOXES, Toolbox, toolbox_of
from mmsb.utils import environment
from mmsb.utils.errors import UserError
from tests.conftest import ROOT

NAMED = ('mmsb/toolboxes/', 'mmsb/utils/environment.py')
# Data sets and transforms that are a toolbox's own, mended.
MENDED = ('mmsb/datasets/cifar100.py', 'mmsb/datasets/transforms.py')


def test_toolboxes_are_named_in_their_room_alone():
    found = set()
    for path in (ROOT / 'mmsb').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names = [node.value] if isinstance(node, ast.Constant) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module.split('.')[0]]
            elif isinstance(node, ast.Import):
                names = [alias.name.split('.')[0] for alias in node.names]
            if any(name in TOOLBOXES for name in names if isinstance(name, str)):
                found.add(path.relative_to(ROOT).as_posix())
    assert {name for name in found if not name.startswith(NAMED)} == set(MENDED)


class Pose(Toolbox):
    """A task that is not there yet, with a standard module for its toolbox."""

    name = 'colorsys'
    image_size = (256, 192)
    root_variables = dict(PoseDataset='POSE_ROOT')
    tta_model = dict(type='PoseTTA')
    tta_meta_keys = ('flip',)


@pytest.fixture
def pose(tmp_path, monkeypatch):
    monkeypatch.setitem(TOOLBOXES, 'colorsys', Pose())
    monkeypatch.setitem(environment.PACKAGES, 'colorsys', ('onedl-pose', 'pose'))
    path = tmp_path / 'pose.py'
    path.write_text(
        "default_scope = 'colorsys'\nmodel = dict(type='Pose')\nwork_dir = 'w'\ntest_cfg = {}\n"
        "pipeline = [dict(type='Load'), dict(type='Pack')]\n"
        "test_dataloader = dict(dataset=dict(type='PoseDataset', data_root='no/where',\n"
        "    ann_file='a.json', pipeline=pipeline))\n"
        "default_hooks = dict(visualization=dict(type='V'))\n"
    )
    return str(path)


def test_a_new_task_is_one_more_toolbox(pose, monkeypatch):
    cfg = read_config(pose, dict(work_dir='v'))
    assert toolbox_of(cfg).name == 'colorsys' and cfg.work_dir == 'v'
    assert input_shape(cfg) == (256, 192)
    with pytest.raises(UserError, match='POSE_ROOT=PATH sets it'):
        check_data_paths(cfg, ('test_dataloader',))
    apply_test_args(cfg, parse_test_args([pose, 'x.pth', '--tta', '--show-dir', 'shown']))
    assert cfg.default_hooks.visualization.draw is True
    assert cfg.model.type == 'PoseTTA' and cfg.model.module == dict(type='Pose')
    assert cfg.tta_pipeline[-1].transforms[-1] == [dict(type='Pack', meta_keys=('flip',))]
    monkeypatch.setattr(Pose, 'name', 'no_such_module')
    monkeypatch.setitem(environment.PACKAGES, 'no_such_module', ('onedl-pose', 'pose'))
    with pytest.raises(UserError, match=r'pip install onedl-pose \(OneDL\) or pose'):
        read_config(pose)


def test_configs_of_no_toolbox_get_neutral_answers():
    cfg = Config(dict(model=dict(type='M')))
    assert toolbox_of(cfg).name == '' and toolbox_of(cfg).check() is None
    assert input_shape(cfg) == (224, 224)


def test_every_toolbox_is_a_task_that_can_be_installed():
    assert set(TOOLBOXES) == set(environment.TASKS.values()) <= set(environment.PACKAGES)


@pytest.mark.parametrize('name', TOOLBOXES)
def test_a_toolbox_answers_for_itself(name):
    """None of the methods that have no neutral answer is left out."""
    toolbox = TOOLBOXES[name]
    for method in ('predictor', 'random_inputs', 'target', 'replace_network'):
        assert getattr(type(toolbox), method) is not getattr(Toolbox, method)
    images, samples = toolbox.random_inputs(2, (32, 48), 'cpu')
    assert images.shape == (2, 3, 32, 48) and len(samples) == 2


def test_classifiers_get_the_last_stage(tmp_path):
    """mmpretrain's ResNet returns it by default, and its necks and heads take one feature map."""
    pytest.importorskip('mmpretrain')
    path = tmp_path / 'mine.py'
    for scope, backbone, wanted in (
        ('mmpretrain', "type='mmsb.SBResNet'", (3,)),
        ('mmpretrain', "type='mmsb.SBResNet', num_stages=3", (2,)),
        ('mmpretrain', "type='mmsb.SBResNet', out_indices=(1,)", (1,)),
        ('mmpretrain', "type='ResNet'", None),
        ('mmseg', "type='mmsb.SBResNet'", None),
    ):
        path.write_text(f"default_scope = '{scope}'\nmodel = dict(backbone=dict({backbone}))\n")
        assert read_config(path).model.backbone.get('out_indices') == wanted
