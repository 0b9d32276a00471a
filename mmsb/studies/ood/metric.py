"""The model-vs-human benchmark as a metric of mmpretrain's tests."""

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
    """Compares a classifier with humans on the data sets of :class:`.dataset.OODDataset`.

    The metrics are means over the data sets that are there (``datasets``, how many): accuracy
    difference (squared), observed and error consistency with each human, OOD accuracy; and the
    shape bias on cue-conflict.

    Args:
        humans (str): Folder of the humans' responses, model-vs-human's ``raw-data``. Where it does
            not exist the metrics that compare with humans are left out, with a warning.
        out_dir (str | None): Folder to write the model's responses to, in the same format.
            Defaults to None, which ``tools/test.py`` turns into ``WORK_DIR/responses``.
        model (str): The model's name there. Defaults to 'model', which ``tools/test.py`` turns
            into the config's name.
        **kwargs: mmengine's arguments: ``collect_device``, ``prefix``.

    Raises:
        UserError: The humans' responses cannot be read, the name is a human's, or the data set's
            images, seen before the test begins, are not those of the humans.
    """

    default_prefix = 'ood'

    def __init__(self, humans: str, out_dir: str | None = None, model: str = 'model', **kwargs):
        super().__init__(**kwargs)
        self.out_dir, self.model = out_dir, model.replace('_', '-')
        if self.model.startswith(HUMAN):
            raise UserError(f'test_evaluator.model={model}: names in {HUMAN}... are humans')
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
        """Compares the images with the humans', before hours are spent on them."""
        self._dataset_meta = meta
        for dataset, rows in meta.get('images', {}).items():
            conditions, images, categories = zip(*rows, strict=True)
            self._score(dataset, Responses(conditions, images, categories, categories))

    def _score(self, dataset: str, own: Responses) -> dict[str, float]:
        observers = {**self.humans.get(dataset, {}), self.model: own}
        return score(dataset, observers, [self.model])[self.model]

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Decides for a category of each image.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_score``, (1000,), and what the data set says in ``ood``.
        """
        decisions = decide(torch.stack([s['pred_score'] for s in data_samples]).cpu().numpy())
        for sample, decision in zip(data_samples, decisions.tolist(), strict=True):
            image = os.path.basename(sample['img_path'])
            self.results.append(dict(sample['ood'], image=image, response=decision))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Writes the responses and compares them."""
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
