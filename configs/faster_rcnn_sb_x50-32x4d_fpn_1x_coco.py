# Faster R-CNN + FPN with SB-ResNeXt-50 32x4d, 1x on COCO; not in the paper.
_base_ = './faster_rcnn_x50-32x4d_fpn_1x_coco.py'

# Plain ResNeXt weights are grown on loading.
model = dict(backbone=dict(type='mmsb.SBResNet'))
