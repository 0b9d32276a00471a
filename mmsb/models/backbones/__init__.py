from .sb_resnet import SBResNet
from .sb_resnet_cifar import SBResNet_CIFAR
from .sb_sknet import SBSKNet, SKNet

__all__ = ['SBResNet', 'SBResNet_CIFAR', 'SBSKNet', 'SKNet']
