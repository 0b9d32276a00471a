# The baseline of fpn_sb_r50-rsb_40k_ade20k-512x512.py: from RSB-A1 weights.
_base_ = ['../fpn_r50_40k_ade20k-512x512.py', '../_base_/starts/rsb_a1.py']

model = dict(backbone=dict(init_cfg=_base_.weights))
