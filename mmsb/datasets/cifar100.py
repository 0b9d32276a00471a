"""CIFAR-100 for mmpretrain, real or synthetic."""

import os

from mmsb.datasets.miniatures.folder import is_miniature
from mmsb.registry import DATASETS
from mmsb.utils.safe_load import load_pickle

MINIATURE = 'miniature CIFAR-100'


@DATASETS.register_module()
def CIFAR100(lazy_init: bool = False, **kwargs):
    """Build mmpretrain's ``CIFAR100``, which can then also read a ``make_mini_cifar100`` folder.

    mmpretrain checks the MD5 of the files and downloads the real ones if they differ. This function
    also accepts the miniature, checked by its record, if its pickles hold data alone; any other
    folder is treated as in mmpretrain.

    Args:
        lazy_init (bool): Do not read the files until they are needed. Defaults to False.
        **kwargs: Arguments of mmpretrain's class: ``data_root``, ``split``, ``pipeline``, ...

    Returns:
        mmpretrain.datasets.CIFAR100: The dataset.

    Raises:
        UserError: The folder holds a miniature, but one of its files is missing, damaged or holds
            code.
    """
    # a function, not a subclass, so that importing mmsb does not import mmpretrain
    from mmpretrain.datasets import CIFAR100

    dataset = CIFAR100(lazy_init=True, **kwargs)
    root = dataset.data_prefix['root']
    if is_miniature(root, MINIATURE, 'make_mini_cifar100.py'):
        # Anybody can write such a record, and mmpretrain's pickles run code: read them before.
        for name in ('train', 'test', 'meta'):
            load_pickle(os.path.join(root, dataset.base_folder, name))
        dataset.train_list, dataset.test_list = [['train', None]], [['test', None]]
    if not lazy_init:
        dataset.full_init()
    return dataset
