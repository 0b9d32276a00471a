"""README's way out of the framework, line by line."""

import shlex

import pytest

from tests import readme


def test_from_a_checkpoint_to_metrics_of_int8(tiny, data, tmp_path, run_here):
    pytest.importorskip('mmseg')
    config, checkpoint = tiny('mmseg')
    names = {
        'configs/fpn_sb_r50_40k_ade20k-512x512.py': config,
        'work_dirs/fpn_sb_r50_40k_ade20k-512x512/iter_40000.pth': checkpoint,
    }
    workers = [f'{name}_dataloader.num_workers=0' for name in ('val', 'test')]
    lines = [readme.command('export'), readme.command('quantize'), readme.command('test onnx')]
    more = ['--shape', '64', '96'], ['--cfg-options', *workers], ['--cfg-options', *workers]
    for line, flags in zip(lines, more, strict=True):
        words = [names.get(word, word) for word in shlex.split(line)]
        done = run_here(*words, *flags, cwd=tmp_path, MMSB_ADE20K_ROOT=data['mmseg'])
    assert {path.name for path in tmp_path.iterdir()} == {'sb.onnx', 'sb_int8.onnx'}
    assert done.stdout.splitlines()[-3].startswith('aAcc')
