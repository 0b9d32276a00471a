"""Classification: mmpretrain."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS
from torch import Tensor, nn

from mmsb.utils.errors import UserError

from .base import Predict, Target, Toolbox


class MMPretrain(Toolbox):
    """Classifiers."""

    name = 'mmpretrain'
    root_variables = dict(ImageNet='MMSB_IMAGENET_ROOT', CIFAR100='MMSB_CIFAR100_ROOT')
    tta_model = dict(type='AverageClsScoreTTA')

    def set_model_defaults(self, model: ConfigDict) -> None:
        """Return the last stage only: necks and heads of mmpretrain take one feature map.

        ``pretrained`` of a classifier is a short form of its ``init_cfg``.
        """
        if model.get('pretrained'):
            model.init_cfg = dict(type='Pretrained', checkpoint=model.pop('pretrained'))
        backbone = model.get('backbone') or {}
        if backbone.get('type') in ('mmsb.SBResNet', 'SBResNet'):
            backbone.setdefault('out_indices', (backbone.get('num_stages', 4) - 1,))

    def set_loader_defaults(self, loader: ConfigDict) -> None:
        loader.setdefault('pin_memory', True)
        loader.setdefault('collate_fn', dict(type='default_collate'))
        loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)

    def draw_predictions(self, cfg: Config, folder: str | None) -> None:
        hook = cfg.default_hooks.visualization
        hook.update(enable=True, out_dir=folder)
        if (cfg.model.get('data_preprocessor') or {}).get('to_rgb'):
            hook.type = BGRVisualizationHook.__name__

    def predictor(self, cfg, checkpoint, device, min_score) -> Predict:
        from mmpretrain.apis import ImageClassificationInferencer
        from mmpretrain.utils import progress

        progress.disable_progress_bar = True  # it would mix with the predictions on stdout
        inferencer = ImageClassificationInferencer(cfg, checkpoint, device)

        def predict(path: Path, out: Path) -> tuple[str, dict]:
            with tempfile.TemporaryDirectory(dir=out.parent) as folder:
                result = inferencer(str(path), show_dir=folder)[0]
                shutil.move(next(Path(folder).iterdir()), out)
            label, score = int(result['pred_label']), float(result['pred_score'])
            name = result.get('pred_class', str(label))
            return f'{name} ({score:.2f})', {'label': label, 'class': name, 'score': score}

        return predict

    def random_inputs(self, batch: int, shape: tuple[int, int], device: str) -> tuple[Tensor, list]:
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(0).to(device) for _ in range(batch)]
        return torch.randn(batch, 3, *shape, device=device), samples

    def target(self, answer: Tensor, network, category, min_score) -> Target:
        """Select the logit of a class, by default the predicted one."""
        index = int(answer.argmax()) if category is None else network.class_index(category)
        if index >= len(answer):
            raise UserError(f'{network.name} has {len(answer)} classes, 0 to {len(answer) - 1}')
        score = answer.softmax(0)[index].item()
        return Target(answer[index], f'{network.class_name(index)} {score:.2f}')

    def replace_network(self, model: nn.Module, outputs: Callable) -> int:
        model.extract_feat = outputs
        model.head.forward = lambda found: found
        return model.head.num_classes


@HOOKS.register_module()
def BGRVisualizationHook(**kwargs):
    """Variant of mmpretrain's ``VisualizationHook`` for BGR images, which it would draw as RGB.

    With test-time augmentation, which the original does not support, the first view is drawn.

    Args:
        **kwargs: mmpretrain's arguments.

    Returns:
        mmpretrain.engine.VisualizationHook: The hook.
    """
    # a function, not a class, so that importing mmsb does not import mmpretrain
    from mmpretrain.engine import VisualizationHook

    class Hook(VisualizationHook):
        def _draw_samples(self, batch_idx, data_batch, data_samples, step=0):
            images = data_batch['inputs']
            if images[0].ndim == 4:  # test-time augmentation: one batch per view
                images = images[0]
            images = [image.flip(0) for image in images]
            super()._draw_samples(batch_idx, dict(data_batch, inputs=images), data_samples, step)

    return Hook(**kwargs)
