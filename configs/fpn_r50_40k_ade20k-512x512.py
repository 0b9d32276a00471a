# The baseline of fpn_sb_r50_40k_ade20k-512x512.py: mmseg's own ResNet-50, the paper's protocol.
_base_ = [
    './_base_/models/fpn_r50.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/adamw_40k.py',
    './_base_/runtimes/segmentation.py',
]
