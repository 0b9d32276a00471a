"""Accuracy by distance, counted by hand."""

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS, DefaultScope
from mmengine.structures import PixelData

from mmsb.studies.longrange.metric import DistanceAccuracy


def sample(truth, predicted, distance, at_edge=0):
    """A data sample of one row of pixels, as mmengine's evaluator hands it over."""
    row = [torch.tensor([[pixels]]) for pixels in (truth, predicted)]
    return dict(
        gt_sem_seg=dict(data=row[0]),
        pred_sem_seg=dict(data=row[1]),
        key_distance=np.array([distance], np.float32),
        keys_at_edge=at_edge,
    )


NEAR = sample([0, 1, 255, 2, 2], [0, 1, 0, 1, 2], [9.0, 9.0, 0.0, 17.5, 17.5])
FAR = sample([1, 255, 1, 255, 255], [1, 1, 0, 1, 1], [40.0, 0.0, 16.0, 0.0, 0.0])


def test_by_hand():
    metric = DistanceAccuracy()
    metric.process({}, [NEAR])
    metric.process({}, [FAR])
    # 16 to 24 pixels: one right of three
    expected = {'accuracy': 400 / 6, '8-16px': 100, '16-24px': 100 / 3, '40-48px': 100}
    found = metric.evaluate(2)
    assert found == pytest.approx(expected)
    assert list(found) == list(expected)


def test_wider_ranges():
    metric = DistanceAccuracy(bin_width=20)
    metric.process({}, [FAR, NEAR])
    assert metric.evaluate(2) == pytest.approx({'accuracy': 400 / 6, '0-20px': 60, '40-60px': 100})


def test_by_keys_at_the_edge():
    metric = DistanceAccuracy()
    edge = sample([1, 255, 1], [1, 1, 0], [40.0, 0.0, 16.0], 1)
    metric.process({}, [edge, NEAR])  # one right of two, three of four
    metric.process({}, [edge])
    found = metric.evaluate(3)
    assert list(found)[-2:] == ['0-at-edge', '1-at-edge']
    assert found['0-at-edge'] == pytest.approx(75) and found['1-at-edge'] == pytest.approx(50)


def test_the_evaluator_finds_it_in_any_scope_and_hands_it_the_samples():
    seg = pytest.importorskip('mmseg.structures')
    data_sample = seg.SegDataSample(metainfo={k: NEAR[k] for k in ('key_distance', 'keys_at_edge')})
    for name in ('gt_sem_seg', 'pred_sem_seg'):
        setattr(data_sample, name, PixelData(data=NEAR[name]['data']))
    with DefaultScope.overwrite_default_scope('mmseg'):
        metric = METRICS.build(dict(type='mmsb.DistanceAccuracy'))
    metric.process({}, [data_sample.to_dict()])
    assert metric.evaluate(1)['accuracy'] == pytest.approx(75)
