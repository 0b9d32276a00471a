# ResNet-38 with spatial bias in stages 1 to 3 (paper, Table 1).
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(depth=38, spatial_bias=dict(stages=(True, True, True))))
