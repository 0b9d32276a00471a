"""The miniature benchmark through the whole of tools/test.py, in one process and two."""

import json
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmsb.engine import test as run_test
from mmsb.engine.arguments import parse_test_args
from mmsb.studies.ood.metric import OODMetric
from mmsb.studies.ood.report import score_observers
from mmsb.studies.ood.responses import read_responses
from mmsb.studies.ood.scores import CATEGORIES, DATASETS, average
from tests import readme
from tests.conftest import ROOT, assert_one_line
from tests.ood import make_mini_ood
from tests.weights import build_randomised

CONFIG = 'configs/ood/sb_resnet50_ood.py'
SETTINGS = {
    'model.backbone.depth': 18,
    'model.backbone.base_channels': 8,
    'model.head.in_channels': 64,
    'test_dataloader.num_workers': 0,
    'test_dataloader.batch_size': 8,
}
FLAGS = ['--cfg-options', *(f'{key}={value}' for key, value in SETTINGS.items())]
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_mini_ood(tmp_path_factory.mktemp('ood'), count=3)


def images(root):
    """Name -> pixels normalised as ImageNet's, RGB, (3, H, W), float64."""
    paths = sorted((root / 'datasets').rglob('*.png'))
    read = [(cv2.imread(str(path))[..., ::-1] - MEAN) / STD for path in paths]
    return {
        p: torch.from_numpy(image).permute(2, 0, 1) for p, image in zip(paths, read, strict=True)
    }


@pytest.fixture(scope='module')
def network(root):
    """A tiny SB-ResNet, random, whose classes are spread over the images; float64."""
    pytest.importorskip('mmpretrain.models')
    model = build_randomised(ROOT / CONFIG, 2**0.5, SETTINGS)
    with torch.no_grad():
        features = model.extract_feat(torch.stack(list(images(root).values())))[0]
        model.head.fc.weight /= features.std(0).mean()
        model.head.fc.bias.copy_(-model.head.fc.weight @ features.mean(0))
    return model


@pytest.fixture(scope='module')
def checkpoint(network, tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'tiny.pth'
    torch.save(dict(state_dict={k: v.float() for k, v in network.state_dict().items()}), path)
    return path


def run_on(root, checkpoint, work_dir, *flags):
    """README's tools/test.py; the metrics."""
    variable, _, tool, config, _ = shlex.split(readme.command('test ood'))
    assert (variable, tool, config) == ('MMSB_OOD_ROOT=model-vs-human', 'tools/test.py', CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSB_OOD_ROOT', str(root))
        args = [str(ROOT / CONFIG), str(checkpoint), '--work-dir', str(work_dir)]
        return run_test(parse_test_args([*args, *FLAGS, *flags]))


@pytest.fixture(scope='module')
def tested(root, checkpoint, tmp_path_factory):
    """The metrics of one process and the folder of its responses."""
    work_dir = tmp_path_factory.mktemp('work')
    return run_on(root, checkpoint, work_dir), work_dir / 'responses'


def decisions(network, root):
    """File name -> category, one image at a time."""
    found = {}
    with torch.no_grad():
        for path, image in images(root).items():
            scores = network(image[None], mode='tensor')[0].softmax(0).tolist()
            means = {c: sum(scores[i] for i in n) / len(n) for c, n in CATEGORIES.items()}
            found[path.parts[-4 if 'dnn' in path.parts else -3], path.name] = max(
                means, key=means.get
            )
    return found


def test_from_images_to_responses_to_the_report(tested, root, network):
    metrics, folder = tested
    responses = read_responses([folder])
    assert [*responses] == list(DATASETS)
    answered = {
        (dataset, image): response
        for dataset, observers in responses.items()
        for image, response in zip(
            observers['sb-resnet50-ood'].image, observers['sb-resnet50-ood'].response, strict=True
        )
    }
    expected = decisions(network, root)
    assert len(set(expected.values())) > 5  # not all alike
    assert answered == expected

    scores = score_observers([root / 'raw-data', folder])
    found = average([observers['sb-resnet50-ood'] for observers in scores.values()])
    assert metrics == {f'ood/{k}': pytest.approx(v) for k, v in found.items()} | {
        'ood/datasets': 17
    }
    assert 0.01 < metrics['ood/ood_accuracy'] < 0.5
    assert 0 < metrics['ood/accuracy_difference'] < 1


def test_without_humans_only_accuracy(root, checkpoint, tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/datasets').symlink_to(root / 'datasets')
    out = tmp_path / 'metrics.json'
    metrics = run_on(tmp_path / 'data', checkpoint, tmp_path, '--metrics-out', str(out))
    assert metrics == json.loads(out.read_text())
    assert metrics.keys() - {'ood/shape_bias'} == {'ood/ood_accuracy', 'ood/datasets'}


def test_two_processes_answer_alike(tested, run_tool, checkpoint, root, tmp_path):
    """An odd number of images: the sampler gives one of them twice."""
    metrics, folder = tested
    assert len(list((root / 'datasets').rglob('*.png'))) % 2 == 1
    run_tool(
        *('tools/dist_test.sh', CONFIG, checkpoint, 2, '--work-dir', tmp_path),
        *('--metrics-out', tmp_path / 'metrics.json', *FLAGS),
        MMSB_OOD_ROOT=root,
    )
    assert json.loads((tmp_path / 'metrics.json').read_text()) == metrics
    written = {p.name: p.read_text() for p in (tmp_path / 'responses').rglob('*.csv')}
    assert written == {p.name: p.read_text() for p in folder.rglob('*.csv')}


def samples():
    """Of a drawn data set of one condition: what the model predicts, in the data's order."""
    rng = np.random.default_rng(0)
    for trial in range(1, 21):
        ood = dict(
            dataset='sketch', session=1 + trial % 2, trial=trial, condition='0', category='cat'
        )
        scores = torch.from_numpy(rng.dirichlet(np.full(1000, 0.1)))
        yield dict(
            img_path=f'/x/{trial:04}_ske_dnn_0_cat_00_{trial}.png', ood=ood, pred_score=scores
        )


def humans(folder):
    lines = ['subj,session,trial,rt,object_response,category,condition,imagename']
    lines += [f'subject-01,1,{t},1,{"cat" if t % 3 else "na"},cat,0,{t}.png' for t in range(1, 21)]
    (folder / 'sketch').mkdir(parents=True)
    (folder / 'sketch/sketch_subject-01_session_1.csv').write_text('\n'.join(lines))
    return folder


def test_order_and_batches_do_not_matter(tmp_path):
    people = humans(tmp_path / 'humans')
    given, results = list(samples()), []
    for n, (order, batch) in enumerate(((1, 1), (-1, 7), (1, 20))):
        metric = OODMetric(str(people), out_dir=str(tmp_path / str(n)), model='my_net')
        shown = given[::order]
        for start in range(0, len(shown), batch):
            metric.process({}, shown[start : start + batch])
        found = metric.evaluate(len(given))
        files = {p.name: p.read_text() for p in (tmp_path / str(n)).rglob('*.csv')}
        results.append((found, files))
    assert results[0] == results[1] == results[2]
    assert {*results[0][1]} == {f'sketch_my-net_session-{s}.csv' for s in (1, 2)}
    assert 'ood/error_consistency' in results[0][0]


def test_other_images_than_the_humans_are_refused_before_the_test(root, checkpoint, tmp_path):
    shutil.copytree(root, tmp_path / 'data')
    next((tmp_path / 'data/datasets/contrast').rglob('*_dnn_c10_*.png')).unlink()
    assert_one_line(
        lambda: run_on(tmp_path / 'data', checkpoint, tmp_path / 'work'),
        'contrast: sb-resnet50-ood has no response to 1 images of subject-01 (n02',
    )
    assert not (tmp_path / 'work/responses').exists()


def test_responses_that_are_not_whole_are_kept(tmp_path):
    metric = OODMetric(str(humans(tmp_path / 'humans')), out_dir=str(tmp_path / 'out'))
    metric.process({}, list(samples())[:-2])
    message = 'sketch: model has no response to 2 images of subject-01 (19.png, 20.png)'
    assert_one_line(lambda: metric.evaluate(18), message)
    assert len(list((tmp_path / 'out').rglob('*.csv'))) == 2  # what was answered is kept


def test_a_models_name_is_not_a_humans(tmp_path):
    assert_one_line(lambda: OODMetric(str(tmp_path), model='subject_07'), 'subject_07')


def test_no_metric_of_the_humans_is_of_files_that_are_wrong(tmp_path):
    folder = humans(tmp_path)
    path = next(folder.rglob('*.csv'))
    path.write_text(path.read_text().replace('imagename', 'image'))
    assert_one_line(lambda: OODMetric(str(folder)), f'{Path(path)} has no column imagename')
