# The baseline of deformable_detr_sb_r50_50e_coco.py: mmdet's own config (16 GPUs x 2).
_base_ = [
    '../_base_/models/deformable_detr_r50.py',
    '../_base_/datasets/coco_detr.py',
    '../_base_/schedules/detr.py',
    '../_base_/runtimes/detection.py',
]

train_cfg = dict(max_epochs=50)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=50, by_epoch=True, milestones=[40], gamma=0.1)
]
slow = dict(lr_mult=0.1)
optim_wrapper = dict(
    optimizer=dict(lr=0.0002),
    paramwise_cfg=dict(custom_keys=dict(sampling_offsets=slow, reference_points=slow)),
)
auto_scale_lr = dict(enable=False, base_batch_size=32)
