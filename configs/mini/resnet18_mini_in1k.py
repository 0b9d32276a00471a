# The baseline of sb_resnet18_mini_in1k.py: the same recipe, mmpretrain's own ResNet-18.
# A narrow classifier on synthetic mini ImageNet (tools/dataset_tools/make_mini_imagenet.py),
# which pretrains the mini detectors and segmentors in minutes on a laptop without a GPU.
_base_ = '../resnet50_step-90e_in1k.py'

data_root = '{{$MMSB_IMAGENET_ROOT:data/mini_imagenet}}'
num_classes = 36

model = dict(
    data_preprocessor=dict(num_classes=num_classes),
    backbone=dict(depth=18, base_channels=24, stem_channels=24),
    head=dict(num_classes=num_classes, in_channels=192),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=96, crop_ratio_range=(0.25, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=96, edge='short'),
    dict(type='CenterCrop', crop_size=96),
    dict(type='PackInputs'),
]
# the classes of the miniature are its folders
train_dataloader = dict(
    batch_size=16,  # x 2 processes
    num_workers=1,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='val',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=12, val_interval=4)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=0.05, fused=True)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=1,
        T_max=11,
        end=12,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=4),
    visualization=dict(rescale_factor=3),  # makes text of --show-dir legible
)
log_processor = dict(window_size=10)
