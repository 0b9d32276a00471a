# Spatial bias on a grid of 2 x 2 (as Table 3); task 'row'.
_base_ = './fcn_sb_r14_600_longrange-row.py'

model = dict(backbone=dict(spatial_bias=dict(size=2)))
