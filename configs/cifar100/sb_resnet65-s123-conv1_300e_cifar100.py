# Spatial bias beside the first 1x1 convolution, stages 1 to 3 (paper, Table 2).
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(spatial_bias=dict(stages=(True, True, True), position='conv1')))
