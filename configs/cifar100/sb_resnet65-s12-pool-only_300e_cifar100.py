# No 1-D convolution (paper, Table 5, "Pool only").
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(spatial_bias=dict(mixing=False)))
