# ImageNet at 160 with RSB-A3's augmentation; folders of synsets (train/, val/), no meta files
# needed. MMSB_IMAGENET_ROOT=PATH points it at another folder.
_base_ = './imagenet_step.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=160, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=6,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(type='PackInputs'),
]
# The paper says 160x160 but gives no test size. RSB-A3, its reference, tests at 224 with crop ratio
# 0.95; the paper's FLOPs are also for 224. MMSB_TEST_SIZE=160 in front of a command tests at 160,
# which the paper's accuracies fit better (docs/reproduce.md).
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='ResizeEdge',
        scale=round(int('{{$MMSB_TEST_SIZE:224}}') / 0.95),
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size=int('{{$MMSB_TEST_SIZE:224}}')),
    dict(type='PackInputs'),
]

train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))  # x 2 GPUs
val_dataloader = dict(batch_size=256, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
