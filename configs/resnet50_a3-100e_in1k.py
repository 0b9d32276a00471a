# The baseline of sb_resnet50_a3-100e_in1k.py: mmpretrain's own ResNet-50, the paper's first
# recipe.
_base_ = [
    './_base_/models/resnet50_in1k.py',
    './_base_/datasets/imagenet_a3.py',
    './_base_/schedules/a3_100e.py',
    './_base_/runtimes/classification.py',
]

model = dict(
    head=dict(loss=dict(use_sigmoid=True)),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.1), dict(type='CutMix', alpha=1.0)]),
)
