# The baseline of sb_resnet50_ood.py: mmpretrain's own ResNet-50, tested against humans (paper,
# Table 11). Any of its ImageNet checkpoints fits, whichever the recipe.
_base_ = [
    '../_base_/models/resnet50_in1k.py',
    '../_base_/datasets/ood.py',
    '../_base_/schedules/step_90e.py',
    '../_base_/runtimes/classification.py',
]
