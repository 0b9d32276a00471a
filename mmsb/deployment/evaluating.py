"""Testing exported models with the data and metrics of their config."""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace

from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from mmsb.deployment.runtime import RUNTIMES, OnnxModel
from mmsb.engine.config import check_data_paths, read_model_config, set_dataloader_defaults
from mmsb.engine.explaining import explained_errors
from mmsb.engine.runner import build_data, build_runner, prepare_data
from mmsb.toolboxes import Toolbox, toolbox_of
from mmsb.utils.errors import UserError


def evaluate(
    config: str,
    model: str | os.PathLike,
    cfg_options: dict | None = None,
    runtime: str = 'onnxruntime',
) -> dict[str, float]:
    """Test an exported classifier, segmentor or whole detector as ``tools/test.py`` tests models.

    The toolbox does everything around the network: data, preprocessing, predictions from the
    outputs, metrics.

    Args:
        config: The config that the model was exported from.
        model: The ONNX file.
        cfg_options: Settings of the config to override. Defaults to None.
        runtime: What runs the file: 'onnxruntime' (default), 'openvino' or 'tensorrt'.

    Returns:
        The metrics.

    Raises:
        UserError: A file or the data is missing or cannot be read, or the file contains another
            kind of model or expects images of another size.
    """
    cfg = read_model_config(config, cfg_options)
    init_default_scope(cfg.default_scope)
    toolbox = toolbox_of(cfg)
    exported = RUNTIMES[runtime](model)
    if exported.outputs != list(toolbox.evaluated_outputs):
        raise UserError(
            f'{model} outputs {", ".join(exported.outputs)}, not '
            f'{", ".join(toolbox.evaluated_outputs)}: {toolbox.export_for_evaluation}'
        )
    check_data_paths(cfg, ('test_dataloader',))
    set_dataloader_defaults(
        cfg, Namespace(no_pin_memory=True, no_persistent_workers=True), ('test_dataloader',)
    )
    cfg.load_from = cfg.model.backbone.init_cfg = None
    with tempfile.TemporaryDirectory() as folder, explained_errors(cfg):
        # mmengine caches loggers and visualizers by name; a fresh name keeps them from writing
        # into an earlier test's folder.
        cfg.work_dir, cfg.experiment_name = folder, os.path.basename(folder)
        if cfg.get('visualizer'):
            cfg.visualizer.name = cfg.experiment_name
        try:
            lines = prepare_data(cfg, ('test_dataloader',))
            runner = build_runner(cfg)
            build_data(runner, ['test_dataloader'], lines)
            _replace_network(toolbox, runner.model, exported)
            return runner.test()
        finally:  # otherwise later hooks would pick up this visualizer
            Visualizer._instance_dict.pop(cfg.experiment_name, None)


def _replace_network(toolbox: Toolbox, model: nn.Module, exported: OnnxModel) -> None:
    """Make the exported file compute the model's outputs."""

    def outputs(images: Tensor, *_, **__) -> Tensor | list[Tensor]:
        found = exported(images)
        if len(found) > 1:  # boxes, scores, labels
            labels = found[-1]
            number, fits = int(labels.max()) + 1 if len(labels) else 0, int.__le__
        else:
            (found,) = found
            number, fits = found.shape[1], int.__eq__
        if not fits(number, classes):
            raise UserError(
                f'{exported.path} has {number} classes, the config {classes}: '
                'give the config that it was exported from'
            )
        return found

    classes = toolbox.replace_network(model, outputs)
