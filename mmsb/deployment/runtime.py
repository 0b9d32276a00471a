"""Loading, checking and running ONNX files in ONNX Runtime, OpenVINO and TensorRT."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmsb.deployment.detectors import OUTPUTS
from mmsb.utils.errors import UserError


def check_packages(*names: str) -> None:
    """Raise an error if packages from the ``deploy`` extra are missing.

    Args:
        *names: Import names, e.g. 'onnx'.

    Raises:
        UserError: One of the packages is not installed.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not installed: pip install 'mmsb[deploy]' "
            f'(or {" ".join(missing)})'
        )


def load_onnx(path: str | os.PathLike):
    """Read and check an ONNX file.

    Args:
        path: The file.

    Returns:
        Its ``onnx.ModelProto``.

    Raises:
        UserError: A package or the file is missing, or the file is not a valid ONNX file.
    """
    check_packages('onnx', 'onnxruntime')
    import onnx

    if not os.path.isfile(path):
        raise UserError(f'{path} does not exist')
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # errors from protobuf and onnx have no common base
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f'{path} is damaged or not an ONNX file ({reason[0]}): export it again'
        ) from error
    return model


class OnnxModel:
    """An ONNX file with one image input, run by ONNX Runtime on the CPU.

    It runs in as many threads as PyTorch.

    Args:
        path: The file.

    Attributes:
        shape (list): The input shape; dynamic axes have names instead of lengths.
        outputs (list[str]): Names of the outputs.
        metadata (dict[str, str]): The metadata stored in the file.

    Raises:
        UserError: A package or the file is missing, or the file is not a valid ONNX file.
    """

    def __init__(self, path: str | os.PathLike):
        graph = load_onnx(path)
        (image,) = graph.graph.input
        dims = image.type.tensor_type.shape.dim
        self.path, self.name = path, image.name
        self.shape = [dim.dim_param or dim.dim_value for dim in dims]
        self.outputs = [output.name for output in graph.graph.output]
        self.metadata = {prop.key: prop.value for prop in graph.metadata_props}
        self.run = self._start()

    def _start(self) -> Callable[[np.ndarray], list[np.ndarray]]:
        """Load the file into the runtime; return what computes the outputs of a batch."""
        return self._session('CPUExecutionProvider')

    def _session(self, provider: str) -> Callable[[np.ndarray], list[np.ndarray]]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised as exceptions as well
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(self.path), options, providers=[provider])
        if provider not in session.get_providers():  # it falls back to the CPU with a warning
            raise UserError(
                f'ONNX Runtime cannot start its {provider}: check that the TensorRT and CUDA '
                'libraries that it needs are installed'
            )
        return lambda images: session.run(None, {self.name: images})

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the model.

        Args:
            images: Normalised images, (B, 3, H, W). B may differ from the file's fixed batch size.
                For a detector's boxes B must be 1; a smaller image is padded with zeros to the
                file's fixed size, as mmdet pads the images of a batch.

        Returns:
            The outputs.

        Raises:
            UserError: The file expects images of another size, or one image at a time.
        """
        if self.outputs == OUTPUTS:
            if len(images) > 1:
                raise UserError(f'{self.path} takes one image at a time, not {len(images)}')
            images = self._padded(images)
            found = self.run(images.cpu().numpy())
            return [torch.from_numpy(output).to(images.device) for output in found]
        self.check_size(images)
        size = self.shape[0] if isinstance(self.shape[0], int) else len(images)
        outputs = []
        for part in images.split(size):
            filled = F.pad(part, (0, 0, 0, 0, 0, 0, 0, size - len(part)))
            found = self.run(filled.cpu().numpy())
            outputs.append(
                [torch.from_numpy(output[: len(part)]).to(images.device) for output in found]
            )
        return [torch.cat(parts) for parts in zip(*outputs, strict=True)]

    def _padded(self, images: Tensor) -> Tensor:
        height, width = (
            wanted - length for wanted, length in zip(self.shape[2:], images.shape[2:], strict=True)
        )
        if min(height, width) < 0:
            fixed, given = (' x '.join(map(str, x[2:])) for x in (self.shape, images.shape))
            raise UserError(
                f'{self.path} takes images of up to {fixed}, but one has {given}: export it with '
                'a larger --shape'
            )
        return F.pad(images, (0, width, 0, height))

    def check_size(self, images: Tensor) -> None:
        """Raise an error for images whose height or width differs from the file's fixed size."""
        pairs = zip(self.shape[2:], images.shape[2:], strict=True)
        if any(isinstance(wanted, int) and wanted != length for wanted, length in pairs):
            sizes = [' x '.join(map(str, shape[2:])) for shape in (self.shape, images.shape)]
            raise UserError(
                f'{self.path} takes images of {sizes[0]}, but one has {sizes[1]}: export it with '
                '--dynamic'
            )


@functools.cache
def _openvino():
    """Return the one OpenVINO core of this process, which is never deleted.

    A core gives the thread that first compiles with it another stack for signals. With two cores,
    OpenVINO 2026.4 may leave the thread with a stack that it has freed; the next signal that
    Python handles, Ctrl-C or the end of a data-loading worker, then ends the process.
    """
    import openvino

    return openvino.Core()


class OpenVinoModel(OnnxModel):
    """An ONNX file run by OpenVINO on the CPU, in float32 and as many threads as PyTorch.

    Args and attributes are those of :class:`OnnxModel`.
    """

    def _start(self):
        check_packages('openvino')
        options = {
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'INFERENCE_PRECISION_HINT': 'f32',  # some processors would use bfloat16
            'PERFORMANCE_HINT': 'LATENCY',
            'ENABLE_CPU_PINNING': False,  # other processes may run on the same cores
        }
        compiled = _openvino().compile_model(str(self.path), 'CPU', options)
        request = compiled.create_infer_request()

        def run(images: np.ndarray) -> list[np.ndarray]:
            found = request.infer({0: images})
            return [found[i].copy() for i in range(len(self.outputs))]  # the memory is reused

        return run


class TensorRTModel(OnnxModel):
    """An ONNX file run by TensorRT, which ONNX Runtime's GPU package calls.

    Args and attributes are those of :class:`OnnxModel`.
    """

    def _start(self):
        import onnxruntime

        provider = 'TensorrtExecutionProvider'
        if provider not in onnxruntime.get_available_providers():
            raise UserError(
                '--runtime tensorrt needs a GPU, TensorRT and the GPU package of ONNX Runtime in '
                'place of onnxruntime: pip uninstall onnxruntime, then pip install '
                'onnxruntime-gpu tensorrt'
            )
        return self._session(provider)


RUNTIMES = dict(onnxruntime=OnnxModel, openvino=OpenVinoModel, tensorrt=TensorRTModel)
