# Spatial bias without the 1-D convolution (as Table 5); task 'row'.
_base_ = './fcn_sb_r14_600_longrange-row.py'

model = dict(backbone=dict(spatial_bias=dict(mixing=False)))
