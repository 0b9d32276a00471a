"""Files of responses: the humans' quirks, what is written is read, and files that are not right."""

import csv
from pathlib import Path

import pytest

from mmsb.studies.ood.responses import COLUMNS, read_responses, write_responses
from mmsb.studies.ood.scores import score
from tests.conftest import assert_one_line
from tests.ood import HEAD, write_csv

ROW = ['subject-01', 1, 1, 'NaN', 'cat', 'cat', '0', '0001_ske_s01_0_cat_00_a.png']


def write(root, name, head, *rows):
    """DATASET/FILE.csv"""
    write_csv(Path(root) / name, head, rows)


def test_quirks_of_the_humans(tmp_path):
    """Names of columns in another case and order, conditions spelt otherwise, missing responses."""
    (tmp_path / 'false-colour').mkdir()
    (tmp_path / 'false-colour/false-colour_subject-01_session_1.csv').write_text(
        'Subj,Session,trial,RT,ImageName,object_response,category,condition\r\n'
        'subject-01,1,1,NaN,0001_fc_s01_false_cat_35_n02123045_1.png,na,cat,false\r\n'
        'subject-01,1,2,0.6,0002_fc_s01_true_dog_35_n02090721_9.png,bear,dog,true\r\n'
        '\r\n'
        'subject-01,1,3,0.7,0003_fc_s01_false_dog_35_n02123045_2.png, dog ,dog,FALSE\r\n',
        encoding='utf-8-sig',
        newline='',
    )
    write(
        tmp_path,
        'false-colour/false-colour_my-net_session-1.csv',
        HEAD,
        ['my_net', 1, 1, 'NaN', 'cat', 'cat', 'False', '0009_fc_dnn_x_n02123045_1.png'],
        ['my_net', 1, 2, 'NaN', 'dog', 'dog', 'False', '0010_fc_dnn_x_n02123045_2.png'],
        ['my_net', 1, 3, 'NaN', 'dog', 'dog', 'True', 'of_no_matter.png'],
    )
    found = read_responses([tmp_path])['false-colour']
    assert {name: len(r.image) for name, r in found.items()} == {'subject-01': 3, 'my-net': 3}
    scores = score('false-colour', found)
    assert scores['subject-01']['ood_accuracy'] == 0.5  # 'na' is wrong, 'true' does not count
    assert scores['my-net'] == dict(
        accuracy_difference=0.25, observed_consistency=0.5, error_consistency=0, ood_accuracy=1
    )


def test_sessions_are_one_and_the_order_is_the_benchmarks(tmp_path):
    for session in (1, 2):
        row = [*ROW[:7], f'{session}_s01_n0{session}_x.png']
        for dataset in ('uniform-noise', 'sketch'):
            write(tmp_path, f'{dataset}/{dataset}_subject-01_session_{session}.csv', HEAD, row)
    found = read_responses([tmp_path])
    assert [*found] == ['sketch', 'uniform-noise']
    assert found['sketch']['subject-01'].image == ('1_s01_n01_x.png', '2_s01_n02_x.png')


def test_written_is_read(tmp_path):
    rows = [
        (2, 1, 'dog', 'cat', 'bw', '0001_cl_dnn_bw_cat_00_n01_2.png'),
        (1, 2, 'cat', 'cat', 'cr', '0002_cl_dnn_cr_cat_00_n01_1.png'),
        (1, 10, 'cat', 'bear', 'bw', '0010_cl_dnn_bw_bear_00_n01_3.png'),
    ]
    write_responses(tmp_path, 'colour', 'sb-net', rows)
    names = sorted(path.name for path in (tmp_path / 'colour').iterdir())
    assert names == ['colour_sb-net_session-1.csv', 'colour_sb-net_session-2.csv']
    with open(tmp_path / 'colour' / names[0], newline='') as file:
        lines = list(csv.reader(file))
    assert lines[0] == HEAD == [*COLUMNS]
    assert lines[1] == ['sb-net', '1', '2', 'NaN', 'cat', 'cat', 'cr', rows[1][-1]]
    assert [line[2] for line in lines[1:]] == ['2', '10']
    found = read_responses([tmp_path])['colour']['sb-net']
    assert found.response == ('cat', 'cat', 'dog')
    assert found.condition == ('cr', 'bw', 'bw')


def test_a_missing_column_is_named(tmp_path):
    head = ['subj', 'session', 'trial', 'rt', 'response', 'category', 'condition', 'image']
    write(tmp_path, 'sketch/sketch_subject-01_session_1.csv', head, ROW)
    message = 'sketch_subject-01_session_1.csv has no column imagename, object_response'
    assert_one_line(lambda: read_responses([tmp_path]), message)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'has no column subj'),
        (b'\xff\xfe\x00', 'cannot be read'),
        (','.join(HEAD).encode(), 'holds no responses'),
        (','.join(HEAD).encode() + b'\nsubject-01,1,1', 'row 2 must have 8 cells'),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, message):
    (tmp_path / 'edge').mkdir()
    (tmp_path / 'edge/edge_x_session-1.csv').write_bytes(content)
    assert_one_line(lambda: read_responses([tmp_path]), 'edge_x_session-1.csv')
    assert_one_line(lambda: read_responses([tmp_path]), message)


def test_folders_without_responses(tmp_path):
    assert_one_line(lambda: read_responses([tmp_path / 'x']), f'{tmp_path / "x"} does not exist')
    (tmp_path / 'sketch').mkdir()
    assert_one_line(lambda: read_responses([tmp_path]), f'{tmp_path} holds no responses')


def test_an_observer_in_two_folders(tmp_path):
    for folder in 'ab':
        write(tmp_path / folder, 'sketch/sketch_net_session-1.csv', HEAD, ['net', *ROW[1:]])
    assert_one_line(
        lambda: read_responses([tmp_path / 'a', tmp_path / 'b']),
        'b both have responses of net to sketch',
    )
