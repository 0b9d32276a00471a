"""Processes that end with the one that started them, and folders that one process uses."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsb.utils.errors import UserError

PARENT = 'MMSB_PARENT'  # the environment variable with the id of a process that starts others


def die_with_parent(parent: int | None = None) -> None:
    """Let the system kill this process when the one that started it ends, however it ends.

    Does nothing on other systems than Linux.

    Args:
        parent: Id of the parent, in case it has ended already. Defaults to None: do not check.
    """
    if sys.platform != 'linux':
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if parent not in (None, os.getppid()):
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def locked(folder: str | os.PathLike, what: str) -> Iterator[None]:
    """Hold a lock on a folder, which is made; the system frees it when the process ends.

    Args:
        folder: The folder.
        what: What uses it, for the error message.

    Raises:
        UserError: Another process holds the lock, or the folder cannot be written to.
    """
    path = Path(folder, '.lock')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open('a')
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error
    with file:
        if sys.platform != 'win32':
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f'another {what} works in {folder}: wait until it ends, or use another folder'
                ) from error
            except OSError:
                pass  # a file system without locks
        yield
