# ResNet-50 with global context blocks (paper, Table 9).
_base_ = ['../sb_resnet50_step-90e_in1k.py', '../_base_/plugins/gc.py']

model = dict(backbone=dict(spatial_bias=None, plugins=_base_.plugins))
