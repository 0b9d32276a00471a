# ImageNet at 224 from a local copy of imagenet-1k of the Hugging Face Hub: Parquet files, or a
# folder of save_to_disk. Needs `pip install datasets`. MMSB_IMAGENET_HF_ROOT=PATH points it at
# another folder.
_base_ = './imagenet_step.py'

dataset_type = 'mmsb.HuggingFaceImages'
data_root = '{{$MMSB_IMAGENET_HF_ROOT:data/imagenet-1k}}'

train_pipeline = [
    dict(type='mmsb.LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='mmsb.LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        split='validation',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
