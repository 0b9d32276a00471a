"""Exporting models to ONNX, TorchScript and torch.export; comparing the files with the model."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmsb.deployment.detectors import OUTPUTS, detect, in_order_of, is_plain_two_stage
from mmsb.deployment.graphs import simplify
from mmsb.deployment.operators import ExportSafe, make_exportable
from mmsb.deployment.runtime import OnnxModel, check_packages
from mmsb.engine.config import input_shape, read_model_config, use_weights
from mmsb.engine.explaining import explained_errors
from mmsb.inference.loading import load_model
from mmsb.models import fuse_spatial_bias
from mmsb.toolboxes import toolbox_of
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.version import __version__

SUFFIXES = dict(onnx='.onnx', torchscript='.ts', exported='.pt2')
OPSET = 17  # supported by runtimes since 2022
TOLERANCE = 1e-4  # relative to an output's largest value, in float32
METADATA = 'metadata.json'


@dataclass(frozen=True)
class Check:
    """Comparison of one output of the written file with the PyTorch model.

    Attributes:
        shape: The input shape.
        output: The output's name.
        absolute: The largest difference.
        relative: The largest difference divided by the output's largest value.
    """

    shape: tuple[int, ...]
    output: str
    absolute: float
    relative: float


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        path: The path.
        metadata: The metadata stored in the file.
        checks: Comparisons with the PyTorch model.
        note: A note on what is not exported; None if everything is.
    """

    path: Path
    metadata: dict[str, str]
    checks: list[Check]
    note: str | None


def export(
    config: str,
    checkpoint: str,
    format: str = 'onnx',
    out: str | os.PathLike | None = None,
    shape: Sequence[int] | None = None,
    batch: int = 1,
    dynamic: bool = False,
    backbone: bool = False,
    fuse_conv_bn: bool = False,
    cfg_options: dict | None = None,
) -> Exported:
    """Export a model to a file that runs without OpenMMLab, and compare the file with the model.

    The input is the normalised image that the data preprocessor makes. The outputs are a
    classifier's logits, a segmentor's logits at the size of the input, a detector's boxes or raw
    outputs, or the backbone's features. Boxes (:func:`mmsb.deployment.detectors.detect`) are
    exported only for plain two-stage detectors, to ONNX, with batch 1 and a fixed size.

    Args:
        config: The config file.
        checkpoint: The weights for it.
        format: 'onnx' (default), 'torchscript' or 'exported' (``torch.export``).
        out: The file to write. Defaults to None: beside the checkpoint.
        shape: Height and width in pixels. Defaults to None: those of the config's test images,
            padded as the data preprocessor pads.
        batch: Images per batch. Defaults to 1.
        dynamic: Allow any batch size, height and width. Defaults to False.
        backbone: Export only the backbone. Defaults to False.
        fuse_conv_bn: Fold batch norms into convolutions, including those over features and spatial
            bias maps. Defaults to False.
        cfg_options: Settings of the config to override. Defaults to None.

    Returns:
        The written file and its comparisons with the model.

    Raises:
        UserError: An argument cannot be used, the model cannot be exported, or the file differs
            from the model. No file is left then.
    """
    if format == 'onnx':
        check_packages('onnx', 'onnxruntime')
    cfg = read_model_config(config, cfg_options)
    init_default_scope(cfg.default_scope)
    divisor = _divisor(cfg)
    height, width = _shape(cfg, shape, divisor)
    if batch < 1:
        raise UserError(f'--batch {batch}: give 1 or more images')
    if dynamic and format == 'exported' and not hasattr(torch.export.Dim, 'AUTO'):
        raise UserError(
            f'--dynamic with --format exported needs torch 2.6, this is {torch.__version__}: give '
            'another format, or one shape'
        )
    use_weights(cfg, checkpoint)
    with explained_errors(cfg):
        model, classes = load_model(cfg, checkpoint)
    toolbox = toolbox_of(cfg)
    run_network, note = toolbox.outputs, toolbox.export_note
    if backbone:
        run_network, note = _features, None
    generator = torch.Generator().manual_seed(0)
    channels = next(m.in_channels for m in model.backbone.modules() if isinstance(m, nn.Conv2d))
    images = torch.randn(batch, channels, height, width, generator=generator)
    plain = (backbone, format, batch, dynamic) == (False, 'onnx', 1, False)
    if plain and is_plain_two_stage(model):
        run_network, note = detect, None
        # Use smooth blobs: a detector finds nothing in white noise.
        images = 2 * F.interpolate(
            torch.randn(1, channels, 6, 8, generator=generator), (height, width)
        )
    eager = _Network(model, run_network)
    try:
        outputs = eager.named(images)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f'the model cannot run on {batch} x {channels} x {height} x {width} '
            f'({str(error).strip().splitlines()[0]})'
        ) from error
    if run_network is detect and not len(outputs['boxes']):  # the traced model would never find any
        raise UserError(
            'the detector finds nothing in the random image that is used for the export: lower its '
            'threshold, e.g. --cfg-options model.test_cfg.rcnn.score_thr=0.001'
        )
    names = list(outputs)
    metadata = _metadata(cfg, model, images, dynamic, names, classes)

    network = deepcopy(eager)
    if fuse_conv_bn:
        network.model = fuse_spatial_bias(network.model)
    toolbox.make_exportable(network.model)
    if format == 'onnx':
        make_exportable(network.model)
    step = divisor if divisor > 1 else 33  # any size is allowed: use odd ones
    sizes = [(1, 3 * step, 5 * step), (4, 4 * step, 3 * step)] if dynamic else []
    others = [(number, channels, *size) for number, *size in sizes]
    # Trace with batch 2 and a size that takes no special case for divisible sizes.
    example = torch.randn(2, *others[0][1:]) if dynamic else images
    try:
        with _exporting(format == 'onnx', dynamic):
            content = WRITERS[format](network, example, dynamic, names, metadata)
    except Exception as error:  # exporters have errors of their own; their message is the reason
        raise UserError(
            f'torch {torch.__version__} cannot export this model as {format} '
            f'({type(error).__name__}: {str(error).strip().splitlines()[0]})'
        ) from error
    out = Path(out or Path(checkpoint).with_suffix(SUFFIXES[format]))
    with replacing(out) as part:
        part.write_bytes(content)
        run = RUNNERS[format](part)
        checks = []
        for sample in [images, *map(torch.randn, others)]:
            checks += compare(eager, run, sample, names)
        worst = max(checks, key=lambda check: check.relative)
        if not worst.relative <= TOLERANCE:
            raise UserError(
                f'the exported file differs from the model: {worst.output} by '
                f'{worst.relative:.1e} of its largest value on {_times(worst.shape)}, more than '
                f'{TOLERANCE:g}; nothing was written'
            )
    if dynamic and format == 'exported':
        least = _least_side(run, channels, max(example.shape[2:]))
        line = f'the file takes images of {least} x {least} pixels or more'
        note = f'{note}; {line}' if note else line
    return Exported(out, metadata, checks, note)


def compare(
    eager: Callable[[Tensor], Sequence[Tensor]],
    run: Callable[[Tensor], Sequence[Tensor]],
    images: Tensor,
    names: Sequence[str],
) -> list[Check]:
    """Compare the outputs of two forms of a model.

    Args:
        eager: The reference.
        run: The form to compare with it.
        images: The input of both, (B, 3, H, W).
        names: Names of the outputs.

    Returns:
        One check per output, with infinite differences if a shape differs or ``run`` fails.
    """
    with torch.no_grad():
        wanted = eager(images)
    try:
        with torch.no_grad():
            found = run(images)
    except Exception:  # runtimes have errors of their own for sizes that they cannot run
        found = [torch.empty(0)] * len(wanted)
    if names == OUTPUTS:
        found = in_order_of(wanted, found)
    checks = []
    for name, a, b in zip(names, wanted, found, strict=True):
        difference = _largest(a - b) if a.shape == b.shape else float('inf')
        relative = difference / max(_largest(a), torch.finfo(torch.float32).tiny)
        checks.append(Check(tuple(images.shape), name, difference, relative))
    return checks


def _largest(x: Tensor) -> float:
    return x.abs().max().item() if x.numel() else 0.0


def _divisor(cfg: Config) -> int:
    return (cfg.model.get('data_preprocessor') or {}).get('pad_size_divisor', 1)


def _shape(cfg: Config, shape: Sequence[int] | None, divisor: int) -> tuple[int, int]:
    given = tuple(shape or input_shape(cfg))
    if len(given) != 2 or min(given) < 1:
        raise UserError(f'the shape is {given}; give height and width in pixels')
    padded = tuple(-(-side // divisor) * divisor for side in given)
    if shape and padded != given:
        raise UserError(
            f'--shape {given[0]} {given[1]}: this config pads images to multiples of {divisor}; '
            f'give --shape {padded[0]} {padded[1]}'
        )
    return padded


def _metadata(cfg, model, images, dynamic, names, classes) -> dict[str, str]:
    """Return the metadata needed to run the file; lists are JSON."""
    preprocessor = model.data_preprocessor
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    settings = cfg.model.get('data_preprocessor') or {}
    converts = any(settings.get(key) for key in ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr'))
    values = dict(
        config=Path(cfg.filename).name,
        input='normalised image, (x - mean) / std of values from 0 to 255',
        input_shape=list(images.shape),
        dynamic=['batch', 'height', 'width'] if dynamic else [],
        channel_order='RGB' if converts else 'BGR',  # images are read as BGR
        mean=[0.0] * images.shape[1] if mean is None else mean.flatten().tolist(),
        std=[1.0] * images.shape[1] if std is None else std.flatten().tolist(),
        outputs=names,
        classes=list(classes or []),
        producer=f'mmsb {__version__}',
    )
    if (head := getattr(model, 'decode_head', None)) and getattr(head, 'out_channels', 0) == 1:
        values['threshold'] = head.threshold  # a pixel is of class 1 if sigmoid(logit) exceeds it
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }


# ------------------------------------------------------- networks: image -> named outputs


def _features(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    return {f'features{i}': x for i, x in enumerate(model.backbone(image))}


class _Network(nn.Module):
    """A part of a model, from an image to a tuple of tensors."""

    def __init__(self, model: nn.Module, run: Callable[[nn.Module, Tensor], dict[str, Tensor]]):
        super().__init__()
        self.model, self.run = model, run

    def named(self, image: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return self.run(self.model, image)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.run(self.model, image).values())


# ------------------------------------------------------------------ formats


@contextmanager
def _exporting(for_onnx: bool, dynamic: bool):
    """Replace operations that exporters do not support, and silence their known warnings."""
    with (
        warnings.catch_warnings(),
        torch.no_grad(),
        ExportSafe(dynamic) if for_onnx else nullcontext(),
    ):
        # Tracer warnings are covered by the comparison; the TorchScript deprecation warning is
        # not actionable.
        warnings.simplefilter('ignore')
        yield


def _to_onnx(network, image, dynamic, names, metadata) -> bytes:
    import onnx

    # The exporter on torch.export does not work in torch 2.4, and is tens of times slower.
    file, axes = io.BytesIO(), {}
    if dynamic:
        axes = {'image': {0: 'batch', 2: 'height', 3: 'width'}}
        axes.update({name: {0: 'batch'} for name in names})
    elif names == OUTPUTS:
        axes = {name: {0: 'detections'} for name in names}
    torch.onnx.export(
        network,
        (image,),
        file,
        dynamo=False,
        opset_version=OPSET,
        input_names=['image'],
        output_names=names,
        dynamic_axes=axes,
    )
    model = onnx.load_from_string(file.getvalue())
    simplify(model.graph)
    if dynamic:
        with torch.no_grad():
            _name_axes(model.graph.output, network(image))
    onnx.helper.set_model_props(model, metadata)
    return model.SerializeToString()


def _name_axes(outputs, examples: Sequence[Tensor]) -> None:
    """Name dynamic axes of outputs, in place; the number of channels or classes is fixed."""
    for output, example in zip(outputs, examples, strict=True):
        axes = 'batch', None, f'{output.name}_height', f'{output.name}_width'
        dims = zip(output.type.tensor_type.shape.dim, axes, example.shape, strict=False)
        for dim, name, length in dims:
            if name is None:
                dim.dim_value = length
            else:
                dim.dim_param = name


def _to_torchscript(network, image, dynamic, names, metadata) -> bytes:
    file, traced = io.BytesIO(), torch.jit.trace(network, (image,), check_trace=False)
    torch.jit.save(traced, file, _extra_files={METADATA: json.dumps(metadata)})
    return file.getvalue()


def _to_exported(network, image, dynamic, names, metadata) -> bytes:
    axes = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO) if dynamic else {}
    program = torch.export.export(
        network, (image,), dynamic_shapes=dict(image=axes) if dynamic else None, strict=False
    )
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})
    return file.getvalue()


def _run_exported(path: Path) -> Callable:
    return torch.export.load(io.BytesIO(path.read_bytes())).module()


def _least_side(run: Callable, channels: int, most: int) -> int:
    """Return the side of the smallest square image that a file's guards let through."""
    for side in range(1, most):
        try:
            with torch.no_grad():
                run(torch.zeros(1, channels, side, side))
        except (AssertionError, RuntimeError):
            continue
        return side
    return most


WRITERS = dict(onnx=_to_onnx, torchscript=_to_torchscript, exported=_to_exported)
RUNNERS = dict(onnx=OnnxModel, torchscript=torch.jit.load, exported=_run_exported)


def _times(shape: Sequence[int]) -> str:
    return ' x '.join(map(str, shape))
