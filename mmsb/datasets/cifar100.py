"""CIFAR-100 for mmpretrain, real or drawn."""

from mmsb.datasets.miniatures.folder import is_miniature
from mmsb.registry import DATASETS

MINIATURE = 'miniature CIFAR-100'


@DATASETS.register_module()
def CIFAR100(lazy_init: bool = False, **kwargs):
    """mmpretrain's ``CIFAR100`` that also reads what ``make_mini_cifar100`` draws.

    mmpretrain knows the MD5 of the real files and downloads them where it finds others. Here it
    knows the miniature too, by its record; any other folder is treated as before.

    Args:
        lazy_init (bool): Do not read the files yet. Defaults to False.
        **kwargs: mmpretrain's arguments: ``data_root``, ``split``, ``pipeline``, ...

    Returns:
        mmpretrain.datasets.CIFAR100: The data set.

    Raises:
        UserError: The folder holds a miniature of which a file is missing or damaged.
    """
    # a function, not a subclass: mmpretrain is imported when it is called, not when mmsb is
    from mmpretrain.datasets import CIFAR100

    dataset = CIFAR100(lazy_init=True, **kwargs)
    if is_miniature(dataset.data_prefix['root'], MINIATURE, 'make_mini_cifar100.py'):
        dataset.train_list, dataset.test_list = [['train', None]], [['test', None]]
    if not lazy_init:
        dataset.full_init()
    return dataset
