# ResNet-65 with spatial bias in stages 1 and 2 (paper, Tables 1-5).
_base_ = [
    '../_base_/models/sb_resnet_cifar100.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar100_300e.py',
    '../_base_/runtimes/classification.py',
]
