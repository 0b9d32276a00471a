# Faster R-CNN with a narrow SB-ResNet-18, from scratch, on the synthetic miniature COCO.
_base_ = './faster_rcnn_r18_fpn_mini_coco.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
