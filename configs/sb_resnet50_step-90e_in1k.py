# SB-ResNet-50, the paper's second ImageNet recipe (Tables 8-10).
_base_ = './resnet50_step-90e_in1k.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
