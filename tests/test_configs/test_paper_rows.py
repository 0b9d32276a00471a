"""Each row of the paper's Tables 1-10 can be trained: a config, counted as ``tables.csv`` says."""

import csv
from pathlib import Path

import pytest
from mmengine.config import Config

from mmsb.analysis.config_counts import count_config
from tests.conftest import ROOT
from tests.test_configs.test_configs import CONFIGS

CIFAR, IMAGENET = 'configs/cifar100/{}_300e_cifar100.py', 'configs/imagenet/{}_a3-100e_in1k.py'
COMPARED = 'configs/comparisons/{}_step-90e_in1k.py'
# other readings of a row that has a config: counted, not trained
READINGS = {
    *(('T6', f'R50 SB s1-4, s4 size {size}') for size in (4, 5, 7, 10)),
    *(('T8', f'SB-SK cat-BN={norm}') for norm in ('none', 'full')),
}


def paths() -> dict[tuple[str, str], str]:
    rows = {('T6', 'R50'): 'configs/resnet50_a3-100e_in1k.py'}
    for depth in (38, 65, 110):
        rows['T1', f'R{depth} s()'] = CIFAR.format(f'resnet{depth}')
        for stages in ((1,), (1, 2), (1, 2, 3)):
            name = f'sb_resnet{depth}-s' + ''.join(map(str, stages))
            rows['T1', f'R{depth} s{stages}'] = CIFAR.format(name)
    rows['T2', 'R65 conv1 (1, 2)'] = CIFAR.format('sb_resnet65-s12-conv1')
    rows['T2', 'R65 conv1 (1, 2, 3)'] = CIFAR.format('sb_resnet65-s123-conv1')
    for size in (10, 14, 16):
        rows['T3', f'R65 SB_{size} s12'] = CIFAR.format(f'sb_resnet65-s12-size{size}')
    for number in (1, 2, 4, 5, 6):
        rows['T4', f'R65 bias-{number} s12'] = CIFAR.format(f'sb_resnet65-s12-bias{number}')
    rows['T4', 'R65 bias-0 s12'] = rows['T1', 'R65 s()']
    rows['T3', 'R65 SB_6 s12'] = rows['T4', 'R65 bias-3 s12'] = rows['T1', 'R65 s(1, 2)']
    rows['T5', 'Add b=1 broadcast'] = CIFAR.format('sb_resnet65-s12-add')
    rows['T5', 'Maxpool'] = CIFAR.format('sb_resnet65-s12-maxpool')
    rows['T5', "Pool only (C'=3, no conv1d)"] = CIFAR.format('sb_resnet65-s12-pool-only')
    rows['T6', 'R50 SB (1, 3)'] = IMAGENET.format('sb_resnet50-s13')
    rows['T6', 'R50 SB (2, 3)'] = IMAGENET.format('sb_resnet50-s23')
    rows['T7', 'R50 SB s23 bias-3'] = rows['T6', 'R50 SB (2, 3)']
    rows['T6', 'R50 SB (1, 2, 3)'] = 'configs/sb_resnet50_a3-100e_in1k.py'
    rows['T6', 'R50 SB s1-4, s4 size 6'] = IMAGENET.format('sb_resnet50-s1234')
    for number in (1, 2, 4, 5):
        rows['T7', f'R50 SB s23 bias-{number}'] = IMAGENET.format(f'sb_resnet50-s23-bias{number}')
    for row, name in (
        (('T8', 'SRM'), 'srm'),
        (('T8', 'GE-theta'), 'ge'),
        (('T8', 'SE'), 'se'),
        (('T8', 'SK'), 'sk'),
        (('T8', 'SB-SE'), 'sb_se'),
        (('T8', 'SB-SK cat-BN=sb'), 'sb_sk'),
        (('T9', 'NL'), 'nl'),
        (('T9', 'GC_all c3-c5 r16'), 'gc'),
        (('T9', 'BAT'), 'bat'),
        (('T9', 'SB-NL'), 'sb_nl'),
        (('T9', 'SB-GC'), 'sb_gc'),
        (('T9', 'SB-BAT'), 'sb_bat'),
        (('T10', 'Reduced NL (t,p,g,z on 10x10)'), 'reduced_nl'),
    ):
        rows[row] = COMPARED.format(f'{name}_resnet50')
    return rows


PATHS = paths()
with open(Path(__file__).parents[1] / 'data/tables.csv') as file:
    ROWS = {(row['table'], row['row']): row for row in csv.DictReader(file)}


def test_every_row_and_every_config_has_its_other():
    assert set(PATHS) | READINGS == set(ROWS)
    # Tables 8 and 9 repeat these two with the second recipe
    headline = ('configs/resnet50_step-90e_in1k.py', 'configs/sb_resnet50_step-90e_in1k.py')
    classifiers = {path for path in CONFIGS if path.endswith(('e_in1k.py', 'e_cifar100.py'))}
    assert {*PATHS.values(), *headline} == classifiers


@pytest.mark.parametrize('path', sorted(set(PATHS.values())))
def test_counts(path):
    pytest.importorskip('mmpretrain')
    found = count_config(ROOT / path)
    is_cifar = 'cifar100' in path
    assert found.shape == ((32, 32) if is_cifar else (224, 224))
    # The CIFAR networks end in AvgPool2d(8), of which thop counts the 256 outputs; mmpretrain's
    # neck pools adaptively: 8 x 8 inputs for each of them on top.
    pooling = 256 * 8 * 8 if is_cifar else 0
    for name in (name for name, of in PATHS.items() if of == path):
        row = {key: row_value for key, row_value in ROWS[name].items() if row_value}
        assert found.counts.params == int(row['params'])
        assert found.counts.macs == int(row.get('macs_released', row['macs_strided']))
        assert found.counts.thop == int(row.get('thop_released', row['thop_strided'])) + pooling


@pytest.mark.parametrize('path', sorted(set(PATHS.values())))
def test_recipe(path):
    """What the paper says of its three recipes (sections 4.1 and 4.2)."""
    cfg = Config.fromfile(ROOT / path)
    batch, optimizer, epochs = (
        cfg.auto_scale_lr.base_batch_size,
        cfg.optim_wrapper.optimizer,
        cfg.train_cfg.max_epochs,
    )
    if path.endswith('_cifar100.py'):
        assert (batch, epochs, optimizer.type, optimizer.lr) == (64, 300, 'SGD', 0.25)
        assert cfg.param_scheduler.milestones == [75, 150, 225]
        assert cfg.train_pipeline[0].crop_size == 32
    elif path.endswith('_a3-100e_in1k.py'):
        assert (batch, epochs, optimizer.type, optimizer.lr) == (512, 100, 'Lamb', 8e-3)
        assert cfg.train_pipeline[1].scale == 160
        assert cfg.param_scheduler[1].type == 'CosineAnnealingLR'
    else:
        assert (batch, epochs, optimizer.type, optimizer.lr) == (256, 90, 'SGD', 0.1)
        assert cfg.train_pipeline[1].scale == 224
        assert cfg.param_scheduler[1].milestones == [30, 60, 80]
    assert batch % cfg.train_dataloader.batch_size == 0
