# Mask R-CNN + FPN with SB-ResNet-50; not in the paper.
_base_ = './mask_rcnn_r50_fpn_1x_coco.py'

# Plain ResNet-50 weights are grown on loading.
model = dict(backbone=dict(type='mmsb.SBResNet'))
