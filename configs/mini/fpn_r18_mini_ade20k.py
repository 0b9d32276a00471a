# The baseline of fpn_sb_r18_mini_ade20k.py: the same recipe, mmseg's own ResNet-18.
# Semantic FPN that trains on a laptop without GPU, from scratch, on the synthetic miniature ADE20K
# (tools/dataset_tools/make_mini_ade20k.py).
_base_ = '../fpn_r50_40k_ade20k-512x512.py'

data_root = '{{$MMSB_ADE20K_ROOT:data/mini_ade20k}}'
crop_size = (128, 128)
norm_cfg = dict(type='BN', requires_grad=True)

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(depth=18, base_channels=24, stem_channels=24, norm_cfg=norm_cfg, init_cfg=None),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=48),
    decode_head=dict(in_channels=[48, 48, 48, 48], channels=48, norm_cfg=norm_cfg),
)

train_pipeline = [
    # like mmcv's and mmseg's transforms, but errors name the file
    dict(type='mmsb.LoadImageFromFile'),
    dict(type='mmsb.LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(192, 144), ratio_range=(0.9, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,  # x 2 processes
    num_workers=1,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=600, val_interval=200)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.05, fused=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=30, end=600, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200, max_keep_ckpts=1))
