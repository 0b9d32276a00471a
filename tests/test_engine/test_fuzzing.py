"""A few cases of the fuzzer, and that it finds faults."""

import pytest

from benchmarks import fuzz
from mmsb.engine import checking

NUMBERS = dict(coco=20, maps=60, imagenet=15, cifar=10, overrides=40)


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    for target in fuzz.TARGETS.values():
        monkeypatch.setenv(target.variable, '')


@pytest.mark.parametrize('name', NUMBERS)
def test_no_traceback_and_nothing_lost_in_silence(tmp_path, name):
    pytest.importorskip('mmdet')
    counts, faults = fuzz.run_target(name, NUMBERS[name], 0, tmp_path / name)
    assert faults == []
    assert counts['refused'] > 0 and sum(counts.values()) == NUMBERS[name]


def test_the_fuzzer_finds_what_the_checks_find(tmp_path, monkeypatch):
    """Without the check of annotations there are tracebacks and silent losses."""
    pytest.importorskip('mmdet')
    monkeypatch.setattr(checking, '_check_coco', lambda *args: None)
    counts, faults = fuzz.run_target('coco', 12, 0, tmp_path / 'coco')
    assert counts['silent loss'] and faults
