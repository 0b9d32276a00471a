"""Backbones as folders, local or on the Hugging Face Hub: saving and loading.

A folder holds config.json, the backbone's config as in ``model.backbone`` of OpenMMLab's configs,
and model.safetensors, its weights. Only downloads need a package, ``huggingface_hub``.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import torch

from mmsb.registry import MODELS
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.utils.hub import download
from mmsb.utils.safetensors import as_safetensors

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
_STARTS = ('init_cfg', 'pretrained')  # arguments that say which weights to start from


class HubMixin:
    """Saving and loading for backbones, in the way of the Hub's ``PyTorchModelHubMixin``."""

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self._given = args, kwargs
        return self

    def to_config(self) -> dict:
        """Return ``type`` and the arguments it was made with, without those that name weights."""
        args, kwargs = self._given
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs).arguments
        _, *names = bound  # without self
        given = {name: bound[name] for name in names if name != 'kwargs'}
        given.update(bound.get('kwargs', {}))
        given = {name: value for name, value in given.items() if name not in _STARTS}
        return dict(type=f'mmsb.{type(self).__name__}', **given)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Save the backbone's arguments and weights; :meth:`from_pretrained` loads them.

        Args:
            folder: The folder for config.json and model.safetensors; made if it does not exist.
                Older files of these names are replaced.

        Raises:
            UserError: The folder cannot be written, an argument cannot be stored as JSON, or the
                weights are not those of the arguments, e.g. after ``fuse_spatial_bias``. Nothing is
                written then.
        """
        write_backbone(self.to_config(), self.state_dict(), folder)

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike, revision: str | None = None, **arguments
    ) -> HubMixin:
        """Make a backbone from a folder that :meth:`save_pretrained` wrote, or one on the Hub.

        Args:
            source: A local folder, or OWNER/NAME on the Hugging Face Hub.
            revision: A branch, tag or commit on the Hub. Defaults to None, the main branch.
            **arguments: Arguments of the backbone that replace those in config.json, e.g.
                ``out_indices=(3,)`` or ``frozen_stages=1``. Weights of a plain ResNet grow with
                ``spatial_bias={}``.

        Returns:
            The backbone, in training mode.

        Raises:
            UserError: The folder, a file or the network is missing, a file is damaged, or the
                weights are not those of the arguments.
        """
        config, weights = (_file(source, name, revision) for name in (CONFIG, WEIGHTS))
        kind, saved = _read_config(config, cls)
        # freezing is decided by these weights, as by those in a config
        start = dict(type='Pretrained', checkpoint=weights)
        try:
            backbone = kind(**{**saved, **arguments, 'init_cfg': start})
        except TypeError as error:
            raise UserError(f'{config} and the arguments given do not fit: {error}') from error
        backbone.init_weights()
        return backbone


def write_backbone(config: dict, state: dict[str, torch.Tensor], folder: str | os.PathLike) -> None:
    """Write the folder of a backbone; see :meth:`HubMixin.save_pretrained`.

    Args:
        config: Its type, with the scope ``mmsb.``, and its arguments.
        state: Its weights.
        folder: The folder.

    Raises:
        UserError: As there.
    """
    try:
        text = json.dumps(config, indent=2) + '\n'
    except TypeError as error:
        raise UserError(f'{CONFIG} cannot hold an argument of the backbone: {error}') from error
    arguments = {name: value for name, value in json.loads(text).items() if name != 'type'}
    with torch.device('meta'):
        own = MODELS.get(config['type'])(**arguments).state_dict()
    wrong = [
        key
        for key in {**own, **state}
        if key not in own or key not in state or own[key].shape != state[key].shape
    ]
    if wrong:
        raise UserError(
            f'{len(wrong)} weights are not those of the arguments, e.g. {wrong[0]}: save the '
            'backbone before it is fused or changed'
        )
    content = as_safetensors(state)
    with replacing(Path(folder, WEIGHTS)) as part:
        part.write_bytes(content)
    with replacing(Path(folder, CONFIG)) as part:
        part.write_text(text)


def _file(source: str | os.PathLike, name: str, revision: str | None) -> str:
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / name).is_file():
            raise UserError(f'{folder} has no {name}: give a folder that save_pretrained wrote')
        return str(folder / name)
    text = os.fspath(source)
    if text.count('/') != 1 or text.startswith(('.', '~', '/')):
        raise UserError(
            f'{text} does not exist: give a folder that save_pretrained wrote, or OWNER/NAME on '
            'the Hugging Face Hub'
        )
    return download(text, name, revision)


def _read_config(path: str, cls: type) -> tuple[type, dict]:
    """Return the class and the arguments in a config.json, ``cls`` if it names no class."""
    try:
        arguments = dict(json.loads(Path(path).read_text(encoding='utf-8')))
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f'{path} is no JSON of a backbone ({error}): save it again') from error
    kind = arguments.pop('type', None)
    found = cls if kind is None else MODELS.get(str(kind))
    if found is None or not issubclass(found, cls):
        raise UserError(f'{path} is of {kind}, not of {cls.__name__}: load it with its own class')
    return found, arguments
