"""One-line messages for errors in data, downloads and checkpoints."""

import errno
import re
from contextlib import contextmanager
from urllib.error import URLError

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmsb.engine.config import LOADERS, data_paths, innermost_dataset, metrics_of
from mmsb.utils.errors import UserError, reason_of
from mmsb.utils.safe_load import check_checkpoint_file, pretrained_files, safe_loading

# functions of the toolboxes, pycocotools and mmengine that read data or compare with it
READING = {
    *('load_data_list', 'full_init', '_find_samples', 'parse_data_info', 'filter_data'),
    *('prepare_data', 'createIndex'),
}
EVALUATING = {'compute_metrics', 'createIndex', 'loadRes', 'accumulate', 'summarize'}
BUILDING = {'build_from_cfg', 'build_optim_wrapper', '_build_param_scheduler'}
STEPPING = {'train_step', 'val_step', 'test_step'}


@contextmanager
def explained_building(cfg: Config):
    """Turn errors in building what a config describes into one-line messages."""
    try:
        yield
    except (UserError, URLError):
        raise
    except Exception as error:  # the toolboxes' classes raise any
        raise UserError(
            f'{cfg.filename} and its overrides describe something that cannot be built '
            f'({reason_of(error)})'
        ) from error


@contextmanager
def explained_data_errors(cfg: Config, name: str):
    """Turn errors about the data of a loader, which is being built, into one-line messages."""
    dataset = innermost_dataset(cfg[name].dataset)
    path = next(iter(data_paths(dataset)), dataset.get('data_root'))
    try:
        yield
    except UserError:
        raise
    except URLError as error:  # mmpretrain downloads CIFAR itself
        raise UserError(
            f'the data is not in {path} and could not be downloaded ({error.reason}): put it '
            'there, or set its location, MMSB_CIFAR100_ROOT=PATH'
        ) from error
    except Exception as error:  # the toolboxes' data sets raise any
        if found := re.search(r'(The number of|Found 0 files in) subfolders.*', str(error)):
            raise UserError(
                f'{path} must contain one folder of images per class: {found[0]}'
            ) from error
        if not _is_in(error, READING):
            with explained_building(cfg):
                raise
        what = 'contain images with annotations beside them,'
        if dataset.get('ann_file'):
            what = 'be an annotation file, with at least one image that has an object,'
        raise UserError(
            f'no data could be read from {path} ({reason_of(error)}): it must {what} in the layout '
            'of the real data set'
        ) from error


def _is_in(error: BaseException | None, functions: set[str]) -> bool:
    """Tell whether an error, or one that it was made from, was raised within some functions."""
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_name in functions:
                return True
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def explained_running(cfg: Config, runner: Runner | None = None):
    """Turn errors of a run that the config or the data cause into one-line messages.

    They are errors in building what is built late (optimizer, schedule), in computing metrics, and
    in the first step of a model whose parts do not fit. The log file has the traceback.

    Args:
        cfg: The config.
        runner: The runner. Defaults to None: the model does not run.
    """
    try:
        yield
    except (UserError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the toolboxes, pycocotools and numpy raise any
        if _is_in(error, EVALUATING):
            metrics = [metric for name in LOADERS for _, metric in metrics_of(cfg, name)]
            files = dict.fromkeys(str(m['ann_file']) for m in metrics if m.get('ann_file'))
            raise UserError(
                f'the evaluation failed ({reason_of(error)}): the predictions do not fit the '
                f'annotations {"or ".join(files)}'.rstrip()
            ) from error
        if _is_in(error, BUILDING):
            with explained_building(cfg):
                raise
        if runner is not None and runner.iter == 0 and _is_in(error, STEPPING):
            raise UserError(
                f'the first step failed ({reason_of(error)}): the parts of the model, or its '
                'inputs and labels, do not fit; the log file has the traceback'
            ) from error
        raise


@contextmanager
def explained_errors(cfg: Config):
    """Turn errors in the downloads, checkpoints and images of ``cfg`` into one-line messages."""
    checkpoints = pretrained_files(cfg.model.get('backbone', {}).get('init_cfg'))
    if cfg.get('load_from'):
        checkpoints.insert(0, cfg.load_from)
    for path in checkpoints:
        check_checkpoint_file(path)
    try:
        with safe_loading():
            yield
    except URLError as error:
        raise UserError(
            f'the pretrained weights could not be downloaded ({error.reason}): give a local file, '
            '--cfg-options model.backbone.init_cfg.checkpoint=FILE, or start without them, '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
    except AssertionError as error:
        # from mmcv's image loader; last match: a data-loading worker's message is a traceback
        if found := re.findall(r'failed to load image: (.*)', str(error)):
            raise UserError(f'image {found[-1]} cannot be read: repair or remove it') from error
        raise
    except FileNotFoundError as error:
        pattern = r"No such file or directory: '(.*\.(?:jpe?g|png|bmp|tiff?))'"
        if found := re.findall(pattern, str(error), re.IGNORECASE):
            raise UserError(
                f'{found[-1]} does not exist, but the data set lists it: restore it or remove its '
                'entry'
            ) from error
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f'the disk of {error.filename or cfg.work_dir} is full: free space; a training '
                'continues from its last checkpoint with --resume'
            ) from error
        raise
