"""Hook that decides what a runner takes from a checkpoint."""

from mmengine.hooks import Hook
from mmengine.runner import Runner


class CheckpointContentHook(Hook):
    """Drop a checkpoint's config, which mmengine's ``Runner.resume`` runs as Python code.

    mmengine only compares its ``gpu_ids``, which no config of OpenMMLab 2 has.
    """

    priority = 'VERY_HIGH'  # before hooks that load weights themselves, e.g. EMAHook

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Change the checkpoint in place, before the runner uses it."""
        meta = checkpoint.get('meta')
        if isinstance(meta, dict):
            meta.pop('config', None)
