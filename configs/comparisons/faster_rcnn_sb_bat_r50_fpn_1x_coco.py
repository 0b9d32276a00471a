# Faster R-CNN + FPN, ResNet-50 with BAT blocks and spatial bias.
_base_ = ['../faster_rcnn_sb_r50_fpn_1x_coco.py', '../_base_/plugins/bat.py']

model = dict(backbone=dict(plugins=_base_.plugins))
