# Spatial bias with max pooling (as Table 5); task 'row'.
_base_ = './fcn_sb_r14_600_longrange-row.py'

model = dict(backbone=dict(spatial_bias=dict(pooling='max')))
