"""CIFAR-100 for mmpretrain, real or synthetic."""

from mmsb.datasets.miniatures.folder import is_miniature
from mmsb.registry import DATASETS

MINIATURE = 'miniature CIFAR-100'


@DATASETS.register_module()
def CIFAR100(lazy_init: bool = False, **kwargs):
    """Build mmpretrain's ``CIFAR100``, which can then also read a ``make_mini_cifar100`` folder.

    mmpretrain checks the MD5 of the files and downloads the real ones if they differ. This function
    also accepts the miniature, checked by its record; any other folder is treated as in mmpretrain.

    Args:
        lazy_init (bool): Do not read the files until they are needed. Defaults to False.
        **kwargs: Arguments of mmpretrain's class: ``data_root``, ``split``, ``pipeline``, ...

    Returns:
        mmpretrain.datasets.CIFAR100: The dataset.

    Raises:
        UserError: The folder holds a miniature, but one of its files is missing or damaged.
    """
    # a function, not a subclass, so that importing mmsb does not import mmpretrain
    from mmpretrain.datasets import CIFAR100

    dataset = CIFAR100(lazy_init=True, **kwargs)
    if is_miniature(dataset.data_prefix['root'], MINIATURE, 'make_mini_cifar100.py'):
        dataset.train_list, dataset.test_list = [['train', None]], [['test', None]]
    if not lazy_init:
        dataset.full_init()
    return dataset
