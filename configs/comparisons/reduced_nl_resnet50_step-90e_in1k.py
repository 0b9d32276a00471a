# ResNet-50 with non-local blocks on a 10 x 10 grid (paper, Table 10).
_base_ = ['../sb_resnet50_step-90e_in1k.py', '../_base_/plugins/reduced_nl.py']

model = dict(backbone=dict(spatial_bias=None, plugins=_base_.plugins))
