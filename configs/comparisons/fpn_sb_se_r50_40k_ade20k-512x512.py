# Semantic FPN, ResNet-50 with squeeze-and-excitation and spatial bias.
_base_ = ['../fpn_sb_r50_40k_ade20k-512x512.py', '../_base_/plugins/se.py']

model = dict(backbone=dict(plugins=_base_.plugins))
