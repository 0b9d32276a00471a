"""Loading images and segmentation maps with errors that name the file."""

import logging

from mmcv.transforms import BaseTransform
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine.logging import print_log

from mmsb.registry import TRANSFORMS
from mmsb.utils.errors import UserError


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


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """mmseg's ``LoadAnnotations`` that says which segmentation map is missing or wrong.

    mmseg does not name a map that cannot be decoded, and takes any label: one beyond the classes
    stops training later, in the loss, on a GPU with an assertion of CUDA's that names nothing. An
    evaluation would pass over it.

    Args:
        num_classes (int): Classes of the model. Defaults to 150, ADE20K's.
        **kwargs: mmseg's arguments.

    Raises:
        UserError: The map is missing, cannot be decoded, is not one channel of the image's size,
            or holds a label beyond the classes.
    """

    def __init__(self, num_classes: int = 150, **kwargs):
        from mmseg.datasets.transforms import LoadAnnotations

        self.num_classes = num_classes
        self.load = LoadAnnotations(**kwargs)

    def transform(self, results: dict) -> dict:
        """Loads ``results['seg_map_path']`` as ``results['gt_seg_map']``, (H, W), uint8."""
        path = results['seg_map_path']
        try:
            results = self.load(results)
        except FileNotFoundError as error:
            raise UserError(
                f'segmentation map {path} does not exist: every image needs one of its name'
            ) from error
        except AssertionError:
            raise  # the pipeline contradicts the data set: no matter of the file
        except Exception as error:  # PIL's and OpenCV's are of many kinds
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
            first = int(results['reduce_zero_label'])  # in the file the classes count from here
            raise UserError(
                f'segmentation map {path} holds label {beyond.max() + first}: with '
                f'{self.num_classes} classes the highest is {self.num_classes - 1 + first}, '
                'beside 255, which is ignored'
            )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes}, load={self.load})'
