"""Publishing a checkpoint as a folder for the Hugging Face Hub: weights, configs, a model card."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

from mmsb.checkpoints.converting import backbone_config
from mmsb.checkpoints.publishing import named, stripped, write_published
from mmsb.models.hub import CONFIG, WEIGHTS, write_backbone
from mmsb.registry import MODELS
from mmsb.utils.config_text import recorded_config
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing
from mmsb.utils.hub import check_hub_id, check_hub_package, upload

# by default_scope: the Hub's name of the task, and how to predict with the toolbox
_TASKS = dict(
    mmdet=('object-detection', 'from mmdet.apis import DetInferencer as Inferencer'),
    mmseg=('image-segmentation', 'from mmseg.apis import MMSegInferencer as Inferencer'),
    mmpretrain=(
        'image-classification',
        'from mmpretrain.apis import ImageClassificationInferencer as Inferencer',
    ),
)


def publish_to_hub(
    source: str | os.PathLike,
    folder: str | os.PathLike,
    name: str,
    metrics: str | os.PathLike | None = None,
    license: str | None = None,
    format: str = 'pth',
    dry_run: bool = False,
    log: Callable[[str], None] = print,
) -> None:
    """Write a folder with a checkpoint's weights and a model card, and upload it to the Hub.

    The folder holds the whole model as :func:`mmsb.checkpoints.publishing.publish_checkpoint`
    writes it, its config.py, README.md (the model card), and, for a backbone of mmsb, config.json
    and model.safetensors, which :meth:`mmsb.models.SBResNet.from_pretrained` loads.

    Args:
        source: A checkpoint from training.
        folder: The folder to write; it must be new or empty.
        name: The model on the Hub, OWNER/NAME.
        metrics: A file of ``tools/test.py --metrics-out`` for the card. Defaults to None.
        license: The weights' licence, as the Hub names it, e.g. 'apache-2.0'. Defaults to None: the
            card says that none is given.
        format: The format of the whole model, 'pth' or 'safetensors'. Defaults to 'pth'.
        dry_run: Write the folder, but do not upload it. Defaults to False.
        log: Called with lines on what was done. Defaults to ``print``.

    Raises:
        UserError: A file cannot be read or written, the name cannot be one on the Hub, or the
            upload failed.
    """
    folder = Path(folder)
    check_hub_id(name)
    if not dry_run:
        check_hub_package()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f'{folder} exists: give the name of a new folder')
    found = _read_metrics(metrics) if metrics else {}
    published, left = stripped(source)
    meta = published['meta']
    settings = recorded_config(meta)
    backbone = _backbone(settings, published['state_dict'])
    if backbone is None:
        log(f'left out: {CONFIG} and {WEIGHTS}, as the backbone is not one of mmsb')
    else:
        write_backbone(*backbone, folder)
    title = name.rpartition('/')[2]
    whole = write_published(published, left, named(folder / title, format), log=log)
    if isinstance(meta.get('cfg'), str):
        with replacing(folder / 'config.py') as part:
            part.write_text(meta['cfg'], encoding='utf-8')
    card = model_card(name, whole.name, settings, meta, backbone and backbone[0], found, license)
    with replacing(folder / 'README.md') as part:
        part.write_text(card, encoding='utf-8')
    files = ', '.join(sorted(path.name for path in folder.iterdir()))
    if dry_run:
        log(f'{folder}: {files}; not uploaded to {name} (--dry-run)')
    else:
        log(f'{upload(folder, name)}: {files}')


def model_card(
    name: str,
    whole: str,
    settings: dict,
    meta: dict,
    backbone: dict | None,
    metrics: dict[str, float],
    license: str | None,
) -> str:
    """Return the text of a model card, with the front matter that the Hub reads.

    Args:
        name: The model on the Hub, OWNER/NAME.
        whole: The file of the whole model.
        settings: The training's config, from :func:`mmsb.utils.config_text.recorded_config`.
        meta: The checkpoint's ``meta``.
        backbone: The backbone's config if the folder holds one of mmsb, else None.
        metrics: Results by name, may be empty.
        license: As in :func:`publish_to_hub`.
    """
    scope = settings.get('default_scope')
    task, inferencer = _TASKS.get(scope, ('image-feature-extraction', ''))
    dataset = _text(settings, 'test_dataloader', 'dataset', 'type')
    title = name.rpartition('/')[2]
    front = dict(library_name='mmsb', pipeline_tag=task, tags=['mmsb', 'openmmlab'])
    if license:
        front['license'] = license
    if metrics:
        found = [dict(type=key, value=value) for key, value in metrics.items()]
        data = dict(name=dataset or 'unknown', type=(dataset or 'unknown').lower())
        result = dict(task=dict(type=task), dataset=data, metrics=found)
        front['model-index'] = [dict(name=title, results=[result])]
    classes = (meta.get('dataset_meta') or {}).get('classes')
    facts = {
        'Model': _text(settings, 'model', 'type'),
        'Backbone': backbone and f'`{backbone["type"]}`',
        'Data set': dataset,
        'Classes': len(classes) if isinstance(classes, list | tuple) else None,
        **{key.capitalize(): meta.get(key) for key in ('epoch', 'iter', 'seed')},
        'Versions': ', '.join(
            f'{key.removesuffix("_version")} {meta[key]}'
            for key in ('mmsb_version', 'mmengine_version')
            if key in meta
        ),
    }
    parts = ['---\n' + '\n'.join(f'{key}: {json.dumps(front[key])}' for key in front) + '\n---']
    parts += [f'# {title}', 'Trained with mmsb: ResNet with spatial bias (arXiv 2302.12505).']
    parts += [_table(('what', 'value'), facts)]
    if metrics:
        numbers = {key: f'{value:g}' for key, value in metrics.items()}
        parts += ['## Metrics', _table(('metric', 'value'), numbers)]
    parts += ['## Use']
    if backbone:
        kind = backbone['type'].rpartition('.')[2]
        arguments = ',\n    '.join(f'{key}={value!r}' for key, value in backbone.items())
        parts += [
            'The backbone, as a module:',
            f'```python\nfrom mmsb.models import {kind}\n\n'
            f"backbone = {kind}.from_pretrained('{name}')\n```",
            'The backbone, in a config of mmdet, mmseg or mmpretrain:',
            "```python\ncustom_imports = dict(imports=['mmsb'], allow_failed_imports=False)\n"
            f'model = dict(backbone=dict(\n    {arguments},\n'
            f"    init_cfg=dict(type='Pretrained', checkpoint='hf://{name}')))\n```",
        ]
    parts += [
        f'The whole model, after `hf download {name} --local-dir {title}`:',
        f'```shell\nmmsb predict image.jpg {title}/config.py {title}/{whole}\n```',
    ]
    if inferencer and whole.endswith('.pth'):
        parts += [
            f'```python\nimport mmsb  # registers the backbone\n{inferencer}\n\n'
            f"inferencer = Inferencer('{title}/config.py', '{title}/{whole}')\n"
            "inferencer('image.jpg')\n```"
        ]
    terms = f'The weights are under {license}.' if license else 'None is given for the weights.'
    keep = 'Weights that were grown from those of others keep their terms.'
    parts += ['## Licence', f'{terms} {keep} The code of mmsb is under Apache-2.0.']
    return '\n\n'.join(parts) + '\n'


def _table(head: tuple[str, str], rows: dict) -> str:
    lines = ['| {} | {} |'.format(*head), '| --- | --- |']
    lines += [f'| {key} | {value} |' for key, value in rows.items() if value not in (None, '')]
    return '\n'.join(lines)


def _backbone(settings: dict, state: dict) -> tuple[dict, dict] | None:
    """Return config and weights of the backbone if it is one of mmsb, else None."""
    weights = {
        key.removeprefix('backbone.'): value
        for key, value in state.items()
        if key.startswith('backbone.')
    }
    if not weights:
        return None
    model = settings.get('model')
    config = model.get('backbone') if isinstance(model, dict) else None
    if config is None:  # a file from elsewhere: what names and shapes show
        try:
            return backbone_config(weights), weights
        except UserError:
            return None
    kind = str(config.get('type')).rpartition('.')[2] if isinstance(config, dict) else ''
    if not kind or MODELS.module_dict.get(kind) is None:
        return None
    unread = [key for key, value in config.items() if not _is_read(value)]
    if unread:
        raise UserError(f'model.backbone.{unread[0]} of the config is no plain value: write it out')
    left = ('type', 'init_cfg', 'pretrained')
    arguments = {key: value for key, value in config.items() if key not in left}
    return dict(type=f'mmsb.{kind}', **arguments), weights


def _is_read(value) -> bool:
    """Tell whether no part of a value is one that :func:`recorded_config` could not read."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return all(map(_is_read, value))
    return value is not ...


def _text(settings: dict, *path: str) -> str | None:
    """Return the text at a path of settings, None if there is none."""
    for key in path:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings if isinstance(settings, str) else None


def _read_metrics(path: str | os.PathLike) -> dict[str, float]:
    try:
        found = json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise UserError(f'{path} is no JSON: give a file of --metrics-out') from error
    numbers = (
        {}
        if not isinstance(found, dict)
        else {
            key: value
            for key, value in found.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
    )
    if not numbers:
        raise UserError(f'{path} holds no numbers by name: give a file of --metrics-out')
    return numbers
