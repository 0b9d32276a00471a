"""What a user gets wrong: one clear line, a non-zero exit, nothing half-written."""

import json
import os
import pickle
import shutil
import socket
from urllib.error import URLError

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmsb.engine import test as run_test
from mmsb.engine import train
from mmsb.engine.arguments import parse_test_args, parse_train_args
from mmsb.engine.launch import main as launch
from mmsb.utils.errors import UserError
from mmsb.utils.processes import PARENT
from tests.conftest import MINI_SB, TINY

HEADLINE = 'configs/faster_rcnn_sb_r50_fpn_1x_coco.py'  # its backbone starts from a checkpoint

pytest.importorskip('mmdet')


@pytest.fixture
def coco(mini_coco, tmp_path, monkeypatch):
    """A copy of the miniature that a test may break."""
    copy = shutil.copytree(mini_coco, tmp_path / 'coco')
    monkeypatch.setenv('MMSB_COCO_ROOT', str(copy))
    monkeypatch.setenv('LOCAL_RANK', '0')
    return copy


def train_args(root, work_dir, *flags, options=(), config=MINI_SB):
    return parse_train_args(
        [str(root / config), '--work-dir', str(work_dir), '--no-validate', *flags,
         '--cfg-options', *TINY, *options]
    )  # fmt: skip


def line_of(error) -> str:
    """The error's text, which must be a line."""
    assert '\n' not in str(error.value)
    return str(error.value)


def test_config_does_not_exist(root, tmp_path):
    args = train_args(root, tmp_path, config='configs/faster_rcnn_sb_r50_fpn_1x_cocoo.py')
    with pytest.raises(UserError) as error:
        train(args)
    line = line_of(error)
    assert 'does not exist' in line and 'did you mean' in line
    assert 'faster_rcnn_sb_r50_fpn_1x_coco.py' in line


def test_misspelt_key(root, tmp_path, coco):
    options = ['model.backbone.spatial_bias.num_chanels=2']
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work', options=options))
    assert "did you mean 'num_channels'?" in line_of(error)


@pytest.mark.parametrize(
    ('config', 'variable', 'missing'),
    [
        ('sb_resnet50_step-90e_in1k', 'MMSB_IMAGENET_ROOT', 'nowhere/train'),
        ('fpn_sb_r50_40k_ade20k-512x512', 'MMSB_ADE20K_ROOT', 'nowhere/images/training'),
    ],
)
def test_data_is_not_there(root, tmp_path, monkeypatch, config, variable, missing):
    monkeypatch.setenv(variable, 'nowhere')
    args = parse_train_args([str(root / f'configs/{config}.py'), '--work-dir', str(tmp_path / 'w')])
    with pytest.raises(UserError) as error:
        train(args)
    line = line_of(error)
    assert f'{missing} does not exist' in line and f'{variable}=PATH' in line
    assert not (tmp_path / 'w').exists()


def test_data_cannot_be_downloaded(root, tmp_path, monkeypatch):
    cifar = pytest.importorskip('mmpretrain.datasets.cifar')

    def fail(*args, **kwargs):
        raise URLError('no network')

    monkeypatch.setattr(cifar, 'download_and_extract_archive', fail)
    monkeypatch.setenv('MMSB_CIFAR100_ROOT', str(tmp_path / 'cifar'))
    config = root / 'configs/cifar100/resnet38_300e_cifar100.py'
    with pytest.raises(UserError, match=r'could not be downloaded \(no network\)') as error:
        train(parse_train_args([str(config), '--work-dir', str(tmp_path / 'work')]))
    assert 'MMSB_CIFAR100_ROOT=PATH' in line_of(error)


def test_setting_without_a_value(root, tmp_path):
    with pytest.raises(UserError, match='--cfg-options lr: give KEY=VALUE'):
        train_args(root, tmp_path, options=['lr'])


def test_toolbox_is_missing(root, tmp_path, coco, monkeypatch):
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *args: (
        None if name == 'mmdet' else find_spec(name, *args)))  # fmt: skip
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work'))
    assert 'mmdet, which is not installed: pip install onedl-mmdetection' in line_of(error)


def test_annotation_file_is_missing(root, tmp_path, coco):
    (coco / 'annotations' / 'instances_train2017.json').unlink()
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work'))
    line = line_of(error)
    assert 'instances_train2017.json does not exist' in line and 'MMSB_COCO_ROOT' in line
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize('content', ['', '{}', '{"images": [], "annotations": [], '
                                     '"categories": []}', '[1, 2'])  # fmt: skip
def test_annotation_file_is_empty(root, tmp_path, coco, content):
    (coco / 'annotations' / 'instances_train2017.json').write_text(content)
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work'))
    line = line_of(error)
    assert 'instances_train2017.json' in line and 'at least one image' in line


def change_annotations(coco, split, change):
    path = coco / f'annotations/instances_{split}2017.json'
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path, data


def test_annotations_as_tools_export_them(root, tmp_path, coco):
    """What follows from other values is filled in, what is of no use is counted: it trains."""

    def change(data):
        for row in data['annotations']:
            del row['area'], row['iscrowd']
        data['annotations'][0]['bbox'] = ['1', '2', '3', '4']

    before = {}
    for split in ('train', 'val'):
        path, data = change_annotations(coco, split, change)
        before[path] = path.read_bytes()
    count = len(data['annotations'])
    args = train_args(root, tmp_path / 'work')
    args.no_validate = False
    train(args)
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert f'instances_val2017.json: {count - 1} of {count} objects had no area' in log
    assert f'instances_val2017.json: 1 of {count} boxes' in log
    assert str(tmp_path / 'work/annotations/val_instances_val2017.json') in log
    assert 'bbox_mAP' in log
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['train_dataloader.dataset.metainfo.classes=clock'], "write a tuple, classes=('clock',)"),
        (['train_dataloader.dataset.metainfo.classes=[Clock,kite]'], "'Clock' is perhaps 'clock'"),
        (['model.roi_head.bbox_head.num_classes=3'],
         'model.roi_head.bbox_head has num_classes=3, but the data of train_dataloader has 80'),
        (['val_evaluator.ann_file=nowhere.json'], 'nowhere.json does not exist (val_evaluator'),
        (['val_dataloader.dataset.ann_file=annotations/instances_train2017.json',
          'val_dataloader.dataset.data_prefix.img=train2017'], 'which lists other images'),
        (['train_dataloader.batch_size=two'], 'cannot be built'),
        (['optim_wrapper.optimizer.lr=abc'], 'cannot be built (TypeError'),
        (['param_scheduler.0.type=Foo'], 'Foo is not in the'),
        (['model.rpn_head.in_channels=7'], 'the first step failed (RuntimeError: Given groups=1'),
    ],
)  # fmt: skip
def test_data_and_settings_that_do_not_fit(root, tmp_path, coco, options, message):
    args = train_args(root, tmp_path / 'work', options=options)
    args.no_validate = False
    with pytest.raises(UserError) as error:
        train(args)
    assert message in line_of(error)
    assert not list(tmp_path.glob('work/*.pth'))


def test_transforms_that_fail_name_the_image(root, tmp_path, coco, monkeypatch):
    """Also those of the toolboxes and the user's own."""
    from mmdet.datasets.transforms import PackDetInputs

    monkeypatch.setattr(PackDetInputs, 'transform', lambda self, results: {}['a key'])
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work'))
    assert "jpg cannot be used: PackDetInputs failed with KeyError: 'a key'" in line_of(error)


@pytest.mark.parametrize('content', [b'', b'not a picture'])
def test_corrupt_jpeg_stops_and_is_named(root, tmp_path, coco, content):
    image = sorted((coco / 'train2017').iterdir())[3]
    image.write_bytes(content)
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work'))
    assert f'{image.name} cannot be read: repair or remove it' in line_of(error)


def test_corrupt_jpeg_is_skipped_and_counted(root, tmp_path, coco):
    sorted((coco / 'train2017').iterdir())[3].write_bytes(b'not a picture')
    options = ['train_dataloader.dataset.pipeline.0.skip_corrupt=True']
    train(train_args(root, tmp_path / 'work', options=options))
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'cannot be decoded: skipped (1 so far' in log
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()


def test_corrupt_validation_image_is_named(root, tmp_path, coco):
    image = sorted((coco / 'val2017').iterdir())[1]
    image.write_bytes(b'not a picture')
    args = train_args(root, tmp_path / 'work')
    args.no_validate = False
    with pytest.raises(UserError) as error:
        train(args)
    assert f'{image.name} cannot be read' in line_of(error)


def test_checkpoint_of_another_depth(root, tmp_path, coco):
    from mmsb.models import SBResNet

    weights = SBResNet(depth=34, spatial_bias=None).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'r34.pth')
    options = [f'model.backbone.init_cfg.checkpoint={tmp_path / "r34.pth"}']
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work', options=options, config=HEADLINE))
    assert 'of another depth' in line_of(error)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ('PWNED',)


@pytest.mark.parametrize('how', ['load_from', 'resume', 'init_cfg', 'test'])
def test_pickled_code_is_refused(root, tmp_path, coco, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={}, extra=Malicious()), tmp_path / 'evil.pth')
    path = str(tmp_path / 'evil.pth')
    with pytest.raises(UserError) as error:
        if how == 'test':
            run_test(parse_test_args([str(root / MINI_SB), path, '--work-dir', 'work']))
        elif how == 'resume':
            train(train_args(root, 'work', '--resume', path))
        else:
            option = dict(
                load_from=[f'load_from={path}'],
                init_cfg=[f'model.backbone.init_cfg.checkpoint={path}'],
            )[how]  # fmt: skip
            config = HEADLINE if how == 'init_cfg' else MINI_SB
            train(train_args(root, 'work', options=option, config=config))
    assert 'refused' in line_of(error) and 'pickled code' in line_of(error)
    assert not (tmp_path / 'PWNED').exists()


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('how', ['load_from', 'resume', 'init_cfg'])
def test_truncated_checkpoint(root, tmp_path, coco, how, legacy):
    torch.save(dict(state_dict={'a': torch.zeros(10000)}), tmp_path / 'whole.pth',
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    content = (tmp_path / 'whole.pth').read_bytes()
    path = tmp_path / 'cut.pth'
    path.write_bytes(content[: len(content) // 2])
    flags = ['--resume', str(path)] if how == 'resume' else []
    key = dict(load_from='load_from', init_cfg='model.backbone.init_cfg.checkpoint').get(how)
    config = HEADLINE if how == 'init_cfg' else MINI_SB
    options = [f'{key}={path}'] if key else []
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work', *flags, options=options, config=config))
    assert 'cut.pth' in line_of(error) and 'damaged' in line_of(error)
    assert not list((tmp_path / 'work').glob('*.pth'))


@pytest.mark.parametrize('how', ['resume', 'init_cfg'])
def test_checkpoint_of_something_else(root, tmp_path, coco, how):
    path = str(tmp_path / 'list.pth')
    torch.save([1, 2], path)
    flags = ['--resume', path] if how == 'resume' else []
    options = [] if flags else [f'model.backbone.init_cfg.checkpoint={path}']
    config = HEADLINE if how == 'init_cfg' else MINI_SB
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work', *flags, options=options, config=config))
    assert 'list.pth' in line_of(error) and 'weights' in line_of(error)


@pytest.fixture(scope='module')
def mini_weights(root):
    """Random weights of the mini detector's model."""
    cfg = Config.fromfile(root / MINI_SB)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg.model).state_dict()


WRONG = {  # how the weights are given, what becomes of them, what the line says
    'another head': ('test', lambda s: {k: v[:9] if 'fc_cls' in k else v for k, v in s.items()},
                     'does not belong to the model of the config: 2 weights differ'),
    'no head': ('test', lambda s: {k: v for k, v in s.items() if 'fc_reg' not in k},
                r'2 weights differ or are missing, e\.g\. roi_head.*--allow-partial'),
    'plain': ('test', lambda s: {k: v for k, v in s.items() if 'spatial_bias' not in k},
              'does not belong'),
    'a classifier': ('test', lambda s: {f'head.{i}': x for i, x in enumerate(s.values())},
                     'does not belong'),
    'one convolution less': ('load_from', lambda s: {
        k: v for k, v in s.items() if k != 'backbone.layer3.1.conv2.weight'},
        r'it lacks 1 tensors \(layer3\.1\.conv2\.weight\)'),
    'no ResNet': ('load_from', lambda s: {'encoder.weight': torch.ones(2)}, 'holds no ResNet'),
    'no state': ('--resume', lambda s: s, 'holds weights without the state of a training'),
}  # fmt: skip


@pytest.mark.parametrize('name', WRONG)
def test_weights_that_do_not_fit(root, tmp_path, coco, mini_weights, name):
    how, change, message = WRONG[name]
    path = str(tmp_path / 'wrong.pth')
    torch.save(dict(state_dict=change(mini_weights)), path)
    with pytest.raises(UserError, match=message) as error:
        if how == 'test':
            run_test(
                parse_test_args([str(root / MINI_SB), path, '--work-dir', str(tmp_path / 'w')])
            )
        elif how == '--resume':
            train(train_args(root, tmp_path / 'work', '--resume', path))
        else:
            train(train_args(root, tmp_path / 'work', options=[f'load_from={path}']))
    assert 'wrong.pth' in line_of(error)


def test_nothing_to_resume(root, tmp_path, coco):
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work', '--resume'))
    assert 'nothing to resume in' in line_of(error)
    assert not (tmp_path / 'work').exists()


def test_checkpoint_to_test_does_not_exist(root, tmp_path, coco):
    with pytest.raises(UserError, match=r'nowhere\.pth does not exist'):
        run_test(parse_test_args([str(root / MINI_SB), str(tmp_path / 'nowhere.pth')]))


def test_output_files_of_the_wrong_kind(root, tmp_path):
    for flag, message in (('--out', 'NAME.pkl'), ('--metrics-out', 'NAME.json')):
        with pytest.raises(UserError, match=message):
            run_test(parse_test_args([str(root / MINI_SB), 'x.pth', flag, 'predictions.txt']))


def test_auto_scale_lr_without_a_base(root, tmp_path, coco):
    with pytest.raises(UserError, match='base_batch_size'):
        train(train_args(root, tmp_path, '--auto-scale-lr', options=['auto_scale_lr=None']))


@pytest.mark.skipif(torch.cuda.is_available(), reason='the message of a machine without a GPU')
def test_amp_without_a_gpu(root, tmp_path, coco):
    with pytest.raises(UserError, match='--amp needs a GPU'):
        train(train_args(root, tmp_path, '--amp'))


def test_download_fails(root, tmp_path, coco, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'empty cache'))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')  # refuses at once
    with pytest.raises(UserError) as error:
        train(train_args(root, tmp_path / 'work', config=HEADLINE))
    line = line_of(error)
    assert 'could not be downloaded' in line
    assert 'model.backbone.init_cfg.checkpoint=FILE' in line
    assert 'model.backbone.init_cfg=None' in line


def test_more_processes_than_gpus(monkeypatch):
    from mmsb.engine.distributed import check_num_processes

    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    check_num_processes(2)
    with pytest.raises(UserError, match=r'4 processes for 2 GPU\(s\)'):
        check_num_processes(4)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    check_num_processes(4)  # on CPU


@pytest.mark.parametrize(
    ('env', 'args', 'message'),
    [
        ({}, ['configs/nothing.py', '2'], 'does not exist'),
        ({}, [MINI_SB, 'two'], "the number of processes is 'two'"),
        (dict(NNODES='2', NODE_RANK='3'), [MINI_SB, '2'], 'NODE_RANK is 3'),
        (dict(PORT='http'), [MINI_SB, '2'], "PORT is 'http'"),
        (dict(PORT='70000'), [MINI_SB, '2'], 'PORT is 70000: give 1 to 65535'),
        ({}, [MINI_SB, '\u00b2'], 'the number of processes is'),  # isdigit() of it is true
    ],
)
def test_launcher(capsys, monkeypatch, root, env, args, message):
    monkeypatch.chdir(root)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        launch(['tools/train.py', *args])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith('error: ') and message in err and err.count('\n') == 1
    assert PARENT not in os.environ  # or the next training in this process would end itself


def test_launcher_from_the_shell(run_tool):
    """What is printed, and the exit code."""
    with socket.socket() as sock:
        sock.bind(('', 0))
        sock.listen()
        port = sock.getsockname()[1]
        for args, message in (((), 'CONFIG PROCESSES'), ((MINI_SB, 2), f'port {port} is in use')):
            done = run_tool('tools/dist_train.sh', *args, check=False, PORT=port)
            assert done.returncode == 2 and done.stdout == ''
            *others, last = done.stderr.splitlines()  # others: warnings of OpenMMLab's mmengine
            assert last.startswith('error: ') and message in last
            assert not [line for line in others if line.startswith(('error', 'Traceback'))]


def test_of_two_processes_one_speaks(run_tool, tmp_path):
    """An error inside the processes: one line of ours, no summary of torch's over it."""
    done = run_tool('tools/dist_train.sh', MINI_SB, 2, '--work-dir', tmp_path / 'work', '--resume',
                    check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count('error: ') == 1 and 'nothing to resume' in done.stderr
    assert 'Traceback' not in done.stderr


def test_pickle_is_what_refuses(tmp_path):
    """The refusal is weights_only's: the same file loads without it."""
    torch.save(dict(value=Malicious()), tmp_path / 'evil.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'evil.pth', weights_only=True)


def test_annotations_are_json(mini_coco):
    """The miniature that the tests above break is whole."""
    data = json.loads((mini_coco / 'annotations' / 'instances_train2017.json').read_text())
    assert len(data['images']) == 8
