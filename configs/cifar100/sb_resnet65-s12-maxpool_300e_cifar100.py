# Max pooling to the grid (paper, Table 5, "Maxpool").
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(spatial_bias=dict(pooling='max')))
