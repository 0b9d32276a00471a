# Faster R-CNN + FPN, ResNet-50 with BAT blocks.
_base_ = ['../faster_rcnn_sb_r50_fpn_1x_coco.py', '../_base_/plugins/bat.py']

model = dict(backbone=dict(spatial_bias=None, plugins=_base_.plugins))
