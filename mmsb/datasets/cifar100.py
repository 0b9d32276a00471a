"""CIFAR-100 for mmpretrain, real or synthetic, and a check of its files."""

import os

import numpy as np

from mmsb.datasets.miniatures.folder import is_miniature
from mmsb.registry import DATASETS
from mmsb.utils.errors import UserError
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


def check_cifar100(root: str | os.PathLike, counts: dict[str, int] | None = None) -> None:
    """Check the pickles in a folder ``cifar-100-python``.

    Args:
        root: The folder that holds it.
        counts: Number of images in ``train`` and ``test``. Defaults to None: any.

    Raises:
        UserError: A file is missing, damaged or holds code, or images and labels do not fit.
    """
    folder = os.path.join(root, 'cifar-100-python')
    contents = {}
    for name in ('meta', 'train', 'test'):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise UserError(f'{path} does not exist')
        contents[name] = load_pickle(path, encoding='latin1')
    names = contents['meta'].get('fine_label_names', ())
    if len(names) != 100:
        raise UserError(f'{folder}/meta lists {len(names)} classes, not 100')
    for name in ('train', 'test'):
        images, labels = contents[name].get('data'), contents[name].get('fine_labels', ())
        shape = (counts[name] if counts else len(labels), 32 * 32 * 3)
        if not isinstance(images, np.ndarray) or images.shape != shape or images.dtype != np.uint8:
            raise UserError(
                f'{folder}/{name} must hold {shape[0]} images of {shape[1]} bytes; it holds '
                f'{getattr(images, "dtype", type(images).__name__)} of the shape '
                f'{list(getattr(images, "shape", ()))}'
            )
        if len(labels) != len(images) or not all(0 <= label < 100 for label in labels):
            raise UserError(
                f'{folder}/{name} must hold one label from 0 to 99 per image; it has '
                f'{len(labels)} labels for {len(images)} images'
            )
