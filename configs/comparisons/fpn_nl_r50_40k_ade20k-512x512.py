# Semantic FPN, ResNet-50 with non-local blocks.
_base_ = ['../fpn_sb_r50_40k_ade20k-512x512.py', '../_base_/plugins/nl.py']

model = dict(backbone=dict(spatial_bias=None, plugins=_base_.plugins))
