# ResNet-50 with style-based recalibration (paper, Table 8).
_base_ = ['../sb_resnet50_step-90e_in1k.py', '../_base_/plugins/srm.py']

model = dict(backbone=dict(spatial_bias=None, plugins=_base_.plugins))
