# Faster R-CNN with a narrow ResNet-50, global context blocks and spatial bias, on the miniature.
_base_ = ['./faster_rcnn_sb_r18_fpn_mini_coco.py', '../_base_/plugins/gc.py']

model = dict(
    backbone=dict(depth=50, base_channels=16, plugins=_base_.plugins),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
