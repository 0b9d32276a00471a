"""What every command line does alike: errors in one line."""

import functools
import logging
import sys
from collections.abc import Callable

from mmsb.engine.distributed import rank_zero
from mmsb.utils.errors import UserError
from mmsb.utils.log_file import log_to_file


def report_user_errors(main: Callable) -> Callable:
    """Turns a :class:`UserError` in ``main`` into one line on stderr and its exit code, 2.

    Ctrl-C exits without a traceback, with code 130.

    Of several processes only the first speaks. The traceback goes to the run's log file.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            if rank_zero():
                log_to_file('stopped by an error', logging.ERROR, sys.exc_info())
                print(f'error: {_message(error)}', file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(130)  # as a shell says of Ctrl-C; the launcher speaks for its processes

    return wrapper


def _message(error: UserError) -> str:
    # From a data-loading worker the message is a whole traceback that ends with ours.
    text = str(error).strip()
    return text.split('UserError: ')[-1].strip() if 'Traceback' in text else text
