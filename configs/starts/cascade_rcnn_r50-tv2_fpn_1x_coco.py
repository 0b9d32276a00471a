# The baseline of cascade_rcnn_sb_r50-tv2_fpn_1x_coco.py: as mmdet's Faster R-CNN.
_base_ = ['../cascade_rcnn_r50_fpn_1x_coco.py', '../_base_/starts/torchvision_v2.py']

model = dict(backbone=dict(init_cfg=_base_.weights))
optim_wrapper = dict(_delete_=True, **_base_.adamw)
