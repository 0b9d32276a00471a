"""What the rest of mmsb asks of a toolbox.

A task is a subclass of :class:`Toolbox` in a file of its own, a line in
:data:`mmsb.toolboxes.TOOLBOXES`, and in :mod:`mmsb.utils.environment` what to install for it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import mmcv
import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults
from torch import Tensor, nn

from mmsb.utils.environment import PACKAGES
from mmsb.utils.errors import UserError


class NothingToExplainError(UserError):
    """The network finds nothing of what was asked for in this image."""


@dataclass(frozen=True)
class Target:
    """The part of an answer that a class activation map explains.

    Attributes:
        value: The number whose gradient is taken.
        text: Says what it is.
        boxes: Detections, (N, 4), as x1, y1, x2, y2 in pixels of the input.
        mask: Pixels of a segment, (H, W), of the input.
    """

    value: Tensor
    text: str
    boxes: np.ndarray | None = None
    mask: np.ndarray | None = None


class Toolbox:
    """Neutral answers, for configs of no toolbox; each toolbox overrides what it does otherwise.

    Attributes:
        name: Import name and ``default_scope``.
        image_size: Height and width of test images where a config does not say.
        root_variables: Type of data set -> environment variable that our configs read its folder
            from.
        tta_model: Config of the wrapper for test-time augmentation.
        tta_meta_keys: What packed inputs must say for it; empty for what the config lists.
        cam_method: Default method of class activation maps.
        export_note: What an exported whole model leaves out; None for nothing.
        evaluates_exports: Whether exported logits can take the place of the model in a test.
    """

    name = ''
    image_size = (224, 224)
    root_variables: ClassVar[dict[str, str]] = {}
    tta_model: ClassVar[dict] = {}
    tta_meta_keys: tuple[str, ...] = ()
    cam_method = 'gradcam'
    export_note: str | None = None
    evaluates_exports = True

    # ------------------------------------------------------------- configs

    def check(self) -> None:
        """Import the toolbox.

        Raises:
            UserError: It is missing, with the line that installs it, or does not import.
        """
        if not self.name:
            return
        onedl, openmmlab = PACKAGES[self.name]
        if importlib.util.find_spec(self.name) is None:
            raise UserError(
                f'this config needs {self.name}, which is not installed: pip install {onedl} '
                f'(OneDL) or {openmmlab} (OpenMMLab)'
            )
        try:
            importlib.import_module(self.name)
        except (ImportError, AssertionError) as error:
            raise UserError(
                f'{self.name} is installed but does not import ({error}): python -m '
                'mmsb.check_env says more'
            ) from error

    def set_loader_defaults(self, loader: ConfigDict) -> None:
        """Give a data loader what the toolbox's own tools would, in place."""

    def draw_predictions(self, cfg: Config, folder: str | None) -> None:
        """Let the visualization hook.draw when testing, in place.

        Args:
            cfg: The config.
            folder: Where to; None for a window alone.
        """
        cfg.default_hooks.visualization.draw = True

    # ------------------------------------------------------------- running

    def dump(self, path: str) -> DumpResults:
        """The metric that writes a test's predictions to a pickle."""
        return DumpResults(out_file_path=path)

    def predictor(
        self, cfg: Config, checkpoint: str, device: str | None, min_score: float
    ) -> Callable[[Path, Path], str]:
        """The toolbox's inferencer.

        Args:
            cfg: The config.
            checkpoint: Its weights.
            device: As 'cpu'; None for a GPU where there is one.
            min_score: Lowest score of a box to draw.

        Returns:
            A function of an image's path and where to draw what was found; it says what that is.
        """
        raise NotImplementedError

    def random_inputs(
        self, batch: int, shape: tuple[int, int], device: str
    ) -> tuple[Tensor, list | Tensor]:
        """Random images, (batch, 3, H, W), and their data samples, with a truth to train on."""
        raise NotImplementedError

    def forward(self, model: nn.Module, images: Tensor) -> Tensor | tuple:
        """The raw forward pass: no losses, no post-processing."""
        return model(images, mode='tensor')

    def outputs(self, model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """What is exported of a whole model, by name."""
        return dict(logits=self.forward(model, images))

    # --------------------------------------------------- explaining, exporting

    def answer(self, model: nn.Module, images: Tensor, samples: list) -> Tensor | list:
        """What class activation maps explain a part of, an item per image."""
        return self.outputs(model, images)['logits']

    def target(self, answer, network, category: str | None, min_score: float) -> Target:
        """The part of an image's answer to explain.

        Args:
            answer: An item of :meth:`answer`.
            network: Knows the classes, a :class:`mmsb.analysis.pictures.cam_layers.Network`.
            category: A class by name or index; None for what the network found.
            min_score: Lowest score of a detection.

        Raises:
            NothingToExplainError: The network found nothing of it.
            UserError: There is no such class.
        """
        raise NotImplementedError

    def make_exportable(self, model: nn.Module) -> None:
        """Change what exporters cannot follow, in place."""

    def replace_network(self, model: nn.Module, logits: Callable) -> int:
        """Let a function of images compute the model's logits; what makes predictions of them
        stays. Returns how many classes the model has."""
        raise NotImplementedError


def write_rgb(picture: np.ndarray, path: Path) -> None:
    """Write an RGB picture."""
    mmcv.imwrite(picture[..., ::-1], str(path))
