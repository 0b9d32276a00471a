"""Table 11 from files of responses: humans as models, blanks, and the tool's errors."""

import shlex
import shutil

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from mmsb.studies.ood.report import report, score_observers
from mmsb.studies.ood.responses import read_responses
from mmsb.studies.ood.scores import CONDITIONS, DATASETS, condition_key, image_id
from tests import readme
from tests.ood import make_mini_ood


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    return make_mini_ood(tmp_path_factory.mktemp('ood'), count=3, side=2) / 'raw-data'


@pytest.fixture
def humans(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / 'raw-data')


def answer(humans, out, name, datasets):
    """A model that answers as the second human, but for the first response of a file."""
    for dataset in datasets:
        path = humans / dataset / f'{dataset}_subject-02_session_1.csv'
        lines = path.read_text().replace('subject-02', name).splitlines()
        cells = lines[1].split(',')
        cells[4] = 'na' if cells[4] == cells[5] else cells[5]
        lines[1] = ','.join(cells)
        (out / dataset).mkdir(parents=True)
        (out / dataset / f'{dataset}_{name}_session-1.csv').write_text('\n'.join(lines))
    return out


def table(text):
    """Table 11: title -> cells."""
    lines = text.split('Table 11')[1].splitlines()[2:]
    rows = [[cell.strip() for cell in line.split('  ') if cell.strip()] for line in lines]
    return {row[0]: row[1:] for row in rows if len(row) == 9}


def test_humans_alone(drawn):
    """Each beside the others, no model and no image needed; with scikit-learn's kappa."""
    scores = score_observers([drawn])
    assert [*scores] == list(DATASETS)
    everyone = []
    for dataset, people in read_responses([drawn]).items():
        assert [*scores[dataset]] == ['subject-01', 'subject-02', 'subject-03']
        wanted = [condition_key(c) for c in CONDITIONS.get(dataset, ['0'])]
        rights = {}
        for name, found in people.items():
            for condition, image, category, response in zip(*found, strict=True):
                key = (condition_key(condition), image_id(image))
                rights.setdefault(name, {})[key] = category == response
        of_dataset = []
        for name, own in rights.items():
            kappas = []
            for other, theirs in rights.items():
                for condition in wanted if name != other else ():
                    keys = [key for key in own if key[0] == condition]
                    a, b = ([right[key] for key in keys] for right in (own, theirs))
                    kappas.append(1 if a == b else cohen_kappa_score(a, b))
            found = scores[dataset][name]['error_consistency']
            assert found == pytest.approx(np.mean(kappas))
            of_dataset.append(found)
        everyone.append(np.mean(of_dataset))
    rows = table(report(scores))
    assert rows['humans'][4] == f'{np.mean(everyone):.3f}'
    assert rows['humans'][-1] == '17 of 17'


def test_a_model_beside_the_paper(humans, tmp_path):
    out = answer(humans, tmp_path / 'out', 'sb-resnet50-ood', DATASETS)
    scores = score_observers([humans, out])
    rows = table(report(scores))
    assert [*rows] == [
        *('BAT-50', 'SBNet-50', 'GCNet-50', 'NLNet-50', 'ResNet-50'),
        *('humans', 'ResNet-50, published by model-vs-human'),
    ]
    assert [row[1] for row in rows.values()][:5] == ['0.069', '0.078', '0.081', '0.086', '0.087']
    assert [row[3] for row in rows.values()][:5] == ['0.677', '0.668', '0.668', '0.661', '0.657']
    published = ['0.087', '–', '0.665', '–', '0.208', '0.559', '–', '17 of 17']
    assert rows['ResNet-50, published by model-vs-human'] == published
    assert rows['BAT-50'] == ['–', '0.069', '–', '0.677', '–', '–', '–', '–']
    mine = [scores[d]['sb-resnet50-ood'] for d in DATASETS]
    columns = ('accuracy_difference', 'observed_consistency', 'error_consistency', 'ood_accuracy')
    for column, metric in zip((0, 2, 4, 5), columns, strict=True):
        assert rows['SBNet-50'][column] == f'{np.mean([m[metric] for m in mine]):.3f}'
    assert rows['SBNet-50'][6:] == [f'{mine[4]["shape_bias"]:.3f}', '17 of 17']


def test_what_is_absent_is_said(humans, tmp_path):
    """Data sets without the model, and without humans; averages over the others."""
    out = answer(humans, tmp_path / 'out', 'net', ('sketch', 'edge', 'rotation'))
    shutil.rmtree(humans / 'edge')
    scores = score_observers([humans, out])
    text = report(scores)
    row = table(text)['net']
    both = [scores[dataset]['net']['observed_consistency'] for dataset in ('sketch', 'rotation')]
    all_three = [
        scores[dataset]['net']['ood_accuracy'] for dataset in ('sketch', 'edge', 'rotation')
    ]
    assert row[2] == f'{np.mean(both):.3f}' and row[5] == f'{np.mean(all_three):.3f}'
    assert row[6:] == ['–', '3 of 17']
    absent = [name for name in DATASETS if name not in ('sketch', 'edge', 'rotation')]
    assert f'net: averages without {", ".join(absent)}, which are missing' in text
    assert 'net: no human to compare with in edge' in text
    assert 'humans: averages without edge, which are missing' in text


def test_one_human_is_alone(humans):
    for path in humans.rglob('*subject-0[23]*'):
        path.unlink()
    text = report(score_observers([humans]))
    assert table(text)['humans'][:5] == ['–'] * 5
    assert f'humans: no human to compare with in {", ".join(DATASETS)}' in text


@pytest.fixture
def tool(run_here):
    """README's tool, in this process: what it prints, or its exit code and error."""
    python, path, *folders = shlex.split(readme.command('ood report'))
    assert folders == ['model-vs-human/raw-data', 'work_dirs/sb_resnet50_ood/responses']

    def run(*folders):
        done = run_here(python, path, *folders, check=False)
        return (done.returncode, done.stderr) if done.returncode else done.stdout

    return run


def test_the_tool(tool, humans, tmp_path):
    out = answer(humans, tmp_path / 'out', 'net', ('contrast',))
    assert tool(humans, out) == report(score_observers([humans, out])) + '\n'
    path = next((out / 'contrast').iterdir())
    path.write_text('\n'.join(path.read_text().splitlines()[:-1]))
    code, error = tool(humans, out)
    assert code == 2 and error.count('\n') == 1
    assert error.startswith('error: contrast: net has no response to 1 images of subject-01')
