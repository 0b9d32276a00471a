"""Running ONNX files, and what is asked of them before."""

from __future__ import annotations

import importlib.util
import os

import torch
import torch.nn.functional as F
from torch import Tensor

from mmsb.deployment.detectors import OUTPUTS
from mmsb.utils.errors import UserError


def check_packages(*names: str) -> None:
    """Refuses to go on without the packages of the ``deploy`` extra.

    Args:
        *names: Import names, as 'onnx'.

    Raises:
        UserError: One of them is not installed.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not installed: pip install 'mmsb[deploy]' "
            f'(or {" ".join(missing)})'
        )


def load_onnx(path: str | os.PathLike):
    """Reads an ONNX file.

    Args:
        path: The file.

    Returns:
        Its ``onnx.ModelProto``.

    Raises:
        UserError: A package is missing, or the file is missing or none of ONNX.
    """
    check_packages('onnx', 'onnxruntime')
    import onnx

    if not os.path.isfile(path):
        raise UserError(f'{path} does not exist')
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's errors have no common base
        reason = str(error).strip().splitlines()
        raise UserError(
            f'{path} is no ONNX file, or damaged ({reason[0] if reason else type(error).__name__})'
        ) from error
    return model


class OnnxModel:
    """An ONNX file of one image input, run by ONNX Runtime on the CPU.

    Args:
        path: The file.

    Attributes:
        shape (list): The input's, with names where it is dynamic.
        outputs (list[str]): Names of the outputs.
        metadata (dict[str, str]): What the file says of itself.

    Raises:
        UserError: A package is missing, or the file is missing or none of ONNX.
    """

    def __init__(self, path: str | os.PathLike):
        load_onnx(path)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised too
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=['CPUExecutionProvider']
        )
        (image,) = self.session.get_inputs()
        self.path, self.name, self.shape = path, image.name, image.shape
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.metadata = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Runs it.

        Args:
            images: Normalised images, (B, 3, H, W); any B, also where the file's is fixed, but 1
                for a detector's boxes.

        Returns:
            The outputs.

        Raises:
            UserError: The file takes images of another size, or one.
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
        """Refuses images of another height and width than the file's fixed ones."""
        pairs = zip(self.shape[2:], images.shape[2:], strict=True)
        if any(isinstance(wanted, int) and wanted != length for wanted, length in pairs):
            sizes = [' x '.join(map(str, shape[2:])) for shape in (self.shape, images.shape)]
            raise UserError(
                f'{self.path} takes images of {sizes[0]}, and one is of {sizes[1]}: export it '
                'with --dynamic'
            )
