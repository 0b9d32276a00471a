# The baseline of upernet_sb_r50-rsb_160k_ade20k-512x512.py: RSB-A1 weights, AdamW.
_base_ = [
    '../_base_/models/upernet_r50.py',
    '../_base_/datasets/ade20k_160k.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/runtimes/segmentation.py',
    '../_base_/starts/rsb_a1.py',
]

# these weights have torchvision's stem, not that of mmseg's UPerNet
model = dict(backbone=dict(deep_stem=False, init_cfg=_base_.weights))
optim_wrapper = _base_.adamw
default_hooks = dict(checkpoint=dict(interval=16000))
