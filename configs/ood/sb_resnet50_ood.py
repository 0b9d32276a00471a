# SB-ResNet-50 tested against humans (paper, Table 11).
_base_ = './resnet50_ood.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
