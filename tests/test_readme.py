"""README is true: its commands are run by tests, its code runs, its links lead somewhere."""

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest
import torch
from PIL import Image

from tests import readme
from tests.conftest import MINI_SB, ROOT, TINY

LINK = re.compile(r'\]\(([^)#]+)\)')


def test_every_command_has_a_name_and_is_run_by_a_test():
    for line in readme.commands():
        names = [name for name, pattern in readme.NAMES.items() if re.search(pattern, line)]
        assert len(names) == 1, (line, names)
    tests = ''.join(path.read_text() for path in (ROOT / 'tests').rglob('test_*.py'))
    for name in readme.NAMES:
        readme.command(name)
        calls = (f"command('{name}')", f'command("{name}")')
        assert any(call in tests for call in calls), f'no test runs {name}'


def test_links_and_files_exist():
    text = (ROOT / 'README.md').read_text()
    for link in LINK.findall(text):
        assert '://' in link or (ROOT / link).exists(), link
    for path in re.findall(r'\b(?:configs|tools)/[\w./-]+\.(?:py|sh)\b', text):
        assert (ROOT / path).is_file(), path


def test_links_of_the_docs():
    for page in (ROOT / 'docs').glob('*.md'):
        for link in LINK.findall(page.read_text()):
            assert '://' in link or (page.parent / link).exists(), (page, link)


def test_reproduction_guide_lists_every_config_and_runs_what_exists():
    text = (ROOT / 'docs/reproduce.md').read_text()
    linked = {path.resolve() for path in map((ROOT / 'docs').joinpath, LINK.findall(text))}
    assert all(path.exists() for path in linked), linked
    for folder in ('cifar100', 'imagenet'):
        assert {*(ROOT / 'configs' / folder).glob('*.py')} <= linked
    classifiers = (ROOT / 'configs').glob('**/*e_in1k.py')
    assert {path for path in classifiers if path.parent.name != 'mini'} <= linked
    commands = '\n'.join(re.findall(r'```shell\n(.*?)```', text, re.S))
    for path in re.findall(r'(?:configs|tools)/\S+\.(?:py|sh)', commands):
        assert 'CONFIG' in path or (ROOT / path).is_file(), path


def test_make_targets():
    """``make -n`` prints what the targets would run: this very suite, on either stack."""
    env = {key: value for key, value in os.environ.items() if key not in ('STACK', 'MAKEFLAGS')}
    for name, venv in (('test', '.venv/'), ('test on openmmlab', '.venv-openmmlab/')):
        command = ['bash', '-c', f'{readme.command(name)} -n']
        printed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True).stdout
        assert f'{venv}bin/python -m pytest' in printed


def test_chains_steps():
    """The commands of ``make chain``, in their order, name files that are there."""
    env = {key: value for key, value in os.environ.items() if key not in ('STACK', 'MAKEFLAGS')}
    line = ['bash', '-c', f'{readme.command("chain")} -n --old-file=setup']
    printed = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True).stdout
    named = re.findall(r'(?:tools|configs)/\S+\.(?:py|sh)', printed)
    assert all((ROOT / name).is_file() for name in named)
    order = [name for name in named if name.startswith('configs') or 'publish' in name]
    first = order.index('tools/model_converters/publish_model.py')
    assert order[:first] == ['configs/mini/resnet18_mini_in1k.py'] * 2
    assert order[-1] == 'configs/mini/fpn_sb_r18-grow_mini_ade20k.py'
    assert named[-1] == 'tools/analysis_tools/chain_report.py'


def test_demo(run_tool, run_here, tmp_path):
    """``make demo`` whole, with few pictures and one epoch, in this process.

    Make hands its lines to a shell that only takes them down. The launchers are tested by
    test_launching.py; here six processes would import the toolboxes anew, for two minutes.
    """
    pytest.importorskip('mmdet')
    demo, lines, shell = (tmp_path / name for name in ('demo', 'lines', 'shell'))
    shell.write_text(f'#!/bin/sh\nprintf "MMSB_COCO_ROOT=$MMSB_COCO_ROOT %s\\0" "$2" >> {lines}\n')
    shell.chmod(0o755)
    run_tool(
        'bash', '-c', readme.command('demo') + ' --old-file=setup "$@"', 'make', f'SHELL={shell}',
        'BIN=bin', f'COCO={tmp_path / "coco"}', f'DEMO={demo}', 'PROCESSES=1',
        'DRAW_ARGS=--train 8 --val 4 --size 96 128', f'DEMO_ARGS=--cfg-options {" ".join(TINY)}',
    )  # fmt: skip
    for line in lines.read_text().split('\0')[:-1]:
        if ' rm ' in line:
            subprocess.run(line, shell=True, check=True)
            continue
        line = re.sub(r'tools/dist_(\w+)\.sh (.*?) 1 --', r'python tools/\1.py \2 --', line)
        expand = ['bash', '-c', 'printf "%q " ' + line.replace(' bin/python ', ' python ')]
        run_here(*shlex.split(subprocess.check_output(expand, text=True)))
    for name in ('sb', 'plain'):
        assert 'coco/bbox_mAP' in json.loads((demo / name / 'metrics.json').read_text())
    page = (demo / 'report.html').read_text()
    for name in ('SB-ResNet', 'AP50', 'curves.png', 'detections.png'):
        assert name in page
    assert (demo / 'detections.png').stat().st_size > 20_000


def test_convert_and_publish(run_here, tmp_path):
    """README's two lines: an authors' release of random weights, and a training's checkpoint."""
    from mmsb.checkpoints.converting import convert_checkpoint
    from mmsb.models import SBResNet

    torch.save(SBResNet().state_dict(), tmp_path / 'sb.pth')
    convert_checkpoint(tmp_path / 'sb.pth', tmp_path / 'release.pth', 'release')
    for line in (readme.command('convert'), readme.command('publish')):
        line = re.sub(r'work_dirs/\S+', 'sb_resnet50.pth', line)
        run_here(*shlex.split(line), cwd=tmp_path)
    (published,) = tmp_path.glob('sb_r50-*.pth')
    loaded = torch.load(published, weights_only=True)['state_dict']
    for key, value in torch.load(tmp_path / 'sb.pth').items():
        assert torch.equal(loaded[f'backbone.{key}'], value)


def test_image_demo(run_here, tmp_path):
    pytest.importorskip('mmdet')
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    cfg = Config.fromfile(ROOT / MINI_SB)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'weights.pth')
    (tmp_path / 'photos').mkdir()
    Image.new('RGB', (96, 64)).save(tmp_path / 'photos/black.png')
    line = re.sub(r'configs/\S+', str(ROOT / MINI_SB), readme.command('image demo'))
    line = re.sub(r'work_dirs/\S+', 'weights.pth', line)
    done = run_here(*shlex.split(line), cwd=tmp_path)
    assert 'predictions/black.png' in done.stdout
    assert (tmp_path / 'predictions/black.png').is_file()


@pytest.mark.parametrize(
    ('line', 'small', 'files'),
    [
        (readme.command('draw COCO'), '--train 2 --val 2 --size 96 128', 'val2017/*.jpg'),
        (readme.command('draw ADE20K'), '--train 4 --val 2 --size 64 96',
         'images/validation/*.jpg'),
        (readme.command('draw ImageNet'), '--train 1 --val 2 --size 64 64', 'val/n01443537/*.JPEG'),
    ],
)  # fmt: skip
def test_readmes_drawing(run_here, tmp_path, line, small, files):
    run_here(*shlex.split(f'{line} {small}'), cwd=tmp_path)
    (out,) = (tmp_path / 'data').iterdir()
    assert len(list(out.glob(files))) == 2


def test_readmes_cifar(run_here, tmp_path):
    pytest.importorskip('mmpretrain')
    for line, small in (
        (readme.command('draw CIFAR-100'), '--train 2 --val 1'),
        (readme.command('train CIFAR-100').replace('configs/', f'{ROOT}/configs/'),
         '--cfg-options train_cfg.max_epochs=1 train_dataloader.num_workers=0 '
         'val_dataloader.num_workers=0'),
    ):  # fmt: skip
        run_here(*shlex.split(f'{line} {small}'), cwd=tmp_path)
    (work,) = (tmp_path / 'work_dirs').iterdir()
    assert (work / 'epoch_1.pth').is_file()


def test_tables_and_flops(run_here):
    for line, expected in (
        (readme.command('tables'), 'SB-BAT'),
        (readme.command('flops'), '42,182,644'),  # parameters of the whole detector
    ):
        done = run_here(*shlex.split(line))
        assert expected in done.stdout


def test_detector_in_five_lines():
    pytest.importorskip('mmdet')
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    settings = {}
    exec(readme.blocks('python')[0], settings)
    cfg = Config.fromfile(ROOT / 'configs/faster_rcnn_r50_fpn_1x_coco.py')
    assert settings['custom_imports'] == cfg.custom_imports
    cfg.merge_from_dict(dict(model=settings['model']))
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == 'SBResNet'


def test_python_example():
    names = {}
    exec(readme.blocks('python')[1].replace('480, 640', '48, 64'), names)
    assert [f.shape[1] for f in names['features']] == [256, 512, 1024, 2048]


def test_on_your_data(run_here, mini_coco, tmp_path):
    """README's config for one's own classes, trained on the miniature."""
    pytest.importorskip('mmdet')
    shutil.copytree(mini_coco, tmp_path / 'data' / 'mine')
    mini = ROOT / 'configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py'
    config = readme.blocks('python')[2].replace(
        './configs/faster_rcnn_sb_r50_fpn_1x_coco.py', str(mini)
    )
    (tmp_path / 'mine.py').write_text(config)
    done = run_here('python', 'tools/train.py', 'mine.py', '--cfg-options', *TINY, cwd=tmp_path)
    state = torch.load(tmp_path / 'work_dirs/mine/epoch_1.pth', weights_only=False)['state_dict']
    assert state['roi_head.bbox_head.fc_cls.weight'].shape[0] == 2 + 1
    assert 'coco/bbox_mAP_50' in done.stdout
