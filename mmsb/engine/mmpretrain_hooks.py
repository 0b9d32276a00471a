"""A hook of mmpretrain's, mended. Imported where it is used: it needs mmpretrain."""

from mmengine.registry import HOOKS
from mmpretrain.engine import VisualizationHook


@HOOKS.register_module()
class BGRVisualizationHook(VisualizationHook):
    """mmpretrain's hook for images that are loaded as BGR: it would draw red as blue.

    With test-time augmentation, whose inputs it does not expect, the first view is drawn.
    """

    def _draw_samples(self, batch_idx, data_batch, data_samples, step=0):
        images = data_batch['inputs']
        if images[0].ndim == 4:  # of each view a batch
            images = images[0]
        images = [image.flip(0) for image in images]
        super()._draw_samples(batch_idx, dict(data_batch, inputs=images), data_samples, step)
