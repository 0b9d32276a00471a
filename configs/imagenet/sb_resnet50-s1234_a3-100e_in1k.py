# Spatial bias in all stages (paper, Table 6). The grid is 6 x 6, the paper's
# other size, to fit the last map.
_base_ = '../sb_resnet50_a3-100e_in1k.py'

model = dict(
    backbone=dict(spatial_bias=dict(stages=(True, True, True, True), size=(10, 10, 10, 6)))
)
