"""Transforms that load images and segmentation maps, with errors that name the file."""

import io
import logging
import os

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine import fileio
from mmengine.logging import print_log
from PIL import Image

from mmsb.registry import TRANSFORMS
from mmsb.utils.errors import UserError

REMEDY = ', but the data set lists it: restore it or remove its entry'


def read_file(
    path: str, what: str, backend_args: dict | None = None, remedy: str = REMEDY
) -> bytes:
    """Read a file of a data set.

    Args:
        path: The file, or an address for mmengine's file backends.
        what: What it is, for the error, e.g. 'image'.
        backend_args: Arguments of mmengine's file backend. Defaults to None.
        remedy: What the error for a missing file says to do.

    Raises:
        UserError: It does not exist, is no file, or is empty.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a device would be read without end
        raise UserError(f'{what} {path} is a folder or a device: remove its entry')
    try:
        content = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise UserError(f'{what} {path} does not exist{remedy}') from error
    return content


def check_pixels(content: bytes, path: str) -> None:
    """Raise an error for an image of more pixels than Pillow's limit, before it is decoded."""
    try:
        Image.open(io.BytesIO(content)).close()
    except Image.DecompressionBombError as error:
        raise UserError(
            f'image {path} is too large ({error}): make it smaller, or set '
            'PIL.Image.MAX_IMAGE_PIXELS'
        ) from error
    except Exception:  # decoding it says what is wrong
        pass


@TRANSFORMS.register_module()
class LoadImageFromFile(_LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` with an error that names the image that cannot be decoded.

    mmcv's own errors (an OpenCV assertion or an AssertionError) do not name the file. As in
    mmcv, a truncated image that OpenCV can still decode is accepted (old versions of OpenCV do).

    Args:
        skip_corrupt (bool): Skip an unreadable image instead of stopping: the dataset picks
            another one, and a warning counts the skipped images. A missing image stops the run
            nevertheless. Defaults to False.
        **kwargs: Arguments of mmcv's ``LoadImageFromFile``.

    Raises:
        UserError: The image is missing, cannot be decoded or has too many pixels.
    """

    def __init__(self, skip_corrupt: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.skip_corrupt = skip_corrupt
        self.num_skipped = 0

    def transform(self, results: dict) -> dict | None:
        """Load ``results['img_path']``; return None if a corrupt image is skipped.

        If the data set gives the encoded image, ``img_bytes``, ``img_path`` only names it.
        """
        path = results['img_path']
        if self.file_client_args is not None:
            return super().transform(results)
        try:
            content = results.pop('img_bytes', None)
            if content is None:
                content = read_file(path, 'image', self.backend_args)
        except UserError:
            if self.ignore_empty:
                return None
            raise
        check_pixels(content, path)
        try:
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        except Exception:  # OpenCV and Pillow raise many types
            image = None
        if image is None:
            return self._skip(path, 'it is empty' if not content else 'it is damaged')
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _skip(self, path: str, reason: str) -> None:
        if self.ignore_empty:
            return
        if not self.skip_corrupt:
            raise UserError(
                f'image {path} cannot be read: repair or remove it ({reason}), or set '
                'skip_corrupt=True on mmsb.LoadImageFromFile in the training pipeline'
            )
        self.num_skipped += 1
        print_log(
            f'image {path} cannot be decoded: skipped ({self.num_skipped} so far in this worker)',
            'current',
            level=logging.WARNING,
        )


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """mmseg's ``LoadAnnotations`` with an error that names a missing or invalid segmentation map.

    mmseg does not name a map that cannot be decoded, and it accepts any label, of which it takes
    the last 8 bits. A label beyond the classes stops training later, in the loss; on a GPU this is
    a CUDA assertion that names no file. Evaluation would ignore such a label.

    Args:
        num_classes (int): Number of classes of the model. Defaults to 150, as in ADE20K.
        **kwargs: Arguments of mmseg's ``LoadAnnotations``.

    Raises:
        UserError: The map is missing, cannot be decoded, is not one channel of whole numbers of
            the image's size, or holds a label beyond the classes.
    """

    def __init__(self, num_classes: int = 150, **kwargs):
        from mmseg.datasets.transforms import LoadAnnotations

        self.num_classes = num_classes
        self.load = LoadAnnotations(**kwargs)  # for its arguments

    def transform(self, results: dict) -> dict:
        """Load ``results['seg_map_path']`` as ``results['gt_seg_map']``, (H, W), uint8."""
        path = results['seg_map_path']
        reduce = results['reduce_zero_label']
        if self.load.reduce_zero_label not in (None, reduce):
            raise UserError(
                f'reduce_zero_label is {self.load.reduce_zero_label} on LoadAnnotations, but '
                f'{reduce} on the data set: leave it out on LoadAnnotations'
            )
        labels = self._exact(self._read(path), path, results)
        if reduce:
            labels = np.where(labels == 0, 255, labels) - 1
            labels[labels == 254] = 255
        labels = labels.astype(np.uint8)
        if results.get('label_map') is not None:
            table = np.arange(256, dtype=np.uint8)
            for old, new in results['label_map'].items():
                table[old] = new
            labels = table[labels]
        self._check_highest(labels, path, reduce)
        results['gt_seg_map'] = labels
        results['seg_fields'].append('gt_seg_map')
        return results

    def _read(self, path: str) -> np.ndarray:
        remedy = ': every image needs one of its name'
        content = read_file(path, 'segmentation map', self.load.backend_args, remedy)
        try:
            backend = self.load.imdecode_backend
            labels = mmcv.imfrombytes(content, flag='unchanged', backend=backend)
        except Exception:  # PIL and OpenCV raise many types
            labels = None
        if labels is None:
            raise UserError(
                f'segmentation map {path} cannot be read: repair it, or remove it and its image '
                f'(it is {"damaged" if content else "empty"})'
            )
        return labels.squeeze()

    def _exact(self, labels: np.ndarray, path: str, results: dict) -> np.ndarray:
        """Check the shape and the values as they are in the file."""
        size = tuple(results.get('ori_shape', labels.shape))
        if labels.shape != size:
            shape = ' x '.join(map(str, labels.shape))
            raise UserError(
                f'segmentation map {path} is {shape}, its image {size[0]} x {size[1]}: it must '
                'have one channel, of class numbers, and the size of the image'
            )
        if labels.dtype == np.uint8:
            return labels
        with np.errstate(invalid='ignore'):  # NaN and infinity become any number, unequal to them
            whole = labels.astype(np.int64)
        if not np.array_equal(whole, labels):
            raise UserError(
                f'segmentation map {path} holds values of type {labels.dtype} that are not whole '
                'numbers: it must hold class numbers'
            )
        if whole.min() < 0 or whole.max() > 255:
            wrong = whole.min() if whole.min() < 0 else whole.max()
            self._refuse(path, wrong, results['reduce_zero_label'])
        return whole

    def _check_highest(self, labels: np.ndarray, path: str, reduce: bool) -> None:
        beyond = labels[(labels >= self.num_classes) & (labels != 255)]
        if beyond.size:
            self._refuse(path, int(beyond.max()) + int(reduce), reduce)

    def _refuse(self, path: str, label: int, reduce: bool) -> None:
        first = int(reduce)  # the first class's label in the file
        raise UserError(
            f'segmentation map {path} holds label {label}: with '
            f'{self.num_classes} classes the highest is {self.num_classes - 1 + first}, '
            'beside 255, which is ignored'
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes}, load={self.load})'
