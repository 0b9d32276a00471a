"""What goes wrong with data, downloads and checkpoints, as errors of one line."""

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
    """Annotations that cannot be read, or hold nothing, or folders that do, in one line."""
    dataset = innermost_dataset(loader.dataset)
    path = next(iter(data_paths(dataset)), dataset.get('data_root'))
    try:
        yield
    except URLError as error:  # mmpretrain fetches CIFAR itself
        raise UserError(
            f'the data is not in {path} and could not be downloaded ({error.reason}): put it '
            'there, or say where it is, MMSB_CIFAR100_ROOT=PATH'
        ) from error
    except (KeyError, ValueError, IndexError) as error:  # JSON's error is a ValueError
        if isinstance(error, UserError) or 'registry' in str(error):
            raise  # a misspelt name in the config is no matter of data
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        what = 'hold images, and beside them their annotations,'
        if dataset.get('ann_file'):
            what = 'be an annotation file, with at least one image that has an object,'
        raise UserError(
            f'no data could be read from {path} ({reason}): it must {what} in the layout of the '
            'real data set'
        ) from error
    except (AssertionError, RuntimeError) as error:  # mmpretrain's
        if found := re.search(r'(The number of|Found 0 files in) subfolders.*', str(error)):
            raise UserError(
                f'{path} must hold a folder of images for each class: {found[0]}'
            ) from error
        raise


@contextmanager
def explained_errors(cfg: Config):
    """What goes wrong with downloads, checkpoints and images, in one line each."""
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
            '--cfg-options model.backbone.init_cfg.checkpoint=FILE, or start from none, '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
    except pickle.UnpicklingError as error:
        raise refusal(which, error) from error
    except (EOFError, RuntimeError) as error:
        # torch's older format, which is no zip archive, and mmengine's loader
        if isinstance(error, EOFError) or re.search(
            'unexpected EOF|PytorchStreamReader|No state_dict found', str(error)
        ):
            raise UserError(
                f'checkpoint {which} is damaged, cut short or holds no weights '
                f'({str(error).splitlines()[0]}): copy or download it again'
            ) from error
        raise
    except AssertionError as error:
        # mmcv's loader, in a validation or test pipeline; last, since from a data-loading worker
        # the message is a traceback
        if found := re.findall(r'failed to load image: (.*)', str(error)):
            raise UserError(f'image {found[-1]} cannot be read: repair or remove it') from error
        raise
    except FileNotFoundError as error:
        pattern = r"No such file or directory: '(.*\.(?:jpe?g|png|bmp|tiff?))'"
        if found := re.findall(pattern, str(error), re.IGNORECASE):
            raise UserError(f'{found[-1]} does not exist, but is among the data') from error
        raise
