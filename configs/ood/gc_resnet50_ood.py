# ResNet-50 with global context blocks compared with humans (paper, Table 11).
_base_ = ['./sb_resnet50_ood.py', '../_base_/plugins/gc.py']

model = dict(backbone=dict(spatial_bias=None, plugins=_base_.plugins))
