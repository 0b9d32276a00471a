# The baseline of upernet_sb_r50-tv2_160k_ade20k-512x512.py: torchvision's second weights, AdamW.
_base_ = ['../_base_/starts/upernet_160k.py', '../_base_/starts/torchvision_v2.py']

model = dict(backbone=dict(init_cfg=_base_.weights))
optim_wrapper = _base_.adamw
