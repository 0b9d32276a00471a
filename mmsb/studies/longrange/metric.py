"""Pixel accuracy binned by the distance to the key that determines the label."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from mmsb.registry import METRICS
from mmsb.studies.longrange.dataset import IGNORED


@METRICS.register_module()
class DistanceAccuracy(BaseMetric):
    """Pixel accuracy in percent, over all labelled pixels and per distance to the key.

    For :class:`mmsb.studies.longrange.dataset.LongRange` with mmseg; the data samples carry
    ``key_distance`` and ``keys_at_edge``. ``accuracy`` is over all pixels, ``16-24px`` over those
    whose object is at least 16 and less than 24 pixels from its key; a bin without pixels is left
    out. Where images differ in it, as on 'order', ``1-at-edge`` is over the images with one key at
    the top or bottom edge.

    Args:
        bin_width (int): Width of the distance bins in pixels. Defaults to 8.
        collect_device (str): See mmengine's ``BaseMetric``. Defaults to 'cpu'.
        prefix (str, optional): See mmengine's ``BaseMetric``. Defaults to None.
    """

    def __init__(self, bin_width: int = 8, collect_device: str = 'cpu', prefix: str | None = None):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.bin_width = bin_width

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count a batch's labelled pixels and correct pixels per bin."""
        for sample in data_samples:
            truth = sample['gt_sem_seg']['data'][0].cpu().numpy()
            predicted = sample['pred_sem_seg']['data'][0].cpu().numpy()
            labelled = truth != IGNORED
            ranges = (sample['key_distance'][labelled] // self.bin_width).astype(int)
            right = (predicted == truth)[labelled]
            counts = np.bincount(ranges), np.bincount(ranges, right)
            self.results.append((*counts, sample['keys_at_edge']))

    def compute_metrics(self, results: list[tuple[np.ndarray, np.ndarray, int]]) -> dict:
        """Return accuracies in percent, first over all pixels."""
        counts = np.zeros((2, max(len(pixels) for pixels, _, _ in results)))
        at_edge = defaultdict(lambda: np.zeros(2))
        for *image, keys in results:
            for total, of_image in zip(counts, image, strict=True):
                total[: len(of_image)] += of_image
            at_edge[keys] += [of_image.sum() for of_image in image]
        pixels, right = counts
        metrics = dict(accuracy=100 * right.sum() / pixels.sum())
        for n in np.flatnonzero(pixels):
            name = f'{n * self.bin_width}-{(n + 1) * self.bin_width}px'
            metrics[name] = 100 * right[n] / pixels[n]
        if len(at_edge) > 1:
            for keys, (total, of_keys) in sorted(at_edge.items()):
                metrics[f'{keys}-at-edge'] = 100 * of_keys / total
        return {name: float(value) for name, value in metrics.items()}
