# Spatial bias beside the first 1x1 convolution (paper, Table 2).
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(spatial_bias=dict(position='conv1')))
