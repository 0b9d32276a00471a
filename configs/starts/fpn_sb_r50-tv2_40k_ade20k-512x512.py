# Semantic FPN with SB-ResNet-50, grown from torchvision's second weights; not in the paper.
_base_ = './fpn_r50-tv2_40k_ade20k-512x512.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
