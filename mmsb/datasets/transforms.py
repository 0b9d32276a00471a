"""Transforms that load images and segmentation maps, with errors that name the file."""

import logging

from mmcv.transforms import BaseTransform
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine.logging import print_log

from mmsb.registry import TRANSFORMS
from mmsb.utils.errors import UserError


@TRANSFORMS.register_module()
class LoadImageFromFile(_LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` with an error that names the image that cannot be decoded.

    mmcv's own errors (an OpenCV assertion or an AssertionError) do not name the file. As in
    mmcv, a truncated JPEG that OpenCV can still decode is accepted; its missing part is grey.

    Args:
        skip_corrupt (bool): Skip an unreadable image instead of stopping: the dataset picks
            another one, and a warning counts the skipped images. Defaults to False.
        **kwargs: Arguments of mmcv's ``LoadImageFromFile``.

    Raises:
        UserError: The image is missing or cannot be decoded.
    """

    def __init__(self, skip_corrupt: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.skip_corrupt = skip_corrupt
        self.num_skipped = 0

    def transform(self, results: dict) -> dict | None:
        """Load ``results['img_path']``; return None if a corrupt image is skipped."""
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


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """mmseg's ``LoadAnnotations`` with an error that names a missing or invalid segmentation map.

    mmseg does not name a map that cannot be decoded, and it accepts any label. A label beyond the
    classes stops training later, in the loss; on a GPU this is a CUDA assertion that names no file.
    Evaluation would ignore such a label.

    Args:
        num_classes (int): Number of classes of the model. Defaults to 150, as in ADE20K.
        **kwargs: Arguments of mmseg's ``LoadAnnotations``.

    Raises:
        UserError: The map is missing, cannot be decoded, is not one channel of the image's size,
            or holds a label beyond the classes.
    """

    def __init__(self, num_classes: int = 150, **kwargs):
        from mmseg.datasets.transforms import LoadAnnotations

        self.num_classes = num_classes
        self.load = LoadAnnotations(**kwargs)

    def transform(self, results: dict) -> dict:
        """Load ``results['seg_map_path']`` as ``results['gt_seg_map']``, (H, W), uint8."""
        path = results['seg_map_path']
        try:
            results = self.load(results)
        except FileNotFoundError as error:
            raise UserError(
                f'segmentation map {path} does not exist: every image needs one of its name'
            ) from error
        except AssertionError:
            raise  # the pipeline does not fit the dataset; the file is not the cause
        except Exception as error:  # PIL and OpenCV raise many types
            raise UserError(
                f'segmentation map {path} cannot be read: repair it, or remove it and its image'
            ) from error
        labels = results['gt_seg_map']
        size = results.get('ori_shape', labels.shape)
        if labels.shape != tuple(size):
            shape = ' x '.join(map(str, labels.shape))
            raise UserError(
                f'segmentation map {path} is {shape}, its image {size[0]} x {size[1]}: it must '
                'have one channel, of class numbers, and the size of the image'
            )
        beyond = labels[(labels >= self.num_classes) & (labels != 255)]
        if beyond.size:
            first = int(results['reduce_zero_label'])  # the first class's label in the file
            raise UserError(
                f'segmentation map {path} holds label {beyond.max() + first}: with '
                f'{self.num_classes} classes the highest is {self.num_classes - 1 + first}, '
                'beside 255, which is ignored'
            )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes}, load={self.load})'
