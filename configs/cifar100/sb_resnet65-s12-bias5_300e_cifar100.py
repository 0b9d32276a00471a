# 5 maps of spatial bias per block (paper, Table 4).
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(spatial_bias=dict(num_channels=5)))
