# ResNet-50 with BAT blocks and spatial bias (paper, Table 9).
_base_ = ['../sb_resnet50_step-90e_in1k.py', '../_base_/plugins/bat.py']

model = dict(backbone=dict(plugins=_base_.plugins))
