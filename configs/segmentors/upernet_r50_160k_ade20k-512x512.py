# The baseline of upernet_sb_r50_160k_ade20k-512x512.py: mmseg's own config (4 GPUs x 4).
_base_ = [
    '../_base_/models/upernet_r50.py',
    '../_base_/datasets/ade20k_160k.py',
    '../_base_/schedules/sgd_160k.py',
    '../_base_/runtimes/segmentation.py',
]

default_hooks = dict(checkpoint=dict(interval=16000))
