# ResNet-110 with spatial bias in stages 1 and 2 (paper, Table 1).
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(depth=110))
