# A narrow SB-ResNet-18 on the synthetic miniature ImageNet.
_base_ = './resnet18_mini_in1k.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
