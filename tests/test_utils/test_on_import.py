"""Callbacks on the import of modules that are made up here."""

import importlib
import importlib.util
import sys

import pytest

from mmsb.utils.on_import import when_imported, wrap_import


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """Writes a module of the test's own name and returns the name."""
    name = f'imported_by_{request.node.originalname}'

    def write(code='VALUE = 1\n', inner=None):
        path = tmp_path / f'{name}.py'
        if inner:
            (tmp_path / name).mkdir()
            (tmp_path / name / f'{inner}.py').write_text('')
            path = tmp_path / name / '__init__.py'
        path.write_text(code)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield write
    for imported in [key for key in sys.modules if key.partition('.')[0] == name]:
        del sys.modules[imported]


def test_after_the_code_and_before_the_import_returns(module):
    name, seen = module(), []
    when_imported(name, lambda found: seen.append(('first', found.VALUE)))
    second = lambda found: seen.append(('second', found.VALUE))  # noqa: E731
    when_imported(name, second)
    when_imported(name, second)
    assert seen == [] and name not in sys.modules
    importlib.import_module(name)
    assert seen == [('first', 1), ('second', 1)]
    importlib.import_module(name)
    assert len(seen) == 2
    importlib.reload(sys.modules[name])
    assert len(seen) == 4


def test_at_once_if_it_has_been_imported(module):
    name, seen = module(), []
    found = importlib.import_module(name)
    when_imported(name, seen.append)
    assert seen == [found]


def test_a_callback_imports_what_is_inside(module):
    name, seen = module(inner='part'), []
    when_imported(name, lambda found: seen.append(importlib.import_module(f'{name}.part')))
    when_imported(f'{name}.part', lambda found: seen.append(found))
    importlib.import_module(name)
    assert [found.__name__ for found in seen] == [f'{name}.part'] * 2


def test_the_module_looks_as_without_a_callback(module):
    name = module()
    plain = importlib.import_module(name)
    del sys.modules[name]
    when_imported(name, lambda found: None)
    assert importlib.util.find_spec(name).loader.get_source(name) == 'VALUE = 1\n'  # as runpy does
    found = importlib.import_module(name)
    assert type(found.__loader__) is type(plain.__loader__) is type(found.__spec__.loader)
    assert found.__file__ == plain.__file__ and found.__cached__ == plain.__cached__


def test_a_failed_import_calls_nothing_and_the_next_one_does(module, tmp_path):
    name, seen = module('raise ValueError("broken")\n'), []
    when_imported(name, seen.append)
    with pytest.raises(ValueError, match='broken'):
        importlib.import_module(name)
    assert seen == []
    (tmp_path / f'{name}.py').write_text('VALUE = "mended"\n')
    importlib.invalidate_caches()
    assert importlib.import_module(name).VALUE == 'mended' and len(seen) == 1


def test_what_a_callback_raises_fails_the_import(module):
    name = module()

    def callback(found):
        raise RuntimeError('from the callback')

    when_imported(name, callback)
    with pytest.raises(RuntimeError, match='from the callback'):
        importlib.import_module(name)
    assert name not in sys.modules


def test_a_module_that_is_not_there_stays_an_import_error():
    when_imported('imported_by_nobody', print)
    with pytest.raises(ModuleNotFoundError, match='imported_by_nobody'):
        importlib.import_module('imported_by_nobody')


def test_wrapped_code_raises_something_else(module):
    name = module('1 / 0\n')

    def run(execute, found):
        try:
            execute(found)
        except ZeroDivisionError as error:
            raise ImportError('cannot be used') from error

    wrap_import(name, run)
    with pytest.raises(ImportError, match='cannot be used'):
        importlib.import_module(name)
