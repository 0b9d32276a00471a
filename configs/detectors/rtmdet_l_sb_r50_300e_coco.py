# RTMDet-L, its CSPNeXt replaced by a ResNet, with SB-ResNet-50; not in the paper.
_base_ = './rtmdet_l_r50_300e_coco.py'

# Plain ResNet-50 weights are grown on loading.
model = dict(backbone=dict(type='mmsb.SBResNet'))
