"""Drawn miniatures of the public datasets, in the real ones' layout."""

from .ade20k import make_mini_ade20k
from .cifar100 import make_mini_cifar100
from .coco import make_mini_coco
from .imagenet import make_mini_imagenet

__all__ = ['make_mini_ade20k', 'make_mini_cifar100', 'make_mini_coco', 'make_mini_imagenet']
