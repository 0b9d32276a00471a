# Faster R-CNN + FPN, ResNet-50 with squeeze-and-excitation.
_base_ = ['../faster_rcnn_sb_r50_fpn_1x_coco.py', '../_base_/plugins/se.py']

model = dict(backbone=dict(spatial_bias=None, plugins=_base_.plugins))
