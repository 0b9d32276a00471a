"""Hook that decides what a runner takes from a checkpoint."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsb.checkpoints.fitting import starting_weights, whole_weights


class CheckpointContentHook(Hook):
    """Check that a checkpoint's weights fit, and drop its config.

    mmengine's ``Runner.resume`` runs ``meta['config']`` as Python code, only to compare its
    ``gpu_ids``, which no config of OpenMMLab 2 has. Nothing here needs it.

    Args:
        whole: Whether the model needs all its weights, as for testing; resuming always does.
            If False, a complete backbone is enough.
        allow_partial: Accept any part of the weights, and say what is missing. Defaults to False.
    """

    priority = 'VERY_HIGH'  # before hooks that load weights themselves, e.g. EMAHook

    def __init__(self, whole: bool, allow_partial: bool = False):
        self.whole = whole
        self.allow_partial = allow_partial

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check and change the checkpoint in place, before the runner uses it.

        Raises:
            UserError: The weights do not fit.
        """
        path = runner._load_from
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        if self.whole or runner._resume:
            allow = None if runner._resume else self.allow_partial  # resuming has no such flag
            state = whole_weights(runner.model, checkpoint, path, allow)
        else:
            state = starting_weights(runner.model, checkpoint, path, self.allow_partial)
        checkpoint['state_dict'] = state
        if isinstance(meta, dict):
            meta.pop('config', None)
