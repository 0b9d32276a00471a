"""The check of class folders."""

import pytest

from mmsb.datasets.folders import compare_class_folders, find_class_folders
from tests.conftest import assert_one_line

ENDINGS = ('.jpg', '.PNG')


@pytest.fixture
def folders(tmp_path):
    """Makes a folder of folders, each with some files."""

    def make(name, classes, files=('1.jpg',)):
        for one in classes:
            (tmp_path / name / one).mkdir(parents=True)
            for file in files:
                (tmp_path / name / one / file).touch()
        return find_class_folders(str(tmp_path / name), ENDINGS)

    return make


def test_strays_are_no_classes(folders):
    found = folders('train', ['b', 'a', '.ipynb_checkpoints', '@eaDir', '__MACOSX'])
    assert found.classes == ['a', 'b']
    assert found.lines == [
        f'{found.root}: no classes, left out: .ipynb_checkpoints, @eaDir, __MACOSX'
    ]
    assert found.files() == [('a/1.jpg', 0), ('b/1.jpg', 1)]


def test_a_renamed_folder_is_named(folders):
    train = folders('train', ['apple', 'banana', 'cherry'])
    compare_class_folders(train, folders('val', ['apple', 'banana', 'cherry']))
    other = folders('test', ['Banana2', 'apple', 'cherry'])
    message = f'only {other.root} has Banana2 (is it banana?): labels from 0 on would differ'
    assert_one_line(lambda: compare_class_folders(train, other), message)
    assert_one_line(
        lambda: compare_class_folders(folders('two', ['apple', 'banana']), train),
        'has cherry: labels from 2 on would differ',
    )


def test_files_that_are_not_read_are_counted(folders, tmp_path):
    found = folders('train', ['a', 'b'], ['1.jpg', '2.PNG', 'x.webp', '.hidden'])
    assert [label for _, label in found.files()] == [0, 0, 1, 1]
    (line,) = found.lines
    assert '2 of 6 files are left out, as they end in .webp (2)' in line
    wrong = folders('val', ['a', 'b'], ['x.webp'])
    assert_one_line(wrong.files, 'has no image that is read: its files end in .webp')
    empty = folders('empty', ['a', 'b'], [])
    empty.files()
    assert '2 of 2 classes have no image: a, b' in empty.lines[0]


def test_no_folders(tmp_path):
    (tmp_path / '.git').mkdir()
    message = 'must contain one folder of images per class'
    assert_one_line(lambda: find_class_folders(str(tmp_path), ENDINGS), message)
