"""Operations and bytes of the blocks, against the paper's counts and by hand."""

import csv
from types import SimpleNamespace

import pytest
import torch

from mmsb.analysis import roofline
from mmsb.analysis.counting import count
from mmsb.analysis.roofline import Work, count_work, measure_device, roofline_table
from mmsb.models import SBResNet


def test_operations_are_the_papers(root):
    with (root / 'tests' / 'data' / 'tables.csv').open() as file:
        macs = {
            row['row']: row['macs_released'] for row in csv.DictReader(file) if row['table'] == 'T6'
        }
    added = int(macs['R50 SB (1, 2, 3)']) - int(macs['R50'])
    works = count_work(SBResNet(50), 1, (224, 224))
    assert [work.blocks for work in works] == [3, 4, 6]
    assert sum(work.macs for stage in works for work in stage.added) == added
    assert sum(work.macs for stage in works for work in stage.least) == added


def test_grouped_convolutions():
    stages = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    model = SBResNet(50, groups=32, base_width=4, **stages).to('meta')
    counted = count(model, torch.empty(1, 3, 64, 96, device='meta')).macs
    stem = 32 * 48 * 64 * 3 * 7 * 7
    works = count_work(model, 1, (64, 96))
    assert stem + sum(w.macs for stage in works for w in stage.plain + stage.added) == counted


def test_bytes_by_hand():
    # A stage of one block: 64 channels of 56 x 56 before conv2 and after it.
    model = SBResNet(50, spatial_bias=dict(stages=(True, False, False, False)))
    model.layer1 = model.layer1[1:2]
    model.layer1[0].conv1.in_channels = 256
    model.layer1[0].downsample = None
    stage = next(iter(count_work_of_one(model)))
    pixels = 56 * 56
    plain = pixels * (256 + 64 + 2 * 64 + 64 + 64 + 2 * 64 + 64 + 256 + 3 * 256 + 2 * 256)
    assert sum(work.numbers for work in stage.plain) == plain
    added = pixels * (64 + 5 + 10 + 5 + 3 + 2 * 67 + 6 + 3) + 100 * (5 + 8 + 3)
    assert sum(work.numbers for work in stage.added) == added
    assert sum(work.numbers for work in stage.least) == 100 * 8


def count_work_of_one(model):
    """The first stage's block behind a stem that gives it its 256 channels."""
    from torch import nn

    model.conv1, model.bn1 = nn.Conv2d(3, 256, 7, stride=2, padding=3), nn.Identity()
    model.res_layers = model.res_layers[:1]
    model.out_indices = (0,)
    return count_work(model, 1, (224, 224))


def test_least_time():
    # 8 MACs at 4 a second take 2 s; 3 numbers of 4 bytes at 2 a second, 6 s
    assert Work(8, 3).seconds(4, 2) == 6 and Work(8, 0).seconds(4, 2) == 2
    works = count_work(SBResNet(50, base_channels=16), 1, (64, 64))
    head, rows = roofline_table(works, 1e9, 1e9)
    assert len(rows) == 4 and all(len(row) == len(head) for row in rows)
    for column in (2, 3):
        assert float(rows[3][column]) == pytest.approx(
            sum(float(r[column]) for r in rows[:3]), abs=2
        )


def test_rates_are_the_medians(monkeypatch):
    """Of rounds of known length, the first of which is left out."""
    lengths, now = [1, 9, 4, 6, 1, 5, 3, 8], 0
    ticks = []
    for length in lengths:
        ticks += [now, now + length]
        now += length
    clock = SimpleNamespace(perf_counter=iter(ticks).__next__)
    monkeypatch.setattr(roofline, 'time', clock)
    copied = 2 * 4 * 2**26  # float32, read and written
    assert measure_device(rounds=3) == (2048**3 / 6, copied / 5)
