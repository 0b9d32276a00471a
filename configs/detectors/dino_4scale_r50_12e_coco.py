# The baseline of dino_4scale_sb_r50_12e_coco.py: mmdet's own config (8 GPUs x 2).
_base_ = [
    '../_base_/models/dino_r50.py',
    '../_base_/datasets/coco_detr.py',
    '../_base_/schedules/detr.py',
    '../_base_/runtimes/detection.py',
]

train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[11], gamma=0.1)
]
optim_wrapper = dict(optimizer=dict(lr=0.0001))
auto_scale_lr = dict(enable=False, base_batch_size=16)
