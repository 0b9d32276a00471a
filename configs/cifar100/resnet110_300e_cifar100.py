# ResNet-110, the baseline (paper, Table 1).
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(depth=110, spatial_bias=None))
