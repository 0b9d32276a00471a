"""Loading, checking and running ONNX files."""

from __future__ import annotations

import importlib.util
import os

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
        load_onnx(path)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised as exceptions as well
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=['CPUExecutionProvider']
        )
        (image,) = self.session.get_inputs()
        self.path, self.name, self.shape = path, image.name, image.shape
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.metadata = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the model.

        Args:
            images: Normalised images, (B, 3, H, W). B may differ from the file's fixed batch size,
                but must be 1 for a detector's boxes.

        Returns:
            The outputs.

        Raises:
            UserError: The file expects images of another size, or one image at a time.
        """
        self.check_size(images)
        if self.outputs == OUTPUTS:
            if len(images) > 1:
                raise UserError(f'{self.path} takes one image at a time, not {len(images)}')
            found = self.session.run(None, {self.name: images.cpu().numpy()})
            return [torch.from_numpy(output).to(images.device) for output in found]
        size = self.shape[0] if isinstance(self.shape[0], int) else len(images)
        outputs = []
        for part in images.split(size):
            filled = F.pad(part, (0, 0, 0, 0, 0, 0, 0, size - len(part)))
            found = self.session.run(None, {self.name: filled.cpu().numpy()})
            outputs.append(
                [torch.from_numpy(output[: len(part)]).to(images.device) for output in found]
            )
        return [torch.cat(parts) for parts in zip(*outputs, strict=True)]

    def check_size(self, images: Tensor) -> None:
        """Raise an error for images whose height or width differs from the file's fixed size."""
        pairs = zip(self.shape[2:], images.shape[2:], strict=True)
        if any(isinstance(wanted, int) and wanted != length for wanted, length in pairs):
            sizes = [' x '.join(map(str, shape[2:])) for shape in (self.shape, images.shape)]
            raise UserError(
                f'{self.path} takes images of {sizes[0]}, but one has {sizes[1]}: export it with '
                '--dynamic'
            )
