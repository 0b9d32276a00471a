"""SB-ResNet beside its baseline on the miniature COCO, several seeds: the demo's recipe.

    python benchmarks/mini_coco.py --seeds 0 1 2

Trains and tests each config of configs/mini with each seed on two processes (about five minutes
a run on 2 CPU cores) and writes benchmarks/results/mini_coco.json. Runs that are finished are
kept: a second call goes on where the first stopped. ``--summarize`` prints the table only.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
from importlib import metadata
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {
    'ResNet': 'configs/mini/faster_rcnn_r18_fpn_mini_coco.py',
    'SB-ResNet': 'configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py',
}
METRICS = {name: f'coco/bbox_{name}' for name in ('mAP', 'mAP_50', 'mAP_75')}


def run(config: str, seed: int, work_dir: Path) -> dict[str, float]:
    """Trains and tests one config; its metrics."""
    metrics = work_dir / 'metrics.json'
    if not metrics.is_file():
        flags = ['--work-dir', work_dir]
        subprocess.run(
            ['tools/dist_train.sh', config, '2', *flags, '--seed', str(seed)], cwd=ROOT, check=True
        )
        checkpoint = (work_dir / 'last_checkpoint').read_text()
        subprocess.run(
            ['tools/dist_test.sh', config, checkpoint, '2', *flags, '--metrics-out', metrics],
            cwd=ROOT,
            check=True,
        )
    return json.loads(metrics.read_text())


def device() -> str:
    """The GPU's name, or the processor's and the number of cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    return f'{names[0] if names else platform.processor()}, {os.cpu_count()} cores'


def table(results: dict) -> str:
    """Mean and standard deviation over the seeds, as Markdown."""
    lines = [f'| backbone | {" | ".join(METRICS)} |', '| --- ' * (len(METRICS) + 1) + '|']
    for name, runs in results['runs'].items():
        cells = []
        for key in METRICS.values():
            values = [metrics[key] for metrics in runs.values()]
            spread = statistics.stdev(values) if len(values) > 1 else float('nan')
            cells.append(f'{statistics.mean(values):.3f} ± {spread:.3f}')
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--coco', type=Path, default=ROOT / 'data/mini_coco')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/benchmark_mini_coco')
    parser.add_argument('--out', type=Path, default=ROOT / 'benchmarks/results/mini_coco.json')
    parser.add_argument('--summarize', action='store_true', help='print the table of --out only')
    args = parser.parse_args()
    if not args.summarize:
        os.environ['MMSB_COCO_ROOT'] = str(args.coco)
        versions = ('torch', 'torchvision', 'onedl-mmdetection', 'mmdet')
        args.out.parent.mkdir(parents=True, exist_ok=True)
        results = dict(device=device(), versions={}, runs={name: {} for name in CONFIGS})
        for name in versions:
            try:
                results['versions'][name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        for seed in args.seeds:
            for name, config in CONFIGS.items():
                folder = args.work_dir / f'{name}_seed{seed}'
                results['runs'][name][str(seed)] = run(config, seed, folder)
                args.out.write_text(json.dumps(results, indent=1) + '\n')
    print(table(json.loads(args.out.read_text())))


if __name__ == '__main__':
    main()
