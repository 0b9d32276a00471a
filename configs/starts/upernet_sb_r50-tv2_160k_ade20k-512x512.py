# UPerNet with SB-ResNet-50, grown from torchvision's second weights and trained with
# AdamW; not in the paper.
_base_ = './upernet_r50-tv2_160k_ade20k-512x512.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
