"""The ``mmsb`` command, also ``python -m mmsb``: the tools under one name, clone or wheel."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from mmsb import check_env
from mmsb.engine import launch
from mmsb.engine.cli import report_user_errors
from mmsb.utils.errors import UserError
from mmsb.utils.model_index import ROOT

COMMANDS = {
    'demo': (None, 'make a miniature COCO, train SB Faster R-CNN on it and print its AP'),
    'check': (None, 'say what is installed, what is missing, and what to install'),
    'train': ('tools/train.py', 'train a config; --processes N for N GPUs or CPU processes'),
    'test': ('tools/test.py', 'test a checkpoint; --processes N likewise'),
    'seeds': ('tools/train_seeds.py', 'train configs with several seeds; mean and deviation'),
    'prepare-data': (
        'tools/dataset_tools/prepare_data.py',
        'unpack and verify COCO, ImageNet, ...',
    ),
    'predict': ('demo/image_demo.py', 'draw predictions on images'),
    'convert': ('tools/model_converters/convert.py', 'convert ResNet checkpoints'),
    'publish': ('tools/model_converters/publish_model.py', 'make a checkpoint of weights alone'),
    'export': ('tools/deployment/export.py', 'export to ONNX, TorchScript or torch.export'),
    'quantize': ('tools/deployment/quantize.py', 'make a float16 or int8 file of an ONNX file'),
    'test-export': ('tools/deployment/test.py', 'test an exported file'),
    'bench': ('tools/analysis_tools/benchmark.py', 'compare throughput and memory of networks'),
    'flops': ('tools/analysis_tools/get_flops.py', 'count parameters and operations'),
    'report': ('tools/analysis_tools/detection_report.py', 'compare detectors, with pictures'),
    'cam': ('tools/visualization/vis_cam.py', 'draw class activation maps'),
    'completion': (None, 'complete commands in bash: eval "$(mmsb completion)"'),
}
LAUNCHED = dict(train=1, test=2)  # commands for several processes: their positional arguments
DEMO = 'configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py'


@report_user_errors
def main(argv: list[str] | None = None) -> None:
    """Run a command.

    Args:
        argv: Command and arguments. Defaults to None: those of the process.

    Raises:
        UserError: There is no such command.
    """
    command, *args = (sys.argv[1:] if argv is None else argv) or ['--help']
    if command in ('-h', '--help'):
        print('usage: mmsb COMMAND [ARGS]; mmsb COMMAND --help says more\n')
        for name, (_, what) in COMMANDS.items():
            print(f'  {name:12} {what}')
        print('\nConfigs that are not found here are those of the package, by path or file name.')
        return
    if command not in COMMANDS:
        raise UserError(f'no command is named {command!r}: give one of {", ".join(COMMANDS)}')
    if command == 'demo':
        demo(args)
        return
    if command == 'completion':
        print(f"complete -o default -W '{' '.join(COMMANDS)}' mmsb")
        return
    if command == 'check':
        sys.exit(check_env.main())
    args = [_config(arg) for arg in args]
    script = COMMANDS[command][0]
    if command in LAUNCHED and '--processes' in args:
        at = args.index('--processes')
        processes = args[at + 1 : at + 2]
        del args[at : at + 2]
        place = LAUNCHED[command]
        launch.main([str(ROOT / script), *args[:place], *processes, *args[place:]])
        return
    sys.argv = [f'mmsb {command}', *args]
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main()


def _config(arg: str) -> str:
    """Return the package's own config, by path or by file name, if there is no such file here."""
    if not arg.endswith('.py') or os.path.exists(arg):
        return arg
    if '/' not in arg:
        found = list((ROOT / 'configs').rglob(arg))
    else:
        found = [ROOT / arg] if arg.startswith('configs/') and (ROOT / arg).is_file() else []
    return str(found[0]) if len(found) == 1 else arg


def demo(argv: list[str]) -> None:
    """Train and test a small detector on a synthetic data set; see ``mmsb demo --help``."""
    parser = argparse.ArgumentParser('mmsb demo', description=COMMANDS['demo'][1])
    add = parser.add_argument
    add(
        'out',
        nargs='?',
        default='mmsb_demo',
        help='folder for data and results; default %(default)s',
    )
    add('--processes', type=int, default=2, metavar='N', help='GPUs or CPU processes; default 2')
    add('--train', type=int, default=240, metavar='N', help='training images; default 240')
    add('--val', type=int, default=60, metavar='N', help='validation images; default 60')
    add('--json', action='store_true', help='print the metrics as JSON alone, the log to stderr')
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for training and test')
    args = parser.parse_args(argv)
    data, work = Path(args.out, 'mini_coco'), Path(args.out, 'training')
    if work.exists():
        raise UserError(f'{work} exists: give another folder, or remove it')
    environment = dict(os.environ, MMSB_COCO_ROOT=str(data.absolute()))

    def run(*words: object) -> None:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            env=environment, stdout=sys.stderr if args.json else None,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.returncode)

    make = ROOT / 'tools/dataset_tools/make_mini_coco.py'
    run(make, data, '--train', args.train, '--val', args.val)
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    several = ['-m', 'mmsb', 'train', DEMO, '--processes', args.processes]
    run(*several, '--work-dir', work, '--seed', 0, *options)
    checkpoint = work / (work / 'last_checkpoint').read_text().strip()
    metrics = work / 'metrics.json'
    several = ['-m', 'mmsb', 'test', DEMO, checkpoint, '--processes', args.processes]
    run(*several, '--work-dir', work, '--metrics-out', metrics, *options)
    found = json.loads(metrics.read_text())
    if args.json:
        print(json.dumps({k: v if v == v else None for k, v in found.items()}))  # no NaN in JSON
    elif 'coco/bbox_mAP' not in found:
        print('the detector found nothing: it was not trained for long enough')
    else:
        names = dict(AP='coco/bbox_mAP', AP50='coco/bbox_mAP_50', AP75='coco/bbox_mAP_75')
        print('  '.join(f'{name} {found[key]:.3f}' for name, key in names.items()))
        print(f'checkpoint: {checkpoint}')


if __name__ == '__main__':
    main()
