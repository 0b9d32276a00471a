"""What ``import mmsb`` does and does not do, and which module of it may import which."""

import ast
import importlib.util
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

# Bottom to top; an import goes down, or stays on its floor without a circle.
FLOORS = (
    ('utils', 'registry', 'version'),
    ('ops',),
    ('models',),
    ('checkpoints',),
    ('toolboxes',),
    ('datasets', 'engine', 'inference'),
    ('analysis', 'benchmark', 'deployment', 'studies'),
    ('check_env', '__main__', ''),  # '': mmsb/__init__.py
)
MODELS_FLOORS = (
    ('kernels', 'finding', 'hub'),
    ('layers', 'growing'),
    ('adding', 'pretrained'),
    ('backbones',),
    ('fusion',),
    ('',),
)
TOOLBOXES = ('mmdet', 'mmseg', 'mmpretrain')
# Importing a kernel needs Triton or a C++ compiler.
LAZY = {('mmsb.models.kernels.dispatch', 'mmsb.models.kernels')}


class Import(NamedTuple):
    """One import: who imports what, and whether a function does when it is called."""

    by: str
    of: str
    in_function: bool


def read_imports(root):
    """All imports of a package: also in functions, under ``TYPE_CHECKING``, by importlib."""
    root = Path(root)
    paths = {}
    for path in root.rglob('*.py'):
        parts = path.relative_to(root.parent).with_suffix('').parts
        paths['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    found = []

    def visit(node, module, in_function):
        package = module if paths[module].stem == '__init__' else module.rpartition('.')[0]
        for child in ast.iter_child_nodes(node):
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                relative = '.' * child.level + (child.module or '')
                of = importlib.util.resolve_name(relative, package)
                inner = [f'{of}.{alias.name}' for alias in child.names]
                names = [name if name in paths else of for name in inner]
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith('import_module'):
                of = ast.unparse(child.args[0]).strip('f\'"').partition('{')[0]
                names = [importlib.util.resolve_name(of, package).rstrip('.')]
            found.extend(Import(module, name, in_function) for name in names)
            inside = in_function or isinstance(child, ast.FunctionDef | ast.Lambda)
            visit(child, module, inside)

    for module, path in paths.items():
        visit(ast.parse(path.read_text(encoding='utf-8')), module, False)
    return found


IMPORTS = read_imports(ROOT / 'mmsb')
OURS = [one for one in IMPORTS if one.of.split('.')[0] == 'mmsb']


def room(module, depth=1):
    return (*module.split('.'), '', '')[depth]


def upward(imports, floors, depth=1):
    floor = {name: number for number, names in enumerate(floors) for name in names}
    return [one for one in imports if floor[room(one.of, depth)] > floor[room(one.by, depth)]]


def circle(pairs):
    """The nodes of a circle among the pairs, or an empty list."""
    graph = {}
    for by, of in pairs:
        if by != of:
            graph.setdefault(by, set()).add(of)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_imports_go_down():
    assert upward(OURS, FLOORS) == []


def test_imports_within_models_go_down():
    within = [one for one in OURS if room(one.by) == room(one.of) == 'models']
    assert len(within) > 20
    assert upward(within, MODELS_FLOORS, depth=2) == []


def test_no_circle_between_files():
    assert circle((one.by, one.of) for one in OURS) == []


def test_no_circle_between_rooms():
    assert circle((room(one.by), room(one.of)) for one in OURS) == []
    within = [one for one in OURS if room(one.by) == room(one.of) == 'analysis']
    assert circle((room(one.by, 2), room(one.of, 2)) for one in within) == []


def test_no_import_of_ours_is_hidden_in_a_function():
    hidden = {(one.by, one.of) for one in OURS if one.in_function}
    assert hidden == LAZY


def test_toolboxes_are_imported_in_functions():
    found = [one for one in IMPORTS if one.of.split('.')[0] in TOOLBOXES]
    assert len(found) > 10 and all(one.in_function for one in found)


@pytest.mark.parametrize(
    'line',
    [
        'from mmsb.engine import b',
        'def f():\n    from . import b',
        'if TYPE_CHECKING:\n    import mmsb.engine.b',
        "importlib.import_module('mmsb.engine.b')",
        "importlib.import_module('.b', __package__)",
    ],
)
def test_a_circle_and_a_step_up_are_found(tmp_path, line):
    for name in ('mmsb/utils/a.py', 'mmsb/engine/b.py'):
        (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / 'mmsb/engine/__init__.py').touch()
    (tmp_path / 'mmsb/engine/b.py').write_text('import mmsb.engine.c\nimport mmsb.utils.a')
    (tmp_path / 'mmsb/engine/c.py').write_text(line)
    (tmp_path / 'mmsb/utils/a.py').write_text('from mmsb.engine.b import x')
    imports = read_imports(tmp_path / 'mmsb')
    pairs = [(one.by, one.of) for one in imports if 'utils' not in one.by]
    assert set(circle(pairs)) == {'mmsb.engine.b', 'mmsb.engine.c'}
    assert upward(imports, FLOORS) == [Import('mmsb.utils.a', 'mmsb.engine.b', False)]
    assert [one.in_function for one in imports if one.by == 'mmsb.engine.c'] == ['def' in line]


def python(code):
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_toolbox_is_imported():
    code = 'import sys, mmsb; print([n for n in sys.modules if n in %r])'
    assert python(code % (('mmdet', 'mmseg', 'mmpretrain'),)).strip() == '[]'


def test_no_module_of_ours_imports_a_toolbox_at_import():
    """Also the modules that ``import mmsb`` leaves out: engine, datasets, checkpoints, ..."""
    code = """
import pkgutil, importlib, sys, mmsb
for module in pkgutil.walk_packages(mmsb.__path__, 'mmsb.'):
    if module.name not in ('mmsb.ops.mmcv_ext._ext',):
        importlib.import_module(module.name)
print([n for n in sys.modules if n in ('mmdet', 'mmseg', 'mmpretrain')])
"""
    assert python(code).strip().splitlines()[-1] == '[]'


@pytest.mark.parametrize(
    ('module', 'unwanted'),
    [
        ('models', ('mmsb.checkpoints', 'mmsb.datasets', 'mmsb.engine', 'mmsb.analysis')),
        ('studies.ood', ('mmsb.engine',)),
        ('registry', ('mmsb.engine.runner', 'mmsb.datasets.miniatures.drawing')),
    ],
)
def test_a_room_does_not_load_what_uses_it(module, unwanted):
    code = f"""
import importlib, pkgutil, sys, mmsb.{module} as package
for module in pkgutil.walk_packages(getattr(package, '__path__', []), 'mmsb.{module}.'):
    if 'report' not in module.name and 'kernels.' not in module.name:
        importlib.import_module(module.name)
if '{module}' == 'registry':
    from mmengine.registry import DATASETS
    assert DATASETS.get('mmsb.CIFAR100')
print([n for n in sys.modules if n.startswith({unwanted})])
"""
    assert python(code).strip() == '[]'


def test_a_missing_part_is_named_with_the_way_out():
    code = """
import sys
sys.modules['mmengine'] = None
try:
    import mmsb
except ImportError as error:
    print(error)
"""
    out = python(code)
    assert 'mmengine' in out and 'python -m mmsb.check_env' in out


def test_scoped_name_needs_no_import():
    code = """
import sys
from mmengine.registry import MODELS
print(type(MODELS.build(dict(type='mmsb.SBResNet', depth=18, base_channels=8))).__name__)
"""
    assert python(code).strip().splitlines()[-1] == 'SBResNet'
