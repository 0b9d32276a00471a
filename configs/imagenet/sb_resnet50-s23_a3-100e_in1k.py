# Spatial bias in stages 2 and 3 (paper, Table 6).
_base_ = '../sb_resnet50_a3-100e_in1k.py'

model = dict(backbone=dict(spatial_bias=dict(stages=(False, True, True, False))))
