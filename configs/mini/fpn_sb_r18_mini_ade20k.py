# Semantic FPN with a narrow SB-ResNet-18, from scratch, on the synthetic miniature ADE20K.
_base_ = './fpn_r18_mini_ade20k.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
