# ResNet-50 with gather-excite (paper, Table 8).
_base_ = ['../sb_resnet50_step-90e_in1k.py', '../_base_/plugins/ge.py']

model = dict(backbone=dict(spatial_bias=None, plugins=_base_.plugins))
