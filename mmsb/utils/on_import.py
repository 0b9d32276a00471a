"""Do something when a module is imported by whoever needs it, without importing it here.

``import mmsb`` must not import the toolboxes, and yet has to tell them things once they are there.
"""

import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

Execute = Callable[[ModuleType], None]


def when_imported(name: str, callback: Callable[[ModuleType], None]) -> None:
    """Call ``callback(module)`` as soon as a module has been imported: at once, if it has been.

    Otherwise the callback runs right after the module's code, before the import statement returns,
    and again if the module is loaded again. Several callbacks run in the order in which they were
    given; one that is given twice runs once. What a callback raises fails the import. An import
    that fails by itself calls nothing, and the callback waits for the next one.

    Args:
        name: The full name of the module, such as ``'mmpretrain.apis.model'``. It need not exist.
        callback: Takes the module. It may import further modules.
    """
    module = sys.modules.get(name)
    if module is not None:
        callback(module)
    else:
        _finder().callbacks.setdefault(name, {})[callback] = None


def wrap_import(name: str, run: Callable[[Execute, ModuleType], None]) -> None:
    """Have ``run(execute, module)`` run a module's code, to change what it raises.

    Changes nothing for a module that has been imported. The last ``run`` given counts.

    Args:
        name: The full name of the module. It need not exist.
        run: Takes the function that runs the module's code, and the module, which is empty then.
    """
    _finder().runs[name] = run


def _finder() -> '_Finder':
    for finder in sys.meta_path:
        if isinstance(finder, _Finder):
            return finder
    sys.meta_path.insert(0, _Finder())
    return sys.meta_path[0]


class _Finder(MetaPathFinder):
    """Lets the other finders find a module, and puts a loader that calls back before theirs."""

    def __init__(self):
        self.callbacks: dict[str, dict[Execute, None]] = {}  # a dict as an ordered set
        self.runs: dict[str, Callable[[Execute, ModuleType], None]] = {}

    def find_spec(self, name, path, target=None) -> ModuleSpec | None:
        if name not in self.callbacks and name not in self.runs:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:  # None: a namespace package, which has no code
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None


class _Loader(Loader):
    """A module's own loader, plus the callbacks."""

    def __init__(self, loader, finder: _Finder):
        self.loader, self.finder = loader, finder

    def __getattr__(self, name):  # whoever looks at a spec without importing, as runpy does
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module) -> None:
        # From here on the module has its own loader, as if nothing had been put before it.
        module.__spec__.loader = module.__loader__ = self.loader
        name = module.__spec__.name
        run = self.finder.runs.get(name, lambda execute, module: execute(module))
        run(self.loader.exec_module, module)
        for callback in self.finder.callbacks.get(name, ()):
            callback(module)
