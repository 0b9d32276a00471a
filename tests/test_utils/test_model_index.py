"""Names of model-index.yml in the toolboxes, after ``import mmsb`` alone."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from mmengine.config import Config

import mmsb  # noqa: F401
from mmsb.utils.model_index import METAFILE, ROOT, introduce
from tests import readme

TASKS = {
    'mmpretrain': ['Image Classification'],
    'mmdet': ['Object Detection', 'Instance Segmentation'],
    'mmseg': ['Semantic Segmentation'],
}


def entries(toolbox):
    return yaml.safe_load((ROOT / METAFILE.format(toolbox)).read_text())['Models']


def test_the_index_is_its_configs():
    listed = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert listed == [METAFILE.format(toolbox) for toolbox in TASKS]
    for toolbox, tasks in TASKS.items():
        for entry in entries(toolbox):
            path = ROOT / entry['Config']
            assert path.is_file() and entry['Name'] == path.stem == path.stem.lower()
            assert all(result['Task'] in tasks for result in entry['Results'])
            assert Config.fromfile(path).default_scope == toolbox
    names = [entry['Name'] for toolbox in TASKS for entry in entries(toolbox)]
    folders = [ROOT / 'configs' / name for name in ('', 'detectors', 'segmentors', 'starts')]
    stems = [path.stem for folder in folders for path in folder.glob('*sb_*.py')]
    headline = [stem for stem in stems if re.search('(^|_)sb_', stem)]  # not r50-rsb_fpn
    assert sorted(names) == sorted(headline)


def test_get_model_and_list_models():
    """In a process of its own: mmpretrain keeps one list of names per process."""
    pytest.importorskip('mmpretrain')
    code = f"import runpy; runpy.run_path({__file__!r})['check_get_model']()"
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def check_get_model():
    import mmpretrain

    names = sorted(entry['Name'] for entry in entries('mmpretrain'))
    assert mmpretrain.list_models('sb_*') == names
    assert mmpretrain.list_models('faster_rcnn_sb*') == []  # cannot be built there
    introduce()  # again, now that all is imported: at once, and harmless
    found = {}
    exec(readme.example('network by name'), found)
    model = found['model']
    assert type(model.backbone).__name__ == 'SBResNet' and model.head.num_classes == 10
    assert Path(model._config.filename) == ROOT / 'configs/sb_resnet50_a3-100e_in1k.py'
    with pytest.raises(ValueError, match='Failed to find model "sb_resnet5"'):
        mmpretrain.get_model('sb_resnet5')


@pytest.mark.parametrize(
    ('toolbox', 'name', 'other'),
    [
        ('mmdet', 'faster_rcnn_sb_r50_fpn_1x_coco', 'fpn_sb_r50_40k_ade20k-512x512'),
        ('mmseg', 'fpn_sb_r50_40k_ade20k-512x512', 'faster_rcnn_sb_r50_fpn_1x_coco'),
    ],
)
def test_inferencers(toolbox, name, other):
    apis = pytest.importorskip(f'{toolbox}.apis')
    kind = getattr(apis, {'mmdet': 'DetInferencer', 'mmseg': 'MMSegInferencer'}[toolbox])
    assert kind.list_models(toolbox, name) == [name]
    inferencer = kind.__new__(kind)  # without a network: only the way from a name to its config
    inferencer.scope = toolbox
    config, weights = inferencer._load_model_from_metafile(name.upper())
    assert Path(config.filename) == ROOT / f'configs/{name}.py' and weights is None
    with pytest.raises(ValueError, match=f'Cannot find model: {other} in {toolbox}'):
        inferencer._load_model_from_metafile(other)


def test_without_the_configs_the_toolbox_still_imports(tmp_path, monkeypatch):
    module = importlib.import_module('mmsb.utils.model_index')
    pytest.importorskip('mmpretrain')
    from mmpretrain.apis.model import ModelHub

    class Hub(ModelHub):
        _models_dict = {}

    monkeypatch.setattr(module, 'ROOT', tmp_path)
    printed = []
    monkeypatch.setattr(module, 'print_log', lambda text, *args: printed.append(text))
    module._introduce_to_mmpretrain(SimpleNamespace(__name__='mmpretrain.apis.model', ModelHub=Hub))
    assert Hub._models_dict == {} and 'installed without its configs' in printed[0]


def test_after_import_mmsb_alone():
    """In a fresh process: nothing is imported early, and the names are there."""
    pytest.importorskip('mmpretrain')
    code = """
import sys, mmsb
assert not {'mmpretrain', 'mmdet', 'mmseg', 'modelindex', 'mmengine.infer.infer'} & set(sys.modules)
import mmpretrain
print('sb_resnet50_step-90e_in1k' in mmpretrain.list_models())
"""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ['True'], done.stderr[-800:]
