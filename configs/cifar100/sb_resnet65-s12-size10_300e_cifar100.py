# Spatial bias pooled to 10 x 10 (paper, Table 3).
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(spatial_bias=dict(size=10)))
