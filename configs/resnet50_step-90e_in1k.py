# The baseline of sb_resnet50_step-90e_in1k.py: mmpretrain's own ResNet-50, the paper's second
# recipe.
_base_ = [
    './_base_/models/resnet50_in1k.py',
    './_base_/datasets/imagenet_step.py',
    './_base_/schedules/step_90e.py',
    './_base_/runtimes/classification.py',
]
