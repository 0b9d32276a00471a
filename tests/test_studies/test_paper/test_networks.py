"""Every row of the paper's tables is a config whose parameters are the row's, to the unit."""

import csv

import torch
from mmengine.registry import MODELS

from mmsb.studies.paper.networks import paper_networks
from tests.conftest import ROOT


def test_parameters_of_all_rows():
    with open(ROOT / 'tests/data/tables.csv', newline='') as file:
        expected = {(row['table'], row['row']): int(row['params']) for row in csv.DictReader(file)}
    counted = {}
    with torch.device('meta'):
        for key, network in paper_networks().items():
            backbone = MODELS.build(network['backbone_cfg'])
            head = (backbone.feat_dim + 1) * network['num_classes']
            counted[key] = sum(p.numel() for p in backbone.parameters()) + head
    assert counted == expected
    assert len(counted) == 57
