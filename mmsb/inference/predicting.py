"""Predictions on the user's own images, made by each toolbox's inferencer."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track

from mmsb.checkpoints.fitting import whole_weights
from mmsb.engine.config import check_config_path, read_config, use_weights
from mmsb.engine.explaining import explained_errors
from mmsb.inference.images import read_image
from mmsb.inference.loading import build_model
from mmsb.toolboxes import toolbox_of
from mmsb.utils.errors import UserError
from mmsb.utils.files import find_images, output_paths, replacing
from mmsb.utils.safe_load import load_checkpoint_source


def predict_images(
    paths: Sequence[str],
    config: str,
    checkpoint: str,
    out_dir: str = 'predictions',
    device: str | None = None,
    min_score: float = 0.3,
    out: str | None = None,
) -> Iterator[tuple[Path, Path, str]]:
    """Predict on images and draw the predictions.

    Args:
        paths: Image files and folders.
        config: A config for any of the three tasks.
        checkpoint: The weights for it.
        out_dir: Folder for the pictures, one NAME.png per image. Defaults to 'predictions'.
        device: E.g. 'cpu' or 'cuda:0'. Defaults to None: a GPU if there is one.
        min_score: Lowest score of the boxes to draw. Defaults to 0.3.
        out: A JSON file for the predictions: a list with a dict per image. It has the ``image``
            and, for a detector, ``objects`` with ``label``, ``class``, ``score`` and ``box`` (x1,
            y1, x2, y2 in pixels); for a classifier ``label``, ``class`` and ``score``; for a
            segmentor ``shares`` of the pixels by class, the map's ``size``, and the map row by row
            as ``runs``, pairs of a label and how often it follows itself. Defaults to None.

    Yields:
        For each image its path, the path of its picture, and a line that summarises the prediction.

    Raises:
        UserError: The config, the checkpoint or an image is missing; or images cannot be read. The
            others have been predicted on then, and the exit code is 1.
    """
    if out and not out.endswith('.json'):
        raise UserError(f'--out {out}: predictions are written as NAME.json')
    check_config_path(config)
    images = find_images(paths)
    cfg = read_config(config)
    use_weights(cfg, checkpoint)
    init_default_scope(cfg.default_scope)
    with explained_errors(cfg), redirect_stdout(sys.stderr):  # stdout is for the predictions
        # the toolboxes' inferencers load any part of any file
        content = load_checkpoint_source(checkpoint)
        whole_weights(build_model(cfg), content, checkpoint)
        predict = toolbox_of(cfg).predictor(cfg, checkpoint, device, min_score)
    os.makedirs(out_dir, exist_ok=True)
    outs = output_paths(images, out_dir)
    predictions, unreadable = [], []
    shown = Console(stderr=True)
    for path in track(images, 'predicting', console=shown, disable=not sys.stderr.isatty()):
        try:
            read_image(path)
        except UserError:
            unreadable.append(str(path))
            continue
        line, prediction = predict(path, outs[path])
        predictions.append(dict(image=str(path), **prediction))
        yield path, outs[path], line
    if out:
        with replacing(out) as part:
            part.write_text(json.dumps(predictions, ensure_ascii=False) + '\n', encoding='utf-8')
    if unreadable:
        error = UserError(
            f'{len(unreadable)} of {len(images)} images cannot be read: {", ".join(unreadable)}; '
            'repair or remove them'
        )
        error.exit_code = 1
        raise error
