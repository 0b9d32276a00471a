# Mask2Former with SB-ResNet-50 on ADE20K; not in the paper.
_base_ = './mask2former_r50_160k_ade20k-512x512.py'

# Plain ResNet-50 weights are grown on loading.
model = dict(backbone=dict(type='mmsb.SBResNet'))
