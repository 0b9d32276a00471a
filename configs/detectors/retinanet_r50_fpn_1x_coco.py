# The baseline of retinanet_sb_r50_fpn_1x_coco.py: mmdet's own config.
_base_ = [
    '../_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/runtimes/detection.py',
]

train_dataloader = dict(batch_size=2)  # x 8 GPUs
optim_wrapper = dict(optimizer=dict(lr=0.01))
