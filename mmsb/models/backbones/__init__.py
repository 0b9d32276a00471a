from .sb_resnet import SBResNet

__all__ = ['SBResNet']
