# The baseline of cascade_rcnn_sb_r50_fpn_1x_coco.py: mmdet's own ResNet-50, the paper's protocol.
_base_ = [
    './_base_/models/cascade_rcnn_r50_fpn.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/schedule_1x.py',
    './_base_/runtimes/detection.py',
]
