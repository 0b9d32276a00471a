# ResNet-110 with spatial bias in stage 1 (paper, Table 1).
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(depth=110, spatial_bias=dict(stages=(True, False, False))))
