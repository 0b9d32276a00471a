"""One-line error messages, shared by all command lines."""

import functools
import logging
import sys
from collections.abc import Callable

from mmsb.engine.distributed import rank_zero
from mmsb.utils.errors import UserError
from mmsb.utils.log_file import log_to_file


def report_user_errors(main: Callable) -> Callable:
    """Report a :class:`UserError` in ``main`` as one line on stderr and exit with its code, 2.

    Ctrl-C exits without a traceback, with code 130. Only the first of several processes prints.
    The traceback goes to the run's log file.
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
            sys.exit(130)  # a shell's code for Ctrl-C; the launcher prints the message

    return wrapper


def _message(error: UserError) -> str:
    # A data-loading worker passes on a whole traceback that ends with our message.
    text = str(error).strip()
    return text.split('UserError: ')[-1].strip() if 'Traceback' in text else text
