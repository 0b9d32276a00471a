# UPerNet with SB-ResNet-50 on ADE20K; not in the paper.
_base_ = './upernet_r50_160k_ade20k-512x512.py'

# Plain ResNet-50 weights with deep stem are grown on loading.
model = dict(backbone=dict(type='mmsb.SBResNet'))
