"""Predictions on the user's own images, made by each toolbox's inferencer."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.registry import MODELS, init_default_scope
from rich.progress import track

from mmsb.checkpoints.fitting import whole_weights
from mmsb.engine.config import check_config_path, read_config, use_weights
from mmsb.engine.explaining import explained_errors
from mmsb.inference.images import read_image
from mmsb.toolboxes import toolbox_of
from mmsb.utils.files import find_images, output_paths
from mmsb.utils.safe_load import load_checkpoint_source


def predict_images(
    paths: Sequence[str],
    config: str,
    checkpoint: str,
    out_dir: str = 'predictions',
    device: str | None = None,
    min_score: float = 0.3,
) -> Iterator[tuple[Path, Path, str]]:
    """Predict on images and draw the predictions.

    Args:
        paths: Image files and folders.
        config: A config for any of the three tasks.
        checkpoint: The weights for it.
        out_dir: Folder for the pictures, one NAME.png per image. Defaults to 'predictions'.
        device: E.g. 'cpu' or 'cuda:0'. Defaults to None: a GPU if there is one.
        min_score: Lowest score of the boxes to draw. Defaults to 0.3.

    Yields:
        For each image its path, the path of its picture, and a line that summarises the prediction.

    Raises:
        UserError: The config, the checkpoint or an image is missing or cannot be read.
    """
    check_config_path(config)
    images = find_images(paths)
    cfg = read_config(config)
    use_weights(cfg, checkpoint)
    init_default_scope(cfg.default_scope)
    with explained_errors(cfg):
        # the toolboxes' inferencers load any part of any file
        content = load_checkpoint_source(checkpoint)
        whole_weights(MODELS.build(cfg.model), content, checkpoint)
        predict = toolbox_of(cfg).predictor(cfg, checkpoint, device, min_score)
    os.makedirs(out_dir, exist_ok=True)
    outs = output_paths(images, out_dir)
    for path in track(images, description='predicting', disable=not sys.stderr.isatty()):
        read_image(path)
        yield path, outs[path], predict(path, outs[path])
