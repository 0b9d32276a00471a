# The baseline of mask_rcnn_sb_r50_fpn_1x_coco.py: mmdet's own config.
_base_ = [
    '../_base_/models/mask_rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/runtimes/detection.py',
]
