# One map added to every channel (paper, Table 5, "Add").
_base_ = './sb_resnet65-s12_300e_cifar100.py'

model = dict(backbone=dict(spatial_bias=dict(num_channels=1, fusion='add')))
