# ResNet-50 with squeeze-and-excitation and spatial bias (paper, Table 8).
_base_ = ['../sb_resnet50_step-90e_in1k.py', '../_base_/plugins/se.py']

model = dict(backbone=dict(plugins=_base_.plugins))
