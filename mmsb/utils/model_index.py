"""The networks of ``model-index.yml``, by name: here, and in the toolboxes when imported."""

import logging
from collections.abc import Iterator
from pathlib import Path

from mmengine.fileio import load
from mmengine.logging import print_log

from .on_import import when_imported

PACKAGE = Path(__file__).parents[1]
CLONED = (PACKAGE.parent / 'tools' / 'train_seeds.py').is_file()
#: Folder of configs, tools and the model index: the repository, or inside the installed package.
ROOT = PACKAGE.parent if CLONED else PACKAGE / '.mim'
#: The file that lists a toolbox's networks. mmpretrain reads one file alone, so the collection is
#: in its file.
METAFILE = 'configs/metafile_{}.yml'


def introduce() -> None:
    """Make the toolboxes know our networks by name, each when it is imported.

    Afterwards ``mmpretrain.get_model('sb_resnet50_a3-100e_in1k')``, ``mmpretrain.list_models``,
    and the inferencers of mmpretrain, mmdet and mmseg take names of ``model-index.yml``. Only
    the lists are read, and not before they are needed; a config is read when it is asked for.
    """
    when_imported('mmpretrain.apis.model', _introduce_to_mmpretrain)
    when_imported('mmengine.infer.infer', _introduce_to_inferencers)


def _introduce_to_mmpretrain(module) -> None:
    hub, path = module.ModelHub, ROOT / METAFILE.format(module.__name__.partition('.')[0])
    if not path.is_file():
        print_log(
            f'mmsb was installed without its configs (no {path}): its networks have no names here',
            'current',
            logging.WARNING,
        )
    elif not any(hub.has(entry['Name']) for entry in load(str(path))['Models']):
        hub.register_model_index(path, config_prefix=ROOT)


def _introduce_to_inferencers(module) -> None:
    """mmdet's and mmseg's inferencers ask mmengine's for what a folder's index lists."""
    theirs = module.BaseInferencer._get_models_from_metafile
    if getattr(theirs, 'lists_mmsb', False):
        return

    def get_models_from_metafile(dir: str) -> Iterator[dict]:
        yield from theirs(dir)
        path = ROOT / METAFILE.format(_package_in(dir))
        for entry in load(str(path))['Models'] if path.is_file() else ():
            yield {'Weights': None, **entry, 'Config': str(ROOT / entry['Config'])}

    get_models_from_metafile.lists_mmsb = True
    module.BaseInferencer._get_models_from_metafile = staticmethod(get_models_from_metafile)


def _package_in(folder: str) -> str:
    """Return the name of the package whose model index is in a folder."""
    folder = Path(folder)
    if folder.name == '.mim':
        return folder.parent.name
    for path in ROOT.glob(METAFILE.format('*')):  # a repository: which of them is there?
        name = path.stem.partition('_')[2]
        if (folder / name).is_dir():
            return name
    return ''
