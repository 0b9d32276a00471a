# The baseline of sb_resnet50_ood.py: mmpretrain's own ResNet-50, compared with humans (paper,
# Table 11). Its ImageNet checkpoints of either recipe can be used.
_base_ = [
    '../_base_/models/resnet50_in1k.py',
    '../_base_/datasets/ood.py',
    '../_base_/schedules/step_90e.py',
    '../_base_/runtimes/classification.py',
]
