"""Interface between mmsb and the toolboxes.

To add a task, write a subclass of :class:`Toolbox` in its own file, and add it to
:data:`mmsb.toolboxes.TOOLBOXES` and its packages to :mod:`mmsb.utils.environment`.
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

# a function of an image path and of an output path
Predict = Callable[[Path, Path], tuple[str, dict]]


class NothingToExplainError(UserError):
    """Error: the network predicts nothing of the requested class in this image."""


@dataclass(frozen=True)
class Target:
    """The part of a prediction that a class activation map explains.

    Attributes:
        value: Scalar whose gradient is taken.
        text: Description of the value, e.g. class and score.
        boxes: Explained detections, (N, 4), as x1, y1, x2, y2 in pixels of the input.
        mask: Explained pixels of the input, bool, (H, W).
    """

    value: Tensor
    text: str
    boxes: np.ndarray | None = None
    mask: np.ndarray | None = None


class Toolbox:
    """Defaults for configs without a toolbox; each toolbox overrides what differs.

    Attributes:
        name: Import name and ``default_scope``.
        image_size: Height and width of test images if the config does not say.
        root_variables: Environment variable with the data folder, by type of data set.
        tta_model: Config of the wrapper for test-time augmentation.
        tta_meta_keys: Meta keys that it needs in packed inputs; empty to keep those of the config.
        cam_method: Default method of class activation maps.
        export_note: Note on the parts that an exported model lacks; None if it is complete.
        evaluated_outputs: Outputs of an exported file that can replace the model in a test.
        export_for_evaluation: How to export a file with these outputs.
    """

    name = ''
    image_size = (224, 224)
    root_variables: ClassVar[dict[str, str]] = {}
    tta_model: ClassVar[dict] = {}
    tta_meta_keys: tuple[str, ...] = ()
    cam_method = 'gradcam'
    export_note: str | None = None
    evaluated_outputs: tuple[str, ...] = ('logits',)
    export_for_evaluation = 'export the whole model, without --backbone'

    # ------------------------------------------------------------- configs

    def check(self) -> None:
        """Import the toolbox.

        Raises:
            UserError: It is not installed (the message says how to) or cannot be imported.
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

    def set_model_defaults(self, model: ConfigDict) -> None:
        """Set defaults in which the toolbox's own backbones differ from mmsb's, in place."""

    def set_loader_defaults(self, loader: ConfigDict) -> None:
        """Set the same data loader defaults as the toolbox's own tools, in place."""

    def check_settings(self, cfg: Config) -> None:
        """Raise a UserError for settings with which the toolbox would fail late."""

    def naming_transforms(self, cfg: Config) -> dict[str, dict]:
        """Return, for types of transforms that load files, those whose errors name the file."""
        ours = dict(type='mmsb.LoadImageFromFile')
        return dict.fromkeys(('LoadImageFromFile', 'mmcv.LoadImageFromFile'), ours)

    def draw_predictions(self, cfg: Config, folder: str | None) -> None:
        """Make the visualization hook draw predictions during tests, in place.

        Args:
            cfg: The config.
            folder: Output folder; None to show a window only.
        """
        cfg.default_hooks.visualization.draw = True

    # ------------------------------------------------------------- running

    def dump(self, path: str) -> DumpResults:
        """Make the metric that writes a test's predictions to a pickle."""
        return DumpResults(out_file_path=path)

    def predictor(
        self, cfg: Config, checkpoint: str, device: str | None, min_score: float
    ) -> Predict:
        """Make a function that predicts and draws, from the toolbox's inferencer.

        Args:
            cfg: The config.
            checkpoint: Checkpoint with its weights.
            device: Device such as 'cpu'; None for a GPU if there is one.
            min_score: Lowest score of a box to draw.

        Returns:
            A function that returns a summary as text, and the prediction as values that JSON can
            hold.
        """
        raise NotImplementedError

    def random_inputs(
        self, batch: int, shape: tuple[int, int], device: str
    ) -> tuple[Tensor, list | Tensor]:
        """Make random images, (batch, 3, H, W), and data samples with a ground truth."""
        raise NotImplementedError

    def forward(self, model: nn.Module, images: Tensor) -> Tensor | tuple:
        """Run the raw forward pass, without losses and post-processing."""
        return model(images, mode='tensor')

    def outputs(self, model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """Compute the outputs that an exported whole model has, by name."""
        return dict(logits=self.forward(model, images))

    # --------------------------------------------------- explaining, exporting

    def answer(self, model: nn.Module, images: Tensor, samples: list) -> Tensor | list:
        """Predict for class activation maps, one item per image."""
        return self.outputs(model, images)['logits']

    def target(self, answer, network, category: str | None, min_score: float) -> Target:
        """Select the part of an image's prediction to explain.

        Args:
            answer: An item of :meth:`answer`.
            network: The :class:`mmsb.analysis.pictures.cam_layers.Network`, for its class names.
            category: A class by name or index; None for the predicted one.
            min_score: Lowest score of a detection.

        Raises:
            NothingToExplainError: The network predicts nothing of this class.
            UserError: There is no such class.
        """
        raise NotImplementedError

    def make_exportable(self, model: nn.Module) -> None:
        """Replace modules that exporters cannot trace, in place."""

    def replace_network(self, model: nn.Module, outputs: Callable) -> int:
        """Let a function of images compute the model's logits, or for a detector boxes, scores and
        labels; post-processing stays. Return the number of classes."""
        raise NotImplementedError


def write_rgb(picture: np.ndarray, path: Path) -> None:
    """Write an RGB picture to a file."""
    mmcv.imwrite(picture[..., ::-1], str(path))
