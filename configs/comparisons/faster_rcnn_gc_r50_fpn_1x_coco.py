# Faster R-CNN + FPN, ResNet-50 with global context blocks.
_base_ = ['../faster_rcnn_sb_r50_fpn_1x_coco.py', '../_base_/plugins/gc.py']

model = dict(backbone=dict(spatial_bias=None, plugins=_base_.plugins))
