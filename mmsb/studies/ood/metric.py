"""The model-vs-human benchmark as a metric for mmpretrain's tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmsb.registry import METRICS
from mmsb.studies.ood.responses import read_responses, write_responses
from mmsb.studies.ood.scores import HUMAN, Responses, average, decide, score
from mmsb.utils.errors import UserError


@METRICS.register_module()
class OODMetric(BaseMetric):
    """Comparison of a classifier with humans on the data sets of :class:`.dataset.OODDataset`.

    The metrics are means over the data sets that are present (``datasets`` counts them): accuracy
    difference (squared), observed and error consistency with each human, OOD accuracy; and the
    shape bias on cue-conflict.

    Args:
        humans (str): Folder with the humans' responses, model-vs-human's ``raw-data``. If it does
            not exist, the metrics that compare with humans are left out, with a warning.
        out_dir (str | None): Folder for the model's responses, in the same format. Defaults to
            None, no files; ``tools/test.py`` sets ``WORK_DIR/responses`` instead.
        model (str): The model's name in these files. Defaults to 'model'; ``tools/test.py`` sets
            the config's name instead.
        **kwargs: Arguments of mmengine's ``BaseMetric``: ``collect_device``, ``prefix``.

    Raises:
        UserError: The humans' responses cannot be read, ``model`` is a human's name, or, checked
            before the test begins, the humans saw other images than the data set has.
    """

    default_prefix = 'ood'

    def __init__(self, humans: str, out_dir: str | None = None, model: str = 'model', **kwargs):
        super().__init__(**kwargs)
        self.out_dir, self.model = out_dir, model.replace('_', '-')
        if self.model.startswith(HUMAN):
            raise UserError(f'test_evaluator.model={model}: {HUMAN}... names humans, give another')
        found = read_responses([humans]) if os.path.isdir(humans) else {}
        self.humans = {
            dataset: {name: theirs for name, theirs in observers.items() if name.startswith(HUMAN)}
            for dataset, observers in found.items()
        }
        if not any(self.humans.values()):
            print_log(
                f'{humans} holds no responses of humans (sketch/sketch_subject-01_session_1.csv '
                "and so on, model-vs-human's raw-data): only accuracy and shape bias are measured",
                'current',
                logging.WARNING,
            )

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        """Check that the humans saw the same images, before the long test begins."""
        self._dataset_meta = meta
        for dataset, rows in meta.get('images', {}).items():
            conditions, images, categories = zip(*rows, strict=True)
            self._score(dataset, Responses(conditions, images, categories, categories))

    def _score(self, dataset: str, own: Responses) -> dict[str, float]:
        observers = {**self.humans.get(dataset, {}), self.model: own}
        return score(dataset, observers, [self.model])[self.model]

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Choose a category for each image.

        Args:
            data_batch: Not used.
            data_samples: Samples with ``pred_score``, (1000,), and the data set's ``ood``.
        """
        decisions = decide(torch.stack([s['pred_score'] for s in data_samples]).cpu().numpy())
        for sample, decision in zip(data_samples, decisions.tolist(), strict=True):
            image = os.path.basename(sample['img_path'])
            self.results.append(dict(sample['ood'], image=image, response=decision))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Write the responses and compare them with the humans'."""
        by_dataset = {}
        for result in results:
            by_dataset.setdefault(result['dataset'], []).append(result)
        if self.out_dir is not None:
            keys = ('session', 'trial', 'response', 'category', 'condition', 'image')
            for dataset, found in by_dataset.items():
                rows = [[result[key] for key in keys] for result in found]
                write_responses(self.out_dir, dataset, self.model, rows)
            print_log(f'responses of {self.model}: {self.out_dir}', 'current')
        scores = []
        for dataset, found in by_dataset.items():
            own = Responses(*([result[key] for result in found] for key in Responses._fields))
            scores.append(self._score(dataset, own))
        return dict(average(scores), datasets=len(scores))
