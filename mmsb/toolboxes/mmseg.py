"""Semantic segmentation: mmseg."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmsb.utils.errors import UserError

from .base import NothingToExplainError, Predict, Target, Toolbox, write_rgb


class MMSeg(Toolbox):
    """Segmentors."""

    name = 'mmseg'
    image_size = (512, 512)
    root_variables = dict(ADE20KDataset='MMSB_ADE20K_ROOT')
    tta_model = dict(type='SegTTAModel')

    def check_settings(self, cfg: Config) -> None:
        test_cfg = cfg.model.get('test_cfg') or {}
        missing = [key for key in ('crop_size', 'stride') if not test_cfg.get(key)]
        if test_cfg.get('mode') == 'slide' and missing:
            raise UserError(
                f"model.test_cfg.mode is 'slide', which needs {' and '.join(missing)}: e.g. "
                'crop_size=(512, 512), stride=(341, 341)'
            )

    def naming_transforms(self, cfg: Config) -> dict[str, dict]:
        """Also for segmentation maps, whose labels are compared with the head's classes."""
        model = cfg.model.get('module') or cfg.model  # inside test-time augmentation
        head = model.get('decode_head') or {}
        head = head[-1] if isinstance(head, list | tuple) else head
        found = super().naming_transforms(cfg)
        if head.get('num_classes'):
            ours = dict(type='mmsb.LoadAnnotations', num_classes=head['num_classes'])
            names = ('LoadAnnotations', 'mmseg.LoadAnnotations', 'mmsb.LoadAnnotations')
            found.update(dict.fromkeys(names, ours))
        return found

    def draw_predictions(self, cfg: Config, folder: str | None) -> None:
        super().draw_predictions(cfg, folder)
        if folder:
            cfg.visualizer.save_dir = folder

    def dump(self, path: str) -> DumpResults:
        return _DumpMaps(out_file_path=path)

    def predictor(self, cfg, checkpoint, device, min_score) -> Predict:
        from mmseg.apis import MMSegInferencer

        inferencer = MMSegInferencer(cfg, checkpoint, device=device)
        inferencer.show_progress = False
        classes = inferencer.model.dataset_meta['classes']

        def predict(path: Path, out: Path) -> tuple[str, dict]:
            results = inferencer(str(path), return_vis=True)
            write_rgb(results['visualization'], out)
            labels = np.asarray(results['predictions']).astype(int)  # binary ones are float
            counts = Counter(dict(zip(*np.unique(labels, return_counts=True), strict=True)))
            shares = [(classes[i], n / labels.size) for i, n in counts.most_common(5)]
            line = ', '.join(f'{share:.0%} {name}' for name, share in shares)
            return line, dict(shares=dict(shares), size=list(labels.shape), runs=_runs(labels))

        return predict

    def random_inputs(self, batch: int, shape: tuple[int, int], device: str) -> tuple[Tensor, list]:
        from mmseg.structures import SegDataSample

        info = dict(img_shape=shape, ori_shape=shape, pad_shape=shape)
        samples = []
        for _ in range(batch):
            labels = PixelData(data=torch.randint(2, (1, *shape), device=device))
            samples.append(SegDataSample(metainfo=info, gt_sem_seg=labels))
        return torch.randn(batch, 3, *shape, device=device), samples

    def forward(self, model: nn.Module, images: Tensor) -> Tensor | tuple:
        from mmseg.models.decode_heads import Mask2FormerHead
        from mmseg.structures import SegDataSample

        if not isinstance(model.decode_head, Mask2FormerHead):
            return super().forward(model, images)
        sample = SegDataSample(metainfo=dict(img_shape=tuple(images.shape[2:])))
        return model.decode_head(model.extract_feat(images), [sample] * len(images))

    def outputs(self, model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """Compute logits at the size of the input."""
        return dict(logits=model.encode_decode(images, [dict(img_shape=images.shape[2:])]))

    def target(self, answer: Tensor, network, category, min_score) -> Target:
        """Select the sum of a class' logits over the pixels predicted as it, by default the most
        frequent class except background."""
        labels = answer.argmax(0)
        counts = labels.flatten().bincount(minlength=len(answer))
        if category is not None:
            index = network.class_index(category)
        else:
            foreground = counts.clone()
            for i, name in enumerate(network.classes[: len(counts)]):
                foreground[i] *= name.lower() != 'background'
            index = int(foreground.argmax())
        if index >= len(counts) or not counts[index]:
            raise NothingToExplainError(f'no pixel is predicted as {network.class_name(index)}')
        mask = labels == index
        text = f'{network.class_name(index)}, {mask.float().mean():.0%} of the pixels'
        return Target(answer[index][mask].sum(), text, mask=mask.cpu().numpy())

    def make_exportable(self, model: nn.Module) -> None:
        for module in model.modules():
            if type(module).__name__ == 'Upsample' and getattr(module, 'scale_factor', None):
                # mmseg's Upsample turns the size into a constant, which would fix the export to it
                module.forward = partial(
                    F.interpolate,
                    scale_factor=module.scale_factor,
                    mode=module.mode,
                    align_corners=module.align_corners,
                )

    def replace_network(self, model: nn.Module, outputs: Callable) -> int:
        model.encode_decode = outputs
        return model.decode_head.out_channels  # one for two classes, if it is binary


def _runs(labels: np.ndarray) -> list[list[int]]:
    """Return a label map row by row as pairs of a label and how often it follows itself."""
    flat = labels.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 1))
    lengths = np.diff(starts, append=flat.size)
    return np.stack([flat[starts], lengths], axis=1).tolist()


class _DumpMaps(DumpResults):
    """Dump of segmentation maps without mmseg's logits, which take 600 bytes per pixel."""

    def process(self, data_batch, predictions):
        keys = ('img_path', 'ori_shape')
        maps = [
            dict(
                {key: sample[key] for key in keys if key in sample},
                pred_sem_seg=sample['pred_sem_seg']['data'].to(torch.int16),
            )
            for sample in predictions
        ]
        super().process(data_batch, maps)
