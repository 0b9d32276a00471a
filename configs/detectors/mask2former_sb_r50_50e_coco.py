# Mask2Former for instances with SB-ResNet-50; not in the paper.
_base_ = './mask2former_r50_50e_coco.py'

# Plain ResNet-50 weights are grown on loading.
model = dict(backbone=dict(type='mmsb.SBResNet'))
