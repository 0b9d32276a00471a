"""mmcv's compiled operators from torchvision's kernels, where mmcv was installed without them.

mmcv reaches its compiled code as the module ``mmcv._ext``. :func:`install` adds the folder
``mmcv_ext``, which holds a module of that name, to the end of mmcv's search path: a compiled
``mmcv._ext`` lies earlier on that path and always wins.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

__all__ = ['Status', 'install', 'status']

EXT_FOLDER = Path(__file__).with_name('mmcv_ext')


class Status(NamedTuple):
    """Where mmcv's operators come from.

    Attributes:
        kind (str): 'compiled', 'torchvision' or 'missing mmcv'.
        origin (str | None): The file that is imported as ``mmcv._ext``.
        error (str | None): Why importing that file fails; None if it imports, or if it was not
            tried (:func:`install` does not try).
    """

    kind: str
    origin: str | None = None
    error: str | None = None

    def __str__(self) -> str:
        text = self.kind if self.origin is None else f'{self.kind} ({self.origin})'
        return text if self.error is None else f'{text}, which fails to import: {self.error}'


def install() -> Status:
    """Make ``import mmcv.ops`` work where mmcv has no compiled operators.

    Does nothing where mmcv is absent or compiled. Calling it again is harmless.

    Returns:
        Status: Where the operators come from; ``mmcv._ext`` itself isn't imported.
    """
    try:
        import mmcv
    except ModuleNotFoundError as error:
        if error.name != 'mmcv':
            raise
        return Status('missing mmcv')
    if importlib.util.find_spec('mmcv._ext') is None:
        mmcv.__path__.append(str(EXT_FOLDER))
    origin = importlib.util.find_spec('mmcv._ext').origin
    return Status('torchvision' if Path(origin).parent == EXT_FOLDER else 'compiled', origin)


def status() -> Status:
    """Call :func:`install` and check whether the operators import.

    A compiled file built for another torch isn't replaced: its error is reported, and
    ``import mmcv.ops`` raises it.

    Returns:
        Status: Where the operators come from, and the error if they don't import.
    """
    state = install()
    if state.kind != 'missing mmcv':
        try:
            importlib.import_module('mmcv._ext')
        except Exception as error:
            # A compiled file raises ImportError, a torchvision for another torch RuntimeError.
            return state._replace(error=f'{type(error).__name__}: {error}')
    return state
