# 5 maps of spatial bias per block, stages 2 and 3 (paper, Table 7).
_base_ = './sb_resnet50-s23_a3-100e_in1k.py'

model = dict(backbone=dict(spatial_bias=dict(num_channels=5)))
