"""The networks of ``model-index.yml``, by name: here, and in the toolboxes when imported."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from mmengine.fileio import load
from mmengine.logging import print_log

from .on_import import when_imported

PACKAGE = Path(__file__).parents[1]
CLONED = (PACKAGE.parent / 'tools' / 'train_seeds.py').is_file()
#: Folder of configs, tools and the model index: the repository, or inside the installed package.
ROOT = PACKAGE.parent if CLONED else PACKAGE / '.mim'
#: The file that lists a toolbox's networks. mmpretrain reads one file alone, which therefore
#: holds the collection as well.
METAFILES = {
    'mmpretrain': 'configs/metafile.yml',
    'mmdet': 'configs/metafile_detection.yml',
    'mmseg': 'configs/metafile_segmentation.yml',
}


def introduce() -> None:
    """Make the toolboxes know our networks by name, each when it is imported.

    Afterwards ``mmpretrain.get_model('sb_resnet50_a3-100e_in1k')``, ``mmpretrain.list_models``,
    and the inferencers of mmpretrain, mmdet and mmseg take names of ``model-index.yml``. Only
    the lists are read, and not before they are needed; a config is read when it is asked for.
    """
    when_imported('mmpretrain.apis.model', _introduce_to_mmpretrain)
    when_imported('mmengine.infer.infer', _introduce_to_inferencers)


def _introduce_to_mmpretrain(module) -> None:
    hub, path = module.ModelHub, ROOT / METAFILES['mmpretrain']
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
        path = ROOT / METAFILES.get(_toolbox_in(dir), '')
        for entry in load(str(path))['Models'] if path.is_file() else ():
            yield {'Weights': None, **entry, 'Config': str(ROOT / entry['Config'])}

    get_models_from_metafile.lists_mmsb = True
    module.BaseInferencer._get_models_from_metafile = staticmethod(get_models_from_metafile)


def _toolbox_in(folder: str) -> str:
    """Return the imported toolbox whose index is in a folder, or ''."""
    for name in METAFILES:
        if name in sys.modules:
            package = Path(sys.modules[name].__path__[0])
            if Path(folder) in (package / '.mim', package.parent):
                return name
    return ''
