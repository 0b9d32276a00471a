"""Drawn miniatures of the public datasets, in the real ones' layout."""

from .mini_ade20k import make_mini_ade20k
from .mini_cifar100 import make_mini_cifar100
from .mini_coco import make_mini_coco
from .mini_imagenet import make_mini_imagenet

__all__ = ['make_mini_ade20k', 'make_mini_cifar100', 'make_mini_coco', 'make_mini_imagenet']
