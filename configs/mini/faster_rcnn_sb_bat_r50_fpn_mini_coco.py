# Faster R-CNN with a narrow ResNet-50 with BAT blocks and spatial bias, on the miniature COCO.
_base_ = ['./faster_rcnn_sb_r18_fpn_mini_coco.py', '../_base_/plugins/bat.py']

model = dict(
    backbone=dict(depth=50, base_channels=16, plugins=_base_.plugins),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
