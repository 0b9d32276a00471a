"""Measures on a GPU, most important first, until all is measured or the time is up: gpu_all.sh."""

import gc
import os
import runpy
import shlex
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

if DRY := bool(os.environ.get('MMSB_DRY')):
    import stand_in

    stand_in.install()

import torch

from mmsb.models.kernels import dispatch, launching

TOOL = Path(__file__).parents[1] / 'tools' / 'analysis_tools' / 'benchmark.py'
TRAINING = '--mode training --layout nhwc --batch 128'
FUSED = '--fuse --layout nhwc'
DETECTION = (
    "'detection ResNet-50' 'detection SB' 'detection SB frozen' 'detection SB stages=23' "
    "'detection stock' --mode training --layout nhwc --shape 800x1344"
)
# The name of a result's files and the arguments of benchmark.py.
RUNS = {
    'training_bf16': f'ResNet-50 SB stock {TRAINING} --dtype bf16',
    'training_bf16_graph': f'ResNet-50 SB stock {TRAINING} --dtype bf16 --graph',
    'training_bf16_graph_beside': f'ResNet-50 SB {TRAINING} --dtype bf16 --graph',
    'training_bf16_operators': f'ResNet-50 SB {TRAINING} --dtype bf16 --operators',
    'training_fp16': f'ResNet-50 SB stock {TRAINING} --dtype fp16',
    'training_fp16_graph': f'ResNet-50 SB stock {TRAINING} --dtype fp16 --graph',
    'training_fp32': f'ResNet-50 SB stock {TRAINING} --dtype fp32',
    'training_fp32_graph': f'ResNet-50 SB stock {TRAINING} --dtype fp32 --graph',
    'training_no_kernels': f'ResNet-50 SB {TRAINING} --dtype bf16 fp32 --no-kernels --graph',
    'fused': f'ResNet-50 SB stock {FUSED} --batch 128 --dtype bf16 fp32',
    'fused_graph': f'ResNet-50 SB {FUSED} --batch 1 8 128 --dtype bf16 fp32 --graph',
    'fused_graph_beside': f'ResNet-50 SB {FUSED} --batch 1 8 128 --dtype bf16 --graph',
    'fused_operators': f'ResNet-50 SB {FUSED} --batch 128 --dtype bf16 --operators',
    'unfused_graph': 'ResNet-50 SB SE GC stock --layout nhwc --batch 128 --dtype bf16 --graph',
    'unfused': 'ResNet-50 SB SE GC stock --layout nhwc --batch 128 --dtype bf16',
    'small_batch': 'ResNet-50 SB stock --mode training --layout nhwc --batch 16 --dtype bf16',
    'small_batch_graph': 'ResNet-50 SB stock --mode training --layout nhwc --batch 16 --dtype bf16 '
    '--graph',
    'detection': f'{DETECTION} --batch 2 8 --dtype bf16',
    'detection_graph': f'{DETECTION} --batch 2 8 --dtype bf16 --graph',
    'kernels': 'bf16 64 128 256',  # of kernels.py
    'segmentor': '--preset segmentor --mode training --batch 14 --layout nhwc --dtype bf16',
    'compiled': f'ResNet-50 SB {TRAINING} --dtype bf16 --compile',
}
# Which runs need the same kernels as another one, or none
COMPILED_ELSEWHERE = (
    'graph',
    'beside',
    'operators',
    'no_kernels',
    'kernels',
    'segmentor',
    'compiled',
)
# Images of the steps that compile kernels: twenty processes share the GPU's memory. Combining the
# results of more than 64 programs is a kernel of its own, which this batch needs as larger ones do.
STEP_BATCH = 72
NOT_DRY = 'segmentor', 'compiled'  # they need tensors with values


class OutOfTime(BaseException):
    """Raised where the script is when its time is up."""


def main() -> int:
    out = sys.argv[1] if len(sys.argv) > 1 else 'benchmarks/results/gpu'
    limit = sys.argv[2] if len(sys.argv) > 2 else os.environ.get('MMSB_LIMIT') or '480'
    reason = None
    if not limit.isdigit() or int(limit) == 0:
        reason = f'the limit is {limit!r}: give a number of seconds'
    elif not torch.cuda.is_available():
        reason = 'there is no GPU here: benchmarks/gpu_all.sh needs one (MMSB_DRY=1: a dry run)'
    elif dispatch.kernels_on(torch.device('cuda')) is None:
        reason = 'the kernels do not run on this GPU, for the reason given above'
    if reason:
        print(f'error: {reason}', file=sys.stderr)
        return 1
    start, limit = time.monotonic(), int(limit)
    left, failed = [name for name in RUNS if not (DRY and name in NOT_DRY)], []

    def stop(*_):
        raise OutOfTime

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        compile_kernels(left)
        print(f'[{time.monotonic() - start:.0f} s] kernels compiled', flush=True)
        for name in list(left):
            print(f'[{time.monotonic() - start:.0f} s] {name}: {RUNS[name]}', flush=True)
            if not measure(name, out):
                failed.append(name)
            left.remove(name)
            gc.collect()
            torch.cuda.empty_cache()
    except OutOfTime:
        print(f'stopped after {limit} s, not finished: {", ".join(left)}', file=sys.stderr)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(f'[{time.monotonic() - start:.0f} s] results in {out}')
    if DRY:
        print('kernels: ' + ', '.join(f'{name} {n}' for name, n in stand_in.translated.items()))
    if failed:
        print(f'error: failed: {", ".join(failed)}', file=sys.stderr)
    return 1 if failed else 0


def compile_kernels(names: list[str]) -> None:
    """Runs a step of each network in a process of its own: Triton keeps what it compiled.

    One process after the other would take about a minute a type.
    The kernels' tests run beside them.
    """
    processes = []

    def start(*words: str, stdout: int | None = subprocess.DEVNULL) -> None:
        command = [sys.executable, *words]
        if not (DRY and processes):  # the first is enough to see that it works
            processes.append((subprocess.Popen(command, stdout=stdout), command))

    for name in names:
        words = shlex.split(RUNS[name])
        if name == 'kernels':
            for width in words[1:]:
                start(__file__, '--tiles', words[0], width)
        if name.endswith(COMPILED_ELSEWHERE):
            continue
        first = next(n for n, word in enumerate(words) if word.startswith('--'))
        for network in words[:first]:
            if not {'ResNet-50', 'SB'} & set(network.split()):
                continue
            start(__file__, '--step', network, *words[first:])
    start('-m', 'pytest', '-q', '-m', 'cuda', 'tests/test_models/test_kernels', stdout=None)
    try:
        for process, command in processes:
            if process.wait():
                print(f'error: {shlex.join(command)} failed', file=sys.stderr)
    finally:
        for process, _ in processes:
            process.kill()


def measure(name: str, out: str) -> bool:
    """Does a run; whether it succeeded. What went wrong is printed, for the others go on."""
    words = shlex.split(RUNS[name])
    least = launching.LEAST_BESIDE
    if name.endswith('beside'):  # with a second stream
        launching.LEAST_BESIDE = 0
    try:
        if name == 'kernels':
            widths = [int(width) for width in words[1:]]
            time_tiles(words[0], widths[:1] if DRY else widths, Path(out))
        else:
            options = ['--rounds', '5', '--min-seconds', '0.15', '--name', name, '--out', out]
            benchmark(*words, *options)
    except Exception:
        traceback.print_exc()
        return False
    except SystemExit as end:  # the tool has said why
        return not end.code
    finally:
        launching.LEAST_BESIDE = least
    return True


def benchmark(*words: str) -> None:
    """``benchmark.py`` in this process, which has imported everything already."""
    if DRY:
        words = one_setting([*words, '--rounds', '1', '--min-seconds', '0'], ['--batch', '--dtype'])
    sys.argv = [str(TOOL), '--device', 'cuda', *words]
    runpy.run_path(str(TOOL), run_name='__main__')


def time_tiles(*args) -> None:
    """``kernels.py`` in this process."""
    import kernels  # it needs Triton, which main has seen to work

    kernels.measure(*args)


def one_setting(words: list[str], flags: list[str]) -> list[str]:
    """The arguments with the first value of each of these flags."""
    words = [*words, '--']
    for flag in flags:
        at = words.index(flag) + 2
        while not words[at].startswith('--'):
            del words[at]
    return words[:-1]


if __name__ == '__main__':
    if sys.argv[1:2] == ['--step']:
        words = one_setting(sys.argv[2:], ['--batch'])
        at = words.index('--batch') + 1
        words[at] = str(min(int(words[at]), STEP_BATCH))
        benchmark(*words, '--rounds', '1', '--min-seconds', '0')
    elif sys.argv[1:2] == ['--tiles']:
        time_tiles(sys.argv[2], [int(sys.argv[3])])
    else:
        sys.exit(main())
