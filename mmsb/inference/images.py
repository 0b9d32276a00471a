"""Model inputs: an image after the test pipeline of its config."""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass

import cv2
import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmsb.engine.config import innermost_dataset
from mmsb.utils.errors import UserError


@dataclass(frozen=True)
class Inputs:
    """An image, preprocessed for a network.

    Attributes:
        tensor: The normalised and padded image, (1, 3, H, W), on the model's device.
        samples: A list with the toolbox's data sample for the image.
        picture: The image before normalisation and padding (at the right and bottom): RGB, uint8,
            (h, w, 3), where h <= H and w <= W. Crop a map over the input to it with ``[:h, :w]``.
    """

    tensor: Tensor
    samples: list
    picture: np.ndarray


def load_inputs(cfg: Config, model: nn.Module, path: str | os.PathLike) -> Inputs:
    """Preprocess an image with its config's test pipeline and the model's data preprocessor.

    Args:
        cfg: A config for any of the three tasks. Its test pipeline runs without annotations.
        model: The model built from the config.
        path: The image file.

    Returns:
        The model's input and the picture that it shows.

    Raises:
        UserError: The image cannot be read, or the pipeline does not turn it into one image.
    """
    image = read_image(path)
    steps = deepcopy(innermost_dataset(cfg.test_dataloader.dataset).pipeline)
    steps = [step for step in steps if 'Annotation' not in step['type']]
    results = dict(img_path=str(path), img_id=0)
    loads = any('LoadImage' in step['type'] for step in steps)
    if not loads:  # CIFAR's data set keeps its images in memory, as RGB
        results.update(img=image[..., ::-1], img_shape=image.shape[:2], ori_shape=image.shape[:2])
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        packed = Compose(steps)(results)
    image = packed.get('inputs')
    if not isinstance(image, Tensor) or image.ndim != 3:
        raise UserError(
            f'the test pipeline of {cfg.filename} does not turn {path} into one image: it must end '
            "with the toolbox's Pack...Inputs, without test-time augmentation"
        )
    if loads:  # images load as BGR, whatever order the network expects
        image = image.flip(0)
    picture = image.permute(1, 2, 0).clamp(0, 255).round().byte().contiguous().numpy()
    batch = model.data_preprocessor(pseudo_collate([packed]), False)
    return Inputs(batch['inputs'], batch['data_samples'], picture)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file with mmcv: BGR, uint8, (H, W, 3).

    Raises:
        UserError: The file does not exist, is damaged or is not an image.
    """
    try:
        image = mmcv.imread(str(path))
    except (OSError, cv2.error):  # an empty file raises cv2.error
        image = None
    if image is None:
        raise UserError(f'image {path} cannot be read: repair it or leave it out')
    return image
