# Semantic FPN with SB-ResNet-50, grown from RSB-A1 weights; not in the paper.
_base_ = './fpn_r50-rsb_40k_ade20k-512x512.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
