"""Drawn miniatures of the public datasets, in the real ones' layout."""

from .mini_coco import make_mini_coco

__all__ = ['make_mini_coco']
