"""Implementation of ``tools/analysis_tools/benchmark.py``: settings, presets, tables, files."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from pathlib import Path

import torch

from mmsb.analysis.charts import save_figure
from mmsb.analysis.reports.page import as_text
from mmsb.benchmark.measuring import DTYPES, LAYOUTS, benchmark, operator_times
from mmsb.benchmark.report import as_csv, draw, operator_table, table
from mmsb.benchmark.results import PARTS, Comparison, Setting, as_json
from mmsb.benchmark.workloads import NETWORKS, STOCK
from mmsb.utils.environment import device_name
from mmsb.utils.files import replacing

FASTER = ('configs/faster_rcnn_r50_fpn_1x_coco.py',
          'configs/faster_rcnn_sb_r50_fpn_1x_coco.py')  # fmt: skip
# Common benchmarks as (networks, settings); command-line flags override the settings.
PRESETS: dict[str, tuple[tuple[str, ...], tuple[dict, ...]]] = {
    'paper': (tuple(NETWORKS), (dict(),)),
    'headline': (('ResNet-50', 'SB', STOCK), tuple(
        dict(mode=mode, dtype=dtype, layout=layout, fuse=mode == 'inference')
        for mode in PARTS for dtype in DTYPES for layout in LAYOUTS)),
    'resolution': (('ResNet-50', 'SB', 'NL'), tuple(
        dict(batch=1, shape=shape, layout='nhwc', fuse=True)
        for shape in ((224, 224), (320, 320), (512, 512), (640, 960), (800, 1333)))),
    'batch': (('ResNet-50', 'SB', 'NL'), tuple(
        dict(batch=batch, layout='nhwc', fuse=True) for batch in (1, 4, 16, 64))),
    'settings': (('ResNet-50', 'SB', 'SB size=4', 'SB size=7', 'SB size=14', 'SB size=20',
                  'SB channels=1', 'SB channels=2', 'SB channels=4', 'SB channels=6',
                  'SB channels=13', 'SB stages=1', 'SB stages=2', 'SB stages=3', 'SB stages=4',
                  'SB stages=1234'), (dict(layout='nhwc', fuse=True),)),
    'detector': (FASTER, tuple(
        dict(mode=mode, batch=batch, shape=(800, 1344))
        for mode, batch in (('inference', 1), ('training', 2)))),
    'segmentor': (('configs/fpn_r50_40k_ade20k-512x512.py',
                   'configs/fpn_sb_r50_40k_ade20k-512x512.py'), tuple(
        dict(mode=mode, batch=4, shape=(512, 512)) for mode in PARTS)),
    'training-split': (FASTER, (dict(mode='training', data=True),)),
}  # fmt: skip


def versions(device: str) -> dict[str, str | int]:
    """Get the environment of the figures: device, threads, PyTorch and Python."""
    return dict(
        device=device_name(device),
        threads=torch.get_num_threads(),
        torch=torch.__version__.partition('+')[0],
        python='.'.join(map(str, sys.version_info[:2])),
    )


def run_benchmark(args) -> None:
    """Run a benchmark by the arguments of ``tools/analysis_tools/benchmark.py``; print and save it.

    Raises:
        UserError: As in :func:`benchmark`, or ``args.out`` cannot be written.
    """
    names, presets = PRESETS[args.preset] if args.preset else ((), (dict(),))
    names = [given for name in args.networks or names for given in _in_runtimes(name, args.runtime)]
    given = {
        name: getattr(args, name)
        for name in ('mode', 'batch', 'shape', 'dtype', 'layout')
        if getattr(args, name)
    }
    flags = {name: True for name in ('fuse', 'compile', 'graph', 'data') if getattr(args, name)}
    if args.no_kernels:
        flags['kernels'] = False
    settings = []
    for preset, values in itertools.product(presets, itertools.product(*given.values())):
        setting = {**preset, **dict(zip(given, values, strict=True))}
        if setting.get('mode') == 'training':
            setting.pop('fuse', None)  # the preset sets it for inference only
        settings.append(Setting(**{**setting, **flags}))
    settings = list(dict.fromkeys(settings))
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if args.threads:
        torch.set_num_threads(args.threads)
    found = versions(device)
    print(', '.join(f'{key} {value}' for key, value in found.items()))
    progress = (lambda line: print(line, file=sys.stderr)) if sys.stderr.isatty() else None
    if args.operators:
        return _run_operators(args, names, settings, device, progress)
    comparisons = []
    for comparison in benchmark(names, settings, device, args.rounds, args.min_seconds, progress):
        comparisons.append(comparison)
        print(f'\n{comparison.setting}\n{as_text(*table(comparison))}', flush=True)
        if args.out:  # after each one, so that a run which is stopped leaves what it measured
            _write(args.out, args.name or args.preset or 'benchmark', found, comparisons)


def _in_runtimes(name: str, runtimes: list[str]) -> list[str]:
    if not name.endswith('.onnx') or runtimes == ['onnxruntime']:
        return [name]
    return [f'{runtime}:{name}' for runtime in runtimes]


def _write(folder: Path, stem: str, found: dict, comparisons: list[Comparison]) -> None:
    values = dict(**found, comparisons=[as_json(comparison) for comparison in comparisons])
    with replacing(folder / f'{stem}.json') as part:
        part.write_text(json.dumps(values, indent=1) + '\n', encoding='utf-8')
    with replacing(folder / f'{stem}.csv') as part:
        part.write_text(as_csv(comparisons), encoding='utf-8')
    figure = draw(comparisons, found['device'])
    if figure is not None:
        save_figure(figure, folder / f'{stem}.png')


def _run_operators(args, names, settings, device, progress) -> None:
    lines = [['setting', 'network', 'operator', 'ms']]
    stem = args.name or f'{args.preset or "benchmark"}_operators'
    for setting, times, launches in operator_times(names, settings, device, args.rounds, progress):
        head, rows = operator_table(times, launches)
        print(f'\n{setting}, ms per step\n{as_text(head, rows)}', flush=True)
        for network, operators in times.items():
            lines += [[str(setting), network, *pair] for pair in operators.items()]
            if launches:
                lines.append([str(setting), network, 'launches', launches[network]])
        if args.out:
            with (
                replacing(args.out / f'{stem}.csv') as part,
                part.open('w', newline='', encoding='utf-8') as file,
            ):
                csv.writer(file).writerows(lines)
