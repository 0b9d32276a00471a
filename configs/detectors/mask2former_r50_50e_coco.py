# The baseline of mask2former_sb_r50_50e_coco.py: mmdet's own config (8 GPUs x 2).
_base_ = [
    '../_base_/models/mask2former_r50_instance.py',
    '../_base_/datasets/coco_lsj.py',
    '../_base_/schedules/mask2former.py',
    '../_base_/runtimes/detection.py',
]

# every 5000 iterations; after the last multiple of it once, at the end
train_cfg = dict(max_iters=368750, dynamic_intervals=[(365001, 368750)])
param_scheduler = dict(
    type='MultiStepLR',
    begin=0,
    end=368750,
    by_epoch=False,
    milestones=[327778, 355092],
    gamma=0.1,
)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, save_last=True, max_keep_ckpts=3, interval=5000)
)
log_processor = dict(by_epoch=False)
