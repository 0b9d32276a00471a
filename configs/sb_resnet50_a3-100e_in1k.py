# SB-ResNet-50, the paper's first ImageNet recipe (Tables 6, 7).
_base_ = './resnet50_a3-100e_in1k.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
