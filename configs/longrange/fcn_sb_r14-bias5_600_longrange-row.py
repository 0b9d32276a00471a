# Spatial bias of 5 maps (as Table 4); task 'row'.
_base_ = './fcn_sb_r14_600_longrange-row.py'

model = dict(backbone=dict(spatial_bias=dict(num_channels=5)))
