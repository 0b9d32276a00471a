"""Loading images with errors that name the file."""

import logging

from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine.logging import print_log

from mmsb.errors import UserError
from mmsb.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(_LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that says which image cannot be decoded.

    mmcv stops with OpenCV's assertion, which names no file, or, where OpenCV returns
    nothing, with an AssertionError. (A JPEG cut short that OpenCV still decodes passes, as
    in mmcv: its missing part is grey.)

    Args:
        skip_corrupt (bool): Leave an unreadable image out with a warning that counts them,
            and let the dataset draw another, rather than stop. Defaults to False.
        **kwargs: mmcv's arguments.

    Raises:
        UserError: The image is missing or cannot be decoded.
    """

    def __init__(self, skip_corrupt: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.skip_corrupt = skip_corrupt
        self.num_skipped = 0

    def transform(self, results: dict) -> dict | None:
        """Loads ``results['img_path']``; None where a corrupt image is skipped."""
        try:
            return super().transform(results)
        except Exception as error:
            path = results['img_path']
            if self.skip_corrupt and not isinstance(error, FileNotFoundError):
                self.num_skipped += 1
                print_log(
                    f'image {path} cannot be decoded: skipped '
                    f'({self.num_skipped} so far in this worker)',
                    'current',
                    level=logging.WARNING,
                )
                return None
            raise UserError(
                f'image {path} cannot be read: repair or remove it, or set skip_corrupt=True '
                'on LoadImageFromFile in the training pipeline'
            ) from error
