"""Testing exported models with the config's own data and metrics."""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace

from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from mmsb.deployment.runtime import OnnxModel
from mmsb.engine.config import check_data_paths, read_model_config, set_dataloader_defaults
from mmsb.engine.explaining import explained_data_errors, explained_errors
from mmsb.engine.runner import build_runner
from mmsb.toolboxes import Toolbox, toolbox_of
from mmsb.utils.errors import UserError


def evaluate(
    config: str, model: str | os.PathLike, cfg_options: dict | None = None
) -> dict[str, float]:
    """Tests an exported classifier or segmentor as ``tools/test.py`` tests the model.

    Everything around the network is the toolbox's: data, preprocessing, predictions from logits,
    metrics.

    Args:
        config: The config that it was exported from.
        model: The ONNX file.
        cfg_options: Settings to override.

    Returns:
        The metrics.

    Raises:
        UserError: A file or the data is missing or cannot be read, the file is of another kind of
            model, or takes images of another size than the data's.
    """
    cfg = read_model_config(config, cfg_options)
    init_default_scope(cfg.default_scope)
    toolbox = toolbox_of(cfg)
    if not toolbox.evaluates_exports:
        raise UserError('of a detector no file is tested: give a classifier or segmentor')
    exported = OnnxModel(model)
    if exported.outputs != ['logits']:
        raise UserError(
            f'{model} gives {", ".join(exported.outputs)}, not logits: export the whole model, '
            'without --backbone'
        )
    check_data_paths(cfg, ('test_dataloader',))
    set_dataloader_defaults(
        cfg, Namespace(no_pin_memory=True, no_persistent_workers=True), ('test_dataloader',)
    )
    cfg.load_from = cfg.model.backbone.init_cfg = None
    with tempfile.TemporaryDirectory() as folder, explained_errors(cfg):
        # What mmengine keeps by name goes on writing to the folder of a test before.
        cfg.work_dir, cfg.experiment_name = folder, os.path.basename(folder)
        if cfg.get('visualizer'):
            cfg.visualizer.name = cfg.experiment_name
        try:
            runner = build_runner(cfg)
            _replace_network(toolbox, runner.model, exported)
            with explained_data_errors(cfg.test_dataloader):
                runner.test_loop  # noqa: B018 (a property that builds the data set)
            return runner.test()
        finally:  # the latest made is what hooks of later runs take for theirs
            Visualizer._instance_dict.pop(cfg.experiment_name, None)


def _replace_network(toolbox: Toolbox, model: nn.Module, exported: OnnxModel) -> None:
    """Lets the file compute a model's logits."""

    def logits(images: Tensor, *_, **__) -> Tensor:
        (found,) = exported(images)
        if found.shape[1] != classes:
            raise UserError(
                f'{exported.path} knows {found.shape[1]} classes, the config {classes}: '
                'give the config that it was exported from'
            )
        return found

    classes = toolbox.replace_network(model, logits)
