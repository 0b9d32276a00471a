# SB-ResNet-50 compared with humans (paper, Table 11).
_base_ = './resnet50_ood.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
