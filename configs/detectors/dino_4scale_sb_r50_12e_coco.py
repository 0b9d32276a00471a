# DINO with SB-ResNet-50; not in the paper.
_base_ = './dino_4scale_r50_12e_coco.py'

# Plain ResNet-50 weights are grown on loading.
model = dict(backbone=dict(type='mmsb.SBResNet'))
