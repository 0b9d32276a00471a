"""Object detection: mmdet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .base import NothingToExplainError, Predict, Target, Toolbox, write_rgb


class MMDet(Toolbox):
    """Detectors."""

    name = 'mmdet'
    image_size = (800, 1333)
    root_variables = dict(CocoDataset='MMSB_COCO_ROOT')
    tta_model = dict(
        type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    )
    tta_meta_keys = (
        *('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
        *('flip', 'flip_direction'),
    )
    # A box depends on one place; Grad-CAM weights each channel equally everywhere and misses it.
    cam_method = 'layercam'
    export_note = (
        'only raw outputs are exported: the FPN features with those of the dense head, or those of '
        'the queries. The second stage and NMS are exported only for plain two-stage detectors, to '
        'ONNX, with batch 1 and a fixed size'
    )
    evaluated_outputs = ('boxes', 'scores', 'labels')
    export_for_evaluation = (
        'export a plain two-stage detector, without --backbone, --batch and --dynamic'
    )

    def resnet(self, **options) -> nn.Module:
        """Build the toolbox's own ResNet-50, for comparisons."""
        from mmdet.models.backbones import ResNet

        return ResNet(50, **options)

    def draw_predictions(self, cfg: Config, folder: str | None) -> None:
        super().draw_predictions(cfg, folder)
        if folder:
            cfg.default_hooks.visualization.test_out_dir = folder

    def dump(self, path: str) -> DumpResults:
        """Write masks as RLE, not as full-size arrays."""
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults(out_file_path=path)

    def predictor(self, cfg, checkpoint, device, min_score) -> Predict:
        from mmdet.apis import DetInferencer

        inferencer = DetInferencer(cfg, checkpoint, device, show_progress=False)
        classes = inferencer.model.dataset_meta['classes']

        def predict(path: Path, out: Path) -> tuple[str, dict]:
            results = inferencer(
                str(path), return_vis=True, return_datasamples=True, pred_score_thr=min_score
            )
            write_rgb(results['visualization'][0], out)
            found = results['predictions'][0].pred_instances
            found = found[found.scores >= min_score]
            names = [classes[label] for label in found.labels.tolist()]
            line = ', '.join(f'{n} {name}' for name, n in Counter(names).most_common())
            values = found.labels.tolist(), names, found.scores.tolist(), found.bboxes.tolist()
            keys = 'label', 'class', 'score', 'box'
            objects = [dict(zip(keys, one, strict=True)) for one in zip(*values, strict=True)]
            return line or 'nothing', dict(objects=objects)

        return predict

    def random_inputs(self, batch: int, shape: tuple[int, int], device: str) -> tuple[Tensor, list]:
        from mmdet.structures import DetDataSample

        height, width = shape
        info = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
        samples = []
        for _ in range(batch):
            corners = torch.rand(8, 2, device=device) * 0.6
            sizes = 0.1 + torch.rand(8, 2, device=device) * 0.3
            boxes = torch.cat([corners, corners + sizes], dim=1)
            boxes = boxes * boxes.new_tensor([width, height, width, height])
            labels = torch.zeros(8, dtype=torch.long, device=device)
            truth = InstanceData(bboxes=boxes, labels=labels)
            samples.append(
                DetDataSample(
                    metainfo=dict(info, scale_factor=(1, 1)),
                    gt_instances=truth,
                    ignored_instances=truth[:0],
                )
            )
        return torch.randn(batch, 3, *shape, device=device), samples

    def forward(self, model: nn.Module, images: Tensor) -> tuple:
        from mmdet.structures import DetDataSample

        # Cascade R-CNN's stages clip their boxes to the image.
        shape = tuple(images.shape[2:])
        sample = DetDataSample(metainfo=dict(img_shape=shape, batch_input_shape=shape))
        return model(images, [sample] * len(images), mode='tensor')

    def outputs(self, model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """Compute raw outputs.

        Of a dense head, per level: the pyramid's features, scores and deltas. Of a head of
        queries (DETR, Mask2Former): scores and boxes or masks of its last layer.
        """
        from mmdet.models.detectors import DetectionTransformer

        if isinstance(model, DetectionTransformer):
            scores, boxes = self.forward(model, images)[:2]
            return dict(query_scores=scores[-1], query_boxes=boxes[-1])
        if hasattr(model, 'panoptic_head'):
            scores, masks = self.forward(model, images)
            return dict(query_scores=scores[-1], query_masks=masks[-1])
        features = model.extract_feat(images)
        head = model.rpn_head if hasattr(model, 'rpn_head') else model.bbox_head
        scores, deltas, *_ = head(features)
        found = dict(pyramid=features, scores=scores, deltas=deltas)
        return {f'{name}{i}': x for name, levels in found.items() for i, x in enumerate(levels)}

    def replace_network(self, model: nn.Module, outputs: Callable) -> int:
        def predict(images: Tensor, samples: list, rescale: bool = True) -> list:
            results = []
            for image, sample in zip(images.split(1), samples, strict=True):
                boxes, scores, labels = outputs(image)
                height, width = sample.img_shape  # without padding, into which boxes may reach
                limits = boxes.new_tensor([width, height, width, height])
                boxes = boxes.clamp(min=0).minimum(limits)
                if rescale:
                    boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
                results.append(InstanceData(bboxes=boxes, scores=scores, labels=labels))
            return model.add_pred_to_datasample(samples, results)

        model.predict = predict
        return model.roi_head.bbox_head.num_classes

    def answer(self, model: nn.Module, images: Tensor, samples: list) -> list:
        """Predict boxes with scores and labels, in pixels of the input."""
        return [sample.pred_instances for sample in model.predict(images, samples, rescale=False)]

    def target(self, answer: InstanceData, network, category, min_score) -> Target:
        """Select the sum of the log-odds of the boxes' scores.

        The gradient of a probability shrinks with confidence, so a sum of scores would mostly
        explain uncertain boxes. The position of the boxes is not explained.
        """
        kept = answer.scores >= min_score
        wanted = 'detection'
        if category is not None:
            index = network.class_index(category)
            kept &= answer.labels == index
            wanted = f'{network.class_name(index)} detected'
        if not kept.any():
            raise NothingToExplainError(f'no {wanted} of score {min_score:g} or more')
        scores = answer.scores[kept]
        counts = Counter(network.class_name(label) for label in answer.labels[kept].tolist())
        text = ', '.join(f'{count} {name}' for name, count in counts.most_common(3))
        text += ',\xa0...' if len(counts) > 3 else ''
        value = scores.logit(eps=torch.finfo(scores.dtype).eps).sum()
        return Target(value, text, boxes=answer.bboxes[kept].detach().cpu().numpy())
