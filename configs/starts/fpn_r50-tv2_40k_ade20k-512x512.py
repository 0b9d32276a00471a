# The baseline of fpn_sb_r50-tv2_40k_ade20k-512x512.py: from torchvision's second weights.
_base_ = ['../fpn_r50_40k_ade20k-512x512.py', '../_base_/starts/torchvision_v2.py']

model = dict(backbone=dict(init_cfg=_base_.weights))
