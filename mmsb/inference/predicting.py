"""Predictions on a person's own images, through each toolbox's inferencer."""

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.progress import track

from mmsb.engine.config import check_config_path, check_toolbox, use_weights
from mmsb.engine.explaining import explained_errors
from mmsb.inference.images import read_image
from mmsb.utils.files import find_images, output_paths


def predict_images(
    paths: Sequence[str],
    config: str,
    checkpoint: str,
    out_dir: str = 'predictions',
    device: str | None = None,
    min_score: float = 0.3,
) -> Iterator[tuple[Path, Path, str]]:
    """Predicts on images and draws what was found.

    Args:
        paths: Image files and folders.
        config: A config of any of the three tasks.
        checkpoint: Its weights.
        out_dir: Folder for the drawn images, NAME.png each. Defaults to 'predictions'.
        device: As 'cpu' or 'cuda:0'. Defaults to None, a GPU where there is one.
        min_score: Lowest score of a box to draw. Defaults to 0.3.

    Yields:
        For each image its path, that of the drawn one, and a line that says what was found.

    Raises:
        UserError: The config, the checkpoint or an image is missing or cannot be read.
    """
    check_config_path(config)
    images = find_images(paths)
    cfg = Config.fromfile(config)
    check_toolbox(cfg.default_scope)
    use_weights(cfg, checkpoint)
    init_default_scope(cfg.default_scope)
    with explained_errors(cfg):
        predict = PREDICTORS[cfg.default_scope](cfg, checkpoint, device, min_score)
    os.makedirs(out_dir, exist_ok=True)
    outs = output_paths(images, out_dir)
    for path in track(images, description='predicting', disable=not sys.stderr.isatty()):
        read_image(path)
        yield path, outs[path], predict(path, outs[path])


def _detector(cfg: Config, checkpoint: str, device: str | None, min_score: float) -> Callable:
    from mmdet.apis import DetInferencer

    inferencer = DetInferencer(cfg, checkpoint, device, show_progress=False)
    classes = inferencer.model.dataset_meta['classes']

    def predict(path: Path, out: Path) -> str:
        results = inferencer(
            str(path), return_vis=True, return_datasamples=True, pred_score_thr=min_score
        )
        _write(results['visualization'][0], out)
        found = results['predictions'][0].pred_instances
        labels = found.labels[found.scores >= min_score].tolist()
        counts = Counter(classes[label] for label in labels)
        return ', '.join(f'{n} {name}' for name, n in counts.most_common()) or 'nothing'

    return predict


def _segmentor(cfg: Config, checkpoint: str, device: str | None, min_score: float) -> Callable:
    from mmseg.apis import MMSegInferencer

    inferencer = MMSegInferencer(cfg, checkpoint, device=device)
    inferencer.show_progress = False
    classes = inferencer.model.dataset_meta['classes']

    def predict(path: Path, out: Path) -> str:
        results = inferencer(str(path), return_vis=True)
        _write(results['visualization'], out)
        labels = np.asarray(results['predictions'])
        counts = Counter(dict(zip(*np.unique(labels, return_counts=True), strict=True)))
        shares = [(classes[i], n / labels.size) for i, n in counts.most_common(5)]
        return ', '.join(f'{share:.0%} {name}' for name, share in shares)

    return predict


def _classifier(cfg: Config, checkpoint: str, device: str | None, min_score: float) -> Callable:
    from mmpretrain.apis import ImageClassificationInferencer

    inferencer = ImageClassificationInferencer(cfg, checkpoint, device)

    def predict(path: Path, out: Path) -> str:
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            result = inferencer(str(path), show_dir=folder)[0]
            shutil.move(next(Path(folder).iterdir()), out)
        name = result.get('pred_class', result['pred_label'])
        return f'{name} ({result["pred_score"]:.2f})'

    return predict


PREDICTORS = dict(mmdet=_detector, mmseg=_segmentor, mmpretrain=_classifier)


def _write(rgb: np.ndarray, out: Path) -> None:
    mmcv.imwrite(rgb[..., ::-1], str(out))
