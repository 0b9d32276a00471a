# Cascade R-CNN + FPN with SB-ResNet-50, grown from torchvision's second weights and
# trained with AdamW; not in the paper.
_base_ = './cascade_rcnn_r50-tv2_fpn_1x_coco.py'

model = dict(backbone=dict(type='mmsb.SBResNet'))
