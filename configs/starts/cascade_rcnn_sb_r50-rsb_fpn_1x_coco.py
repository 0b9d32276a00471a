# Cascade R-CNN + FPN with SB-ResNet-50, grown from RSB-A1 weights and
# trained with AdamW; not in the paper.
_base_ = './cascade_rcnn_r50-rsb_fpn_1x_coco.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
