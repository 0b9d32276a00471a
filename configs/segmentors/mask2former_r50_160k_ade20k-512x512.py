# The baseline of mask2former_sb_r50_160k_ade20k-512x512.py: mmseg's own config (8 GPUs x 2).
_base_ = [
    '../_base_/models/mask2former_r50_semantic.py',
    '../_base_/datasets/ade20k_160k.py',
    '../_base_/schedules/mask2former.py',
    '../_base_/runtimes/segmentation.py',
]
custom_imports = dict(imports=['mmsb', 'mmdet.models'], allow_failed_imports=False)

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomChoiceResize',
    scales=[int(512 * x * 0.1) for x in range(5, 21)],
    resize_type='ResizeShortestEdge',
    max_size=2048,
)
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=160000)
param_scheduler = [dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=160000, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=5000, save_best='mIoU'))
