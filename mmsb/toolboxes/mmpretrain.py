"""A hook of mmpretrain's, mended."""

from mmengine.registry import HOOKS


@HOOKS.register_module()
def BGRVisualizationHook(**kwargs):
    """mmpretrain's ``VisualizationHook`` for images loaded as BGR: it would draw red as blue.

    With test-time augmentation, whose inputs it does not expect, the first view is drawn.

    Args:
        **kwargs: mmpretrain's arguments.

    Returns:
        mmpretrain.engine.VisualizationHook: The hook.
    """
    # a function, not a class: mmpretrain is imported when it is called, not when mmsb is
    from mmpretrain.engine import VisualizationHook

    class Hook(VisualizationHook):
        def _draw_samples(self, batch_idx, data_batch, data_samples, step=0):
            images = data_batch['inputs']
            if images[0].ndim == 4:  # of each view a batch
                images = images[0]
            images = [image.flip(0) for image in images]
            super()._draw_samples(batch_idx, dict(data_batch, inputs=images), data_samples, step)

    return Hook(**kwargs)
