# Spatial bias on a grid of 6 x 6 (as Table 3); task 'row'.
_base_ = './fcn_sb_r14_600_longrange-row.py'

model = dict(backbone=dict(spatial_bias=dict(size=6)))
