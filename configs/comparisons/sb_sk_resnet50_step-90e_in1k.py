# ResNet-50 with selective kernels and spatial bias (paper, Table 8).
_base_ = '../sb_resnet50_step-90e_in1k.py'

model = dict(backbone=dict(type='mmsb.SBSKNet'))
