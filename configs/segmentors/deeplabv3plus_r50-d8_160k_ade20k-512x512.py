# The baseline of deeplabv3plus_sb_r50-d8_160k_ade20k-512x512.py: mmseg's own config (4 GPUs x 4).
_base_ = [
    '../_base_/models/deeplabv3plus_r50-d8.py',
    '../_base_/datasets/ade20k_160k.py',
    '../_base_/schedules/sgd_160k.py',
    '../_base_/runtimes/segmentation.py',
]

default_hooks = dict(checkpoint=dict(interval=16000))
