"""One-line messages for errors in data, downloads and checkpoints."""

import errno
import pickle
import re
from contextlib import contextmanager
from urllib.error import URLError

from mmengine.config import Config, ConfigDict

from mmsb.engine.config import data_paths, innermost_dataset
from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import check_checkpoint_file, pretrained_files, refusal, safe_loading


@contextmanager
def explained_data_errors(loader: ConfigDict):
    """Turn errors about unreadable or empty data of ``loader`` into one-line messages."""
    dataset = innermost_dataset(loader.dataset)
    path = next(iter(data_paths(dataset)), dataset.get('data_root'))
    try:
        yield
    except URLError as error:  # mmpretrain downloads CIFAR itself
        raise UserError(
            f'the data is not in {path} and could not be downloaded ({error.reason}): put it '
            'there, or set its location, MMSB_CIFAR100_ROOT=PATH'
        ) from error
    except (KeyError, ValueError, IndexError) as error:  # JSON's error is a ValueError
        if isinstance(error, UserError) or 'registry' in str(error):
            raise  # a misspelt name in the config is not an error in the data
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        what = 'contain images with annotations beside them,'
        if dataset.get('ann_file'):
            what = 'be an annotation file, with at least one image that has an object,'
        raise UserError(
            f'no data could be read from {path} ({reason}): it must {what} in the layout of the '
            'real data set'
        ) from error
    except (AssertionError, RuntimeError) as error:  # mmpretrain's
        if found := re.search(r'(The number of|Found 0 files in) subfolders.*', str(error)):
            raise UserError(
                f'{path} must contain one folder of images per class: {found[0]}'
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
    which = ' or '.join(checkpoints) or 'of the work directory'
    try:
        with safe_loading():
            yield
    except URLError as error:
        raise UserError(
            f'the pretrained weights could not be downloaded ({error.reason}): give a local file, '
            '--cfg-options model.backbone.init_cfg.checkpoint=FILE, or start without them, '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
    except pickle.UnpicklingError as error:
        raise refusal(which, error) from error
    except (EOFError, RuntimeError) as error:
        # raised for torch's older format, which is not a zip archive, and by mmengine's loader
        if isinstance(error, EOFError) or re.search(
            'unexpected EOF|PytorchStreamReader|No state_dict found', str(error)
        ):
            raise UserError(
                f'checkpoint {which} is damaged, cut short or holds no weights '
                f'({str(error).splitlines()[0]}): copy or download it again'
            ) from error
        raise
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
