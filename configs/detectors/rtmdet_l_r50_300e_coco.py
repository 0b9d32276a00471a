# The baseline of rtmdet_l_sb_r50_300e_coco.py: mmdet's RTMDet-L (8 GPUs x 32) with its ResNet-50 as
# backbone, which mmdet has no config of.
_base_ = [
    '../_base_/models/rtmdet_r50.py',
    '../_base_/datasets/coco_mosaic.py',
    '../_base_/schedules/rtmdet_300e.py',
    '../_base_/runtimes/detection.py',
]

default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=3))
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.0002,
        update_buffers=True,
        priority=49,
    ),
    dict(
        type='PipelineSwitchHook',
        switch_epoch=280,
        switch_pipeline=_base_.train_pipeline_stage2,
    ),
]
