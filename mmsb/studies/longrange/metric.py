"""Accuracy of dense labelling against how far away what decides it is."""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from mmsb.registry import METRICS
from mmsb.studies.longrange.dataset import IGNORED


@METRICS.register_module()
class DistanceAccuracy(BaseMetric):
    """Pixel accuracy in percent, of all labelled pixels and by the distance to the key.

    For :class:`mmsb.studies.longrange.dataset.LongRange` under mmseg; the data samples carry
    ``key_distance``. ``accuracy`` is of all pixels, ``16-24px`` of those whose object is 16
    pixels or more and less than 24 from its key; a range without pixels is left out.

    Args:
        bin_width (int): Width of the ranges in pixels. Defaults to 8.
        collect_device (str): As in mmengine's ``BaseMetric``. Defaults to 'cpu'.
        prefix (str, optional): As there. Defaults to None.
    """

    def __init__(self, bin_width: int = 8, collect_device: str = 'cpu', prefix: str | None = None):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.bin_width = bin_width

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Counts a batch's labelled pixels, and those labelled right, in each range."""
        for sample in data_samples:
            truth = sample['gt_sem_seg']['data'][0].cpu().numpy()
            predicted = sample['pred_sem_seg']['data'][0].cpu().numpy()
            labelled = truth != IGNORED
            ranges = (sample['key_distance'][labelled] // self.bin_width).astype(int)
            right = (predicted == truth)[labelled]
            self.results.append((np.bincount(ranges), np.bincount(ranges, right)))

    def compute_metrics(self, results: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Accuracies in percent, of all pixels first."""
        counts = np.zeros((2, max(len(pixels) for pixels, _ in results)))
        for image in results:
            for total, of_image in zip(counts, image, strict=True):
                total[: len(of_image)] += of_image
        pixels, right = counts
        metrics = dict(accuracy=100 * right.sum() / pixels.sum())
        for n in np.flatnonzero(pixels):
            name = f'{n * self.bin_width}-{(n + 1) * self.bin_width}px'
            metrics[name] = 100 * right[n] / pixels[n]
        return {name: float(value) for name, value in metrics.items()}
