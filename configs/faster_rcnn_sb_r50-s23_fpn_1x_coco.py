# Faster R-CNN + FPN with SB-ResNet-50 in stages 2 and 3 only, from plain weights.
_base_ = './faster_rcnn_sb_r50_fpn_1x_coco.py'

# Stage 1 is frozen, and spatial bias that learns inside it would need its gradients and features.
# On ImageNet, the paper's Table 6 has 77.00 without stage 1 and 77.11 with it.
model = dict(backbone=dict(spatial_bias=dict(stages=(False, True, True, False))))
