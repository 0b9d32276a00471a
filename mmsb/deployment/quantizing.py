"""Converting ONNX files to half precision or 8-bit integers with ONNX Runtime's tools."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor

from mmsb.deployment.runtime import OnnxModel, load_onnx
from mmsb.engine.config import check_data_paths, name_files_in_errors, read_model_config
from mmsb.engine.explaining import explained_data_errors, explained_errors
from mmsb.toolboxes import toolbox_of
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing


def quantize(
    model: str | os.PathLike,
    to: str,
    out: str | os.PathLike | None = None,
    config: str | None = None,
    num_images: int = 64,
    cfg_options: dict | None = None,
) -> Path:
    """Write an ONNX file in lower precision; its input and outputs stay float32.

    Args:
        model: The ONNX file, written by :func:`mmsb.deployment.exporting.export`.
        to: 'fp16', or 'int8' for weights (a scale per channel) and activations (a scale per
            tensor), as QuantizeLinear and DequantizeLinear nodes.
        out: The file to write. Defaults to None: NAME_fp16.onnx or NAME_int8.onnx beside the model.
        config: For 'int8', the config whose validation images are used to measure the ranges of
            activations. Defaults to None.
        num_images: How many of these images to use. Defaults to 64.
        cfg_options: Settings of the config to override. Defaults to None.

    Returns:
        The path of the written file.

    Raises:
        UserError: A file, the config, its images or a package is missing or cannot be read.
    """
    path, loaded = Path(model), load_onnx(model)
    out = Path(out or path.with_name(f'{path.stem}_{to}.onnx'))
    operators = {node.op_type for node in loaded.graph.node}
    if 'NonMaxSuppression' in operators:  # coordinates offset by class exceed float16's precision
        raise UserError(
            f"{path} outputs a detector's boxes, which need float32: give a file with raw outputs "
            '(export.py --dynamic)'
        )
    if 'DequantizeLinear' in operators:
        raise UserError(f'{path} is already quantised: give the file that export.py wrote')
    if to == 'fp16' and _is_half(loaded):
        raise UserError(f'{path} is float16 already: give the file that export.py wrote')
    if to == 'fp16':
        _to_fp16(loaded, out)
        return out
    if config is None:
        raise UserError(
            '--to int8 needs images to measure the ranges of activations: give --config CONFIG'
        )
    if num_images < 1:
        raise UserError(f'--num-images {num_images}: give 1 or more')
    _to_int8(path, out, calibration_images(config, num_images, cfg_options))
    return out


def calibration_images(
    config: str, number: int, cfg_options: dict | None = None
) -> Iterator[Tensor]:
    """Load a config's validation images, preprocessed for its model.

    Args:
        config: The config file.
        number: How many images, from the start of the validation set.
        cfg_options: Settings of the config to override. Defaults to None.

    Yields:
        Normalised images, (1, 3, H, W).

    Raises:
        UserError: The config or its data is missing or cannot be read.
    """
    cfg = read_model_config(config, cfg_options)
    init_default_scope(cfg.default_scope)
    if cfg.get('val_dataloader') is None:
        raise UserError(f'{config} has no val_dataloader to load images from: give another config')
    check_data_paths(cfg, ('val_dataloader',))
    name_files_in_errors(cfg)
    cfg.model.backbone.init_cfg = None
    with explained_errors(cfg):
        preprocess = MODELS.build(cfg.model).data_preprocessor
        cfg.val_dataloader.update(
            num_workers=0, persistent_workers=False, pin_memory=False, batch_size=1
        )
        toolbox_of(cfg).set_loader_defaults(cfg.val_dataloader)
        with explained_data_errors(cfg, 'val_dataloader'):
            loader = Runner.build_dataloader(cfg.val_dataloader)
        for data in islice(loader, number):
            yield torch.as_tensor(preprocess(data, False)['inputs'])


def _is_half(model) -> bool:
    """Return whether a model has float16 weights."""
    from onnx import TensorProto

    return any(weight.data_type == TensorProto.FLOAT16 for weight in model.graph.initializer)


def _to_fp16(model, out: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel as Graph

    graph = Graph(convert_float_to_float16(model, keep_io_types=True))
    graph.topological_sort()  # the converter appends the casts of input and outputs at the end
    with replacing(out) as part:
        part.write_bytes(graph.model.SerializeToString())
        OnnxModel(part)


def _to_int8(path: Path, out: Path, images: Iterator[Tensor]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    exported = OnnxModel(path)
    batch = exported.shape[0] if isinstance(exported.shape[0], int) else 1

    class Reader(CalibrationDataReader):
        def get_next(self):
            image = next(images, None)
            if image is None:
                return None
            exported.check_size(image)
            return {exported.name: image.repeat(batch, 1, 1, 1).numpy()}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / 'prepared.onnx'
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        # Keep float for the batch norms that are left: those over features and spatial bias maps.
        norms = [
            n.name for n in load_onnx(prepared).graph.node if n.op_type == 'BatchNormalization'
        ]
        with replacing(out) as part:
            quantize_static(
                str(prepared), str(part), Reader(), per_channel=True, nodes_to_exclude=norms
            )
            OnnxModel(part)
