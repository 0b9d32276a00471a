# UPerNet on ADE20K for the starts of this folder, which give its weights and optimizer.
_base_ = [
    '../models/upernet_r50.py',
    '../datasets/ade20k_160k.py',
    '../schedules/adamw_160k.py',
    '../runtimes/segmentation.py',
]

# these weights have torchvision's stem, not that of mmseg's UPerNet
model = dict(backbone=dict(deep_stem=False))
default_hooks = dict(checkpoint=dict(interval=16000))
