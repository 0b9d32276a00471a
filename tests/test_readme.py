"""README and docs are true: their commands and code are run, their links lead somewhere."""

import json
import os
import re
import shlex
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from tests import readme
from tests.conftest import MINI_SB, ROOT, TINY
from tests.readme import PAGES

LINK = re.compile(r'\]\(([^)#]+)\)')
NAME = re.compile('NAME|CONFIG')  # a placeholder


@pytest.mark.parametrize(
    ('names', 'texts', 'call'),
    [(readme.NAMES, readme.commands(), 'command'), (readme.EXAMPLES, readme.examples(), 'example')],
    ids=['commands', 'python'],
)
def test_everything_has_a_name_and_is_run_by_a_test(names, texts, call):
    for text in texts:
        found = [name for name, pattern in names.items() if re.search(pattern, text, re.DOTALL)]
        assert len(found) == 1, (text, found)
    tests = ''.join(path.read_text() for path in (ROOT / 'tests').rglob('test_*.py'))
    for name in names:
        getattr(readme, call)(name)
        calls = (f"{call}('{name}')", f'{call}("{name}")')
        assert any(text in tests for text in calls), f'no test runs {name}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_files_exist(page):
    """Also the files that a page's commands and its text name."""
    text = page.read_text()
    for link in LINK.findall(text):
        assert '://' in link or (page.parent / link).exists(), link
    for path in re.findall(r'\b(?:configs|tools|demo|tests|mmsb)/[\w./-]+\.(?:py|sh|cpp)\b', text):
        assert (ROOT / path).is_file() or NAME.search(path), path
    languages = re.findall(r'^```(\w*)\n.*?^```', text, re.DOTALL | re.MULTILINE)
    assert {*languages} <= {'', 'bash', 'shell', 'python', 'bibtex'}


def test_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 130


def test_reproduction_guide_lists_every_config():
    text = (ROOT / 'docs/reproduce.md').read_text()
    links = [link for link in LINK.findall(text) if '://' not in link]
    linked = {path.resolve() for path in map((ROOT / 'docs').joinpath, links)}
    assert all(path.exists() for path in linked), linked
    for folder in ('cifar100', 'imagenet'):
        assert {*(ROOT / 'configs' / folder).glob('*.py')} <= linked
    classifiers = (ROOT / 'configs').glob('**/*e_in1k.py')
    assert {path for path in classifiers if path.parent.name != 'mini'} <= linked


def test_make_targets():
    """``make -n`` prints what the targets would run: this very suite, on either stack; the site."""
    env = {key: value for key, value in os.environ.items() if key not in ('STACK', 'MAKEFLAGS')}
    for line, expected in (
        (readme.command('test'), '.venv/bin/python -m pytest'),
        (readme.command('test on openmmlab'), '.venv-openmmlab/bin/python -m pytest'),
        (readme.command('docs'), '.venv-docs/bin/mkdocs build --strict'),
    ):
        command = ['bash', '-c', f'{line} -n']
        printed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True).stdout
        assert expected in printed


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
    exec(readme.example('detector'), settings)
    cfg = Config.fromfile(ROOT / 'configs/faster_rcnn_r50_fpn_1x_coco.py')
    assert settings['custom_imports'] == cfg.custom_imports
    cfg.merge_from_dict(dict(model=settings['model']))
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == 'SBResNet'


def test_python_example():
    names = {}
    exec(readme.example('features').replace('480, 640', '48, 64'), names)
    assert [f.shape[1] for f in names['features']] == [256, 512, 1024, 2048]


@pytest.fixture
def own_recipe(run_here, tmp_path):
    """Trains a recipe of docs/your_data.md for an epoch or iteration; what it printed and left."""

    def train(text, *options, base=None):
        of_recipe = re.search(r"'(\./configs/.*?)'", text)[1]
        text = text.replace(of_recipe, str(ROOT / (base or of_recipe)))
        (tmp_path / 'mine.py').write_text(text)
        done = run_here('python', 'tools/train.py', 'mine.py', '--cfg-options', *options,
                        cwd=tmp_path)  # fmt: skip
        (checkpoint,) = (tmp_path / 'work_dirs/mine').glob('[ei]*_1.pth')
        return done.stdout, torch.load(checkpoint, weights_only=False)['state_dict']

    (tmp_path / 'data').mkdir()
    return train


# The recipes' networks, narrow: their own weights would be downloaded.
NARROW = ['model.backbone.init_cfg=None', 'model.backbone.base_channels=8']
ONE_BY_ONE = ['train_dataloader.batch_size=2', 'train_dataloader.num_workers=0',
              'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0']  # fmt: skip


def test_own_detection_data(own_recipe, mini_coco, tmp_path):
    pytest.importorskip('mmdet')
    shutil.copytree(mini_coco, tmp_path / 'data' / 'mine')
    printed, state = own_recipe(readme.example('own detection data'), *TINY, base=MINI_SB)
    assert state['roi_head.bbox_head.fc_cls.weight'].shape[0] == 2 + 1
    assert 'coco/bbox_mAP_50' in printed


def test_own_segmentation_data(own_recipe, tmp_path):
    """A class that the ground truth does not have has no accuracy in the table; 'car' has one."""
    pytest.importorskip('mmseg')
    for part in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (tmp_path / 'data/mine' / kind / part).mkdir(parents=True)
        labels = np.zeros((48, 64), np.uint8)
        labels[:16], labels[16:24] = 2, 255
        for i in range(2):
            Image.new('RGB', (64, 48)).save(tmp_path / f'data/mine/images/{part}/{i}.jpg')
            Image.fromarray(labels).save(tmp_path / f'data/mine/annotations/{part}/{i}.png')
    printed, state = own_recipe(
        readme.example('own segmentation data'), *ONE_BY_ONE, *NARROW,
        'model.neck.in_channels=[32,64,128,256]', 'train_cfg.max_iters=1',
        'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1',
    )  # fmt: skip
    assert state['decode_head.conv_seg.weight'].shape[0] == 3
    rows = dict(re.findall(r'\|\s+(background|road|car)\s+\|.*\|\s+(\S+)\s+\|\n', printed))
    assert rows['road'] == 'nan' and rows['car'] != 'nan' and rows['background'] != 'nan'


def test_own_classification_data(own_recipe, tmp_path):
    pytest.importorskip('mmpretrain')
    for part in ('train', 'val'):
        for name in ('apple', 'banana', 'cherry'):
            (tmp_path / 'data/mine' / part / name).mkdir(parents=True)
            Image.new('RGB', (64, 48)).save(tmp_path / f'data/mine/{part}/{name}/0.png')
    printed, state = own_recipe(
        readme.example('own classification data'), *ONE_BY_ONE, *NARROW,
        'model.head.in_channels=256', 'train_cfg.max_epochs=1',
        'default_hooks.checkpoint.interval=1',
    )  # fmt: skip
    assert state['head.fc.weight'].shape[0] == 3
    # black images all get the same label: right for one class of three
    assert 'accuracy/top1: 33.3333' in printed
