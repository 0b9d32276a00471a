"""Work directories made up here, whose APs, curves and boxes are known by hand."""

import ast
import importlib.util
import json
import os
import pickle
import re
import sys
from contextlib import redirect_stdout
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmsb.analysis.reports import detection_pictures as pictures
from mmsb.analysis.reports import detection_runs as reading
from mmsb.analysis.reports.detection import write_report
from mmsb.engine.training_log import read_log
from mmsb.utils.errors import UserError

pytest.importorskip('mmdet')
TOOL = Path(__file__).parents[3] / 'tools/analysis_tools/detection_report.py'
HEIGHT, WIDTH = 48, 64
# ids with gaps, as COCO's: a label is a place in this list
CATEGORIES = [{'id': i, 'name': name} for i, name in ((2, 'cat'), (7, 'dog'), (90, 'kite'))]
TRUTH = {11: [(0, (10, 8, 50, 40))], 12: [(0, (4, 4, 54, 44))]}  # image: (label, xyxy)
BLUE, CORNER = (0, 0, 255), (128, 0, 255)  # a plain picture with a corner
GREEN, RED, YELLOW = (43, 212, 138), (240, 65, 42), (255, 210, 31)  # correct, wrong, missed
RUN_COLOURS = (0, 114, 178), (213, 94, 0)


def make_coco(root, truth=TRUTH, crowd=()):
    (root / 'annotations').mkdir(parents=True)
    (root / 'val2017').mkdir()
    picture = np.full((HEIGHT, WIDTH, 3), BLUE[::-1], np.uint8)
    picture[:4, :4] = CORNER[::-1]
    boxes = [(image, *box) for image, found in truth.items() for box in found]
    data = {
        'images': [
            {'id': i, 'file_name': f'{i}.png', 'height': HEIGHT, 'width': WIDTH} for i in truth
        ],
        'annotations': [
            {
                'id': number,
                'image_id': image,
                'category_id': CATEGORIES[label]['id'],
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'area': (x2 - x1) * (y2 - y1),
                'iscrowd': int(number in crowd),
            }
            for number, (image, label, (x1, y1, x2, y2)) in enumerate(boxes, 1)
        ],
        'categories': CATEGORIES,
    }
    for image in truth:
        cv2.imwrite(str(root / 'val2017' / f'{image}.png'), picture)
    (root / 'annotations/instances_val2017.json').write_text(json.dumps(data))
    return root


def sample(image, boxes=(), size=(HEIGHT, WIDTH)):
    """One image's entry as mmdet's DumpDetResults writes it; boxes: (label, xyxy, score)."""
    labels, corners, scores = zip(*boxes, strict=True) if boxes else ((), (), ())
    return {
        'img_id': image,
        'ori_shape': size,
        'pred_instances': {
            'labels': torch.tensor(labels, dtype=torch.int64),
            'bboxes': torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
            'scores': torch.tensor(scores, dtype=torch.float32),
        },
    }


def perfect(score=0.9):
    return [sample(i, [(*box, score) for box in boxes]) for i, boxes in TRUTH.items()]


def train_line(step, loss, length=30, time=0.5):
    epoch = (step - 1) // length + 1
    return {'lr': 0.1, 'loss': loss, 'time': time, 'epoch': epoch, 'iter': step, 'step': step}


def val_line(epoch, ap):
    return {'coco/bbox_mAP': ap, 'coco/bbox_mAP_50': ap + 0.2, 'time': 0.1, 'step': epoch}


LINES = [
    *(train_line(s, 4 - s / 20) for s in (10, 20, 30)),
    val_line(1, 0.25),
    *(train_line(s, 4 - s / 20) for s in (40, 50, 60)),
    val_line(2, 0.5),
]


def add_log(work_dir, lines, stamp='20260102_000000', tail=''):
    folder = work_dir / stamp / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n' + tail)
    return folder.parent


def evaluate(coco, predictions):
    """The metrics that tools/test.py writes, by mmdet's own evaluator."""
    from mmdet.evaluation import CocoMetric

    path = coco / 'annotations/instances_val2017.json'
    with redirect_stdout(StringIO()):
        metric = CocoMetric(str(path), metric='bbox', classwise=True)
        metric.dataset_meta = dict(classes=tuple(category['name'] for category in CATEGORIES))
        metric.process({}, predictions)
        found = metric.evaluate(len(predictions))
    return {name: float(value) for name, value in found.items()}


def make_run(work_dir, predictions, lines=LINES):
    add_log(work_dir, lines)
    (work_dir / 'predictions.pkl').write_bytes(pickle.dumps(predictions))
    metrics = evaluate(work_dir.parent / 'coco', predictions)
    (work_dir / 'metrics.json').write_text(json.dumps(metrics))
    return work_dir


class Page(HTMLParser):
    """Tables as lists of rows of cells, what is linked to, and the tags."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.links, self.tags, self.open = [], [], set(), None
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for key, value in attrs if key in ('src', 'href')]
        if tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
        elif tag in ('td', 'th'):
            self.tables[-1][-1].append('')
            self.open = True

    def handle_endtag(self, tag):
        self.open = self.open and tag not in ('td', 'th')

    def handle_data(self, data):
        if self.open:
            self.tables[-1][-1][-1] += data

    def table(self, *head):
        """The rows of the table whose head begins so, by their first cells."""
        (found,) = (t for t in self.tables if t[0][: len(head)] == list(head))
        return {row[0]: dict(zip(found[0][1:], row[1:], strict=True)) for row in found[1:]}


def page_of(tmp_path, predictions, truth=TRUTH, **kwargs):
    coco = make_coco(tmp_path / 'coco', truth)
    run = make_run(tmp_path / 'run', predictions)
    return Page(write_report(tmp_path / 'out', {'a': run}, coco, **kwargs))


def places(path, colour):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((cv2.imread(str(path))[..., ::-1] == colour).all(2))


# ---------------------------------------------------------------- APs


def test_perfect_predictions_have_ap_1(tmp_path):
    row = page_of(tmp_path, perfect()).table('', 'AP')['a']
    # Objects of 40 x 32 and 50 x 40 are medium (32² to 96²): there is no small or large one.
    assert [row[name] for name in ('AP', 'AP50', 'AP75', 'APm')] == ['1.000'] * 4
    assert row['APs'] == row['APl'] == '–'


def test_no_predictions_have_ap_0(tmp_path):
    page = page_of(tmp_path, [sample(11), sample(12)])
    row = page.table('', 'AP')['a']
    assert (row['AP'], row['AP50'], row['APm']) == ('0.000',) * 3
    assert page.table('class') == {'cat': {'objects': '2', 'a': '0.000'}}
    assert page.table('', 'correct')['a'] == {'correct': '0', 'wrong': '0', 'missed': '2'}


@pytest.mark.parametrize(
    ('stray_score', 'ap50'),
    [
        # Recall reaches 0.5 at precision 1: 51 of COCO's 101 recall levels (0, 0.01, ...) have 1.
        (0.8, 51 / 101),
        # A wrong box comes before the right one: precision 1/2 at those levels.
        (0.95, 51 / 101 / 2),
    ],
)
def test_half_right_predictions(tmp_path, stray_score, ap50):
    predictions = [
        sample(11, [(*TRUTH[11][0], 0.9)]),
        sample(12, [(0, (0, 0, 64, 17), stray_score)]),  # IoU 0.27, medium as well
    ]
    page = page_of(tmp_path, predictions)
    row = page.table('', 'AP')['a']
    assert row['AP50'] == row['AP'] == row['APm'] == f'{ap50:.3f}'
    assert page.table('', 'correct')['a'] == {'correct': '1', 'wrong': '1', 'missed': '1'}


def test_ap_counts_ious_from_50_to_95(tmp_path):
    # 31 of 50 columns of the object: IoU 0.62 passes 0.50, 0.55 and 0.60 of ten levels
    truth = {11: [(0, (0, 0, 50, 40))]}
    page = page_of(tmp_path, [sample(11, [(0, (0, 0, 31, 40), 0.9)])], truth)
    row = page.table('', 'AP')['a']
    assert (row['AP'], row['AP50'], row['AP75']) == ('0.300', '1.000', '0.000')
    assert page.table('class')['cat']['a'] == '0.300'


def test_labels_are_places_among_the_categories(tmp_path):
    truth = {11: [(1, (0, 0, 20, 20)), (2, (30, 20, 60, 40))]}
    predictions = [sample(11, [(1, (0, 0, 20, 20), 0.9), (0, (30, 20, 60, 40), 0.8)])]
    page = page_of(tmp_path, predictions, truth)
    assert page.table('class') == {
        'dog': {'objects': '1', 'a': '1.000'},
        'kite': {'objects': '1', 'a': '0.000'},
    }
    assert page.table('', 'AP')['a']['AP'] == '0.500'


def test_aps_count_boxes_below_the_score_shown(tmp_path):
    page = page_of(tmp_path, perfect(score=0.2), min_score=0.5)
    assert page.table('', 'AP')['a']['AP'] == '1.000'
    assert page.table('', 'correct')['a']['correct'] == '0'


def test_predictions_are_put_in_order_of_score(tmp_path):
    coco = make_coco(tmp_path / 'coco')
    boxes = [(0, (0, 0, 1, 1), 0.25), (1, (0, 0, 2, 2), 0.75), (2, (0, 0, 3, 3), 0.5)]
    run = make_run(tmp_path / 'run', [sample(11, boxes), sample(12)])
    coco = reading.read_coco(coco / 'annotations/instances_val2017.json')
    found = reading.read_predictions(run / 'predictions.pkl', coco)[11]
    assert found['scores'].tolist() == [0.75, 0.5, 0.25]
    assert found['labels'].tolist() == [1, 2, 0]
    assert found['boxes'][:, 2].tolist() == [2, 3, 1]


def test_match(tmp_path):
    truth = {11: [(0, (0, 0, 20, 20)), (1, (30, 0, 50, 20)), (0, (0, 30, 60, 46))]}
    coco = reading.read_coco(
        make_coco(tmp_path, truth, crowd=(3,)) / 'annotations/instances_val2017.json'
    )
    found = {
        'boxes': np.array(
            [
                (0, 0, 20, 19),  # found
                (0, 0, 20, 20),  # once more, of a lower score
                (30, 0, 50, 20),  # another class
                (0, 0, 20, 20),  # too low a score
                (10, 32, 20, 42),  # in the crowd
                (0, 0, 20, 9.9),  # a poor box
            ],
            float,
        ),
        'labels': np.array([0, 0, 2, 0, 0, 0]),
        'scores': np.array([0.9, 0.8, 0.7, 0.1, 0.6, 0.5]),
    }
    order = np.argsort(-found['scores'])
    found = {key: value[order] for key, value in found.items()}
    boxes = pictures.match(coco.imgToAnns[11], found, coco, 0.5)
    assert [(box.text, box.kind) for box in boxes] == [
        ('cat 0.90', 'correct'),
        ('cat 0.80', 'wrong'),
        ('kite 0.70', 'wrong'),
        ('cat 0.50', 'wrong'),
        ('dog', 'missed'),
    ]
    assert boxes[0].xyxy == (0, 0, 20, 19)
    assert boxes[-1].xyxy == (30, 0, 50, 20)


# ---------------------------------------------------------------- curves


def run_of(work_dir):
    log = read_log(work_dir)
    return reading.Run('a', log.train, log.val, {}, {}, {}, {}), log.folder.name


def test_curves_of_one_training(tmp_path):
    add_log(tmp_path, LINES)
    run, _ = run_of(tmp_path)
    x, y = reading.loss_curve(run)
    assert x == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert y == [3.5, 3, 2.5, 2, 1.5, 1]
    assert reading.ap_curve(run) == ([1, 2], [0.25, 0.5])
    assert reading.ap_curve(run, 'coco/bbox_mAP_50') == ([1, 2], [0.45, 0.7])
    assert reading.training_seconds(run.train) == pytest.approx(60 * 0.5)


def test_curves_of_a_resumed_training(tmp_path):
    add_log(tmp_path, [train_line(s, 99) for s in (10, 20)], '20260101_000000')  # given up
    # Stopped in epoch 4, resumed from the end of epoch 2; a line was cut off.
    add_log(
        tmp_path,
        [
            *LINES,
            *(train_line(s, 77) for s in (70, 80, 90)),
            val_line(3, 0.77),
            train_line(100, 77),
        ],
        '20260102_000000',
        tail='{"lr": 0.0019, "los',
    )
    new = [train_line(s, 0.5, time=2) for s in (70, 80, 90)]
    add_log(tmp_path, [*new, val_line(3, 0.6)], '20260103_000000')
    add_log(tmp_path, [val_line(0, 0.9)], '20260104_000000')  # a test
    run, newest = run_of(tmp_path)
    x, y = reading.loss_curve(run)
    assert x == pytest.approx([n / 3 for n in range(1, 10)])
    assert y == [3.5, 3, 2.5, 2, 1.5, 1, 0.5, 0.5, 0.5]
    assert reading.ap_curve(run) == ([1, 2, 3], [0.25, 0.5, 0.6])
    assert reading.training_seconds(run.train) == pytest.approx(60 * 0.5 + 30 * 2)
    assert newest == '20260103_000000'


def test_a_resumed_training_may_log_less_often(tmp_path):
    lost = [train_line(s, 77) for s in (70, 80)]
    add_log(tmp_path, [*LINES, *lost], '20260102_000000')
    add_log(tmp_path, [train_line(s, 0.5) for s in (90, 120)], '20260103_000000')
    assert reading.loss_curve(run_of(tmp_path)[0])[1] == [3.5, 3, 2.5, 2, 1.5, 1, 0.5, 0.5]


def test_a_training_begun_anew_replaces_the_old_one(tmp_path):
    add_log(tmp_path, [train_line(s, 99) for s in (1, 2, 3, 40)], '20260101_000000')
    add_log(tmp_path, LINES, '20260102_000000')
    assert reading.loss_curve(run_of(tmp_path)[0])[1] == [3.5, 3, 2.5, 2, 1.5, 1]


def test_curves_over_iterations(tmp_path):
    lines = [{'loss': 1.0, 'iter': s, 'step': s, 'time': 1} for s in (50, 100)]
    add_log(tmp_path, [*lines, val_line(100, 0.3)])
    run, _ = run_of(tmp_path)
    assert reading.loss_curve(run)[0] == [50, 100]
    assert reading.ap_curve(run) == ([100], [0.3])


# ---------------------------------------------------------------- the report


def test_boxes_are_drawn_where_they_are(tmp_path):
    coco = make_coco(tmp_path / 'coco', {11: TRUTH[11]})
    right = make_run(tmp_path / 'right', [sample(11, [(*TRUTH[11][0], 0.9)])])
    wrong = make_run(tmp_path / 'wrong', [sample(11, [(1, (20, 12, 60, 44), 0.8)])])
    write_report(tmp_path / 'out', {'right': right, 'wrong': wrong}, coco)
    path = tmp_path / 'out/detections.png'
    # One row of three panels.
    rows, columns = (np.unique(found) for found in places(path, BLUE))
    panels = np.split(columns, np.flatnonzero(np.diff(columns) > 5) + 1)
    assert len(panels) == 3
    assert rows[-1] - rows[0] + 1 == pytest.approx(len(panels[0]) * HEIGHT / WIDTH, abs=2)
    assert np.unique(places(path, CORNER)[0])[0] == rows[0]
    truth, other = TRUTH[11][0][1], (20, 12, 60, 44)
    for colour, panel, (x1, y1, x2, y2) in (
        ((255, 255, 255), panels[0], truth),
        (GREEN, panels[1], truth),
        (RED, panels[2], other),
        (YELLOW, panels[2], truth),
    ):
        zoom = (panel[-1] + 1 - panel[0]) / WIDTH
        assert zoom > 3  # small pictures are shown large
        y, x = places(path, colour)
        inside = (x >= panel[0]) & (x <= panel[-1]) & (y >= rows[0]) & (y <= rows[-1])
        y, x = (y[inside] - rows[0]) / zoom, (x[inside] - panel[0]) / zoom
        assert (x.min(), x.max()) == pytest.approx((x1, x2), abs=0.6)
        assert y.max() == pytest.approx(y2, abs=0.6)
        on_side = (abs(x - x2) < 0.6) & (y > y1 - 0.6)  # the label is at the left
        assert y[on_side].min() == pytest.approx(y1, abs=1.2)  # dashes may leave a corner out
    # Only the legend has these colours elsewhere.
    for colour, panel in ((GREEN, panels[2]), (RED, panels[1]), (YELLOW, panels[1])):
        y, x = places(path, colour)
        assert not ((x >= panel[0]) & (x <= panel[-1]) & (y >= rows[0])).any()
        assert (y < rows[0]).any()


def test_shown_images_and_score(tmp_path):
    page_of(tmp_path, perfect(), num_images=1, min_score=0.95)
    path = tmp_path / 'out/detections.png'
    one = cv2.imread(str(path)).shape[0]
    top = places(path, BLUE)[0].min()
    assert (places(path, YELLOW)[0] > top).any()
    assert not (places(path, GREEN)[0] > top).any()
    write_report(tmp_path / 'out', {'a': tmp_path / 'run'}, tmp_path / 'coco', num_images=5)
    assert cv2.imread(str(path)).shape[0] > one + 250  # the two that there are
    assert (places(path, GREEN)[0] > top).any()


def test_curves_are_drawn(tmp_path):
    coco = make_coco(tmp_path / 'coco')
    a = make_run(tmp_path / 'a', perfect())
    lines = [{**line, 'loss': 1} if 'loss' in line else line for line in LINES]
    b = make_run(tmp_path / 'b', perfect(), lines)
    write_report(tmp_path / 'out', {'a': a, 'b': b}, coco)
    path = tmp_path / 'out/curves.png'
    middle = cv2.imread(str(path)).shape[1] / 2  # loss at its left, AP at its right
    for colour in RUN_COLOURS:
        _, x = places(path, colour)
        assert (x < middle).sum() > 100
    assert (places(path, RUN_COLOURS[1])[1] > middle).sum() > 100  # on top of a's


def test_curves_show_what_was_read(tmp_path):
    add_log(tmp_path, LINES)
    loss, ap = pictures.draw_curves([run_of(tmp_path)[0]]).axes
    assert loss.lines[0].get_ydata().tolist() == [3.5, 3, 2.5, 2, 1.5, 1]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ap.lines}
    assert drawn == {'a: AP': [[1, 0.25], [2, 0.5]], 'a: AP50': [[1, 0.45], [2, 0.7]]}


def test_files_and_links(tmp_path):
    name = 'a & <b>'
    coco = make_coco(tmp_path / 'coco')
    run = make_run(tmp_path / 'run', perfect())
    said = []
    path = write_report(tmp_path / 'new/out', {name: run}, coco, log=said.append)
    assert path == tmp_path / 'new/out/report.html'
    names = {'report.html', 'report.md', 'curves.png', 'detections.png'}
    assert {p.name for p in path.parent.iterdir()} == names
    page, text = Page(path), path.read_text(encoding='utf-8')
    assert set(page.links) == {'curves.png', 'detections.png'}
    assert 'script' not in page.tags and '//' not in text and str(tmp_path) not in text
    assert page.table('', 'AP')[name]['AP'] == '1.000'
    markdown = path.with_suffix('.md').read_text(encoding='utf-8')
    assert '| a &amp; &lt;b> | 1.000 | 1.000 | 1.000 | – | 1.000 | – |' in markdown
    assert '](curves.png)' in markdown and '](detections.png)' in markdown
    assert '| cat | 2 | 1.000 |' in markdown
    assert re.search(r'torch \d+\.\d+', markdown)
    assert said[0].splitlines()[1].split()[3:] == ['1.000', '1.000', '1.000', '–', '1.000', '–']


@pytest.mark.parametrize(
    ('log', 'facts'),
    [
        (
            'CUDA available: False\n    numpy_random_seed: 5\n'
            'Runtime environment:\n    seed: 3\n    GPU number: 2\n',
            ('3', '2', 'CPU'),
        ),
        (
            'CUDA available: True\n    numpy_random_seed: 5\n    GPU 0,1: NVIDIA H100 80GB HBM3\n'
            'Runtime environment:\n    seed: None\n    GPU number: 4\n',
            ('5', '4', 'NVIDIA H100 80GB HBM3'),
        ),
        ('nothing of use\n', ('–', '–', '–')),
    ],
)
def test_facts_of_the_training(tmp_path, log, facts):
    coco = make_coco(tmp_path / 'coco')
    run = make_run(tmp_path / 'run', perfect())
    (run / 'my_config.py').write_text('')
    (run / '20260102_000000/20260102_000000.log').write_text(f'INFO -\n    {log}')
    row = Page(write_report(tmp_path / 'out', {'a': run}, coco)).table('', 'config')['a']
    assert (row['seed'], row['processes'], row['device']) == facts
    assert (row['config'], row['epochs'], row['training time']) == ('my_config', '2', '30 s')


def test_aps_are_the_evaluator_s(tmp_path):
    coco = make_coco(tmp_path / 'coco')
    run = make_run(tmp_path / 'run', perfect())
    metrics = json.loads((run / 'metrics.json').read_text())
    metrics.update({'coco/bbox_mAP': 0.123, 'coco/cat_precision': 0.456})
    (run / 'metrics.json').write_text(json.dumps(metrics))
    page = Page(write_report(tmp_path / 'out', {'a': run}, coco))
    assert page.table('', 'AP')['a']['AP'] == '0.123'
    assert page.table('class') == {'cat': {'objects': '2', 'a': '0.456'}}
    del metrics['coco/cat_precision'], metrics['coco/dog_precision'], metrics['coco/kite_precision']
    (run / 'metrics.json').write_text(json.dumps(metrics))
    path = write_report(tmp_path / 'out', {'a': run}, coco)
    assert 'Left out: a test had no test_evaluator.classwise=True' in path.read_text()


# ---------------------------------------------------------------- errors


class Code:
    def __reduce__(self):
        return os.abort, ()


def spoil(tmp_path, how):
    """A good work directory and dataset with one thing wrong."""
    coco = make_coco(tmp_path / 'coco')
    run = make_run(tmp_path / 'run', perfect())
    file = run / 'predictions.pkl'
    scalars = run / '20260102_000000/vis_data/scalars.json'
    other = {
        'other images': [*perfect(), sample(99)],
        'too few images': perfect()[:1],
        'another size': [sample(11, size=(HEIGHT, WIDTH + 1)), sample(12)],
        'labels': [sample(11, [(3, (0, 0, 9, 9), 0.5)]), sample(12)],
        'no detector': [{'img_id': 11, 'pred_label': 3}],
    }
    if how in other:
        file.write_bytes(pickle.dumps(other[how]))
    elif how == 'no work dir':
        run = tmp_path / 'nowhere'
    elif how == 'no log':
        scalars.unlink()
    elif how == 'only a test':
        scalars.write_text(json.dumps(val_line(0, 0.5)))
    elif how == 'broken log':
        scalars.write_text('{"loss"\n{}\n')
    elif how == 'no predictions':
        file.unlink()
    elif how == 'no pickle':
        file.write_text('hello')
    elif how == 'code':
        file.write_bytes(pickle.dumps([Code()]))
    elif how == 'no metrics':
        (run / 'metrics.json').unlink()
    elif how == 'no JSON of metrics':
        (run / 'metrics.json').write_text('hello')
    elif how == 'other metrics':
        (run / 'metrics.json').write_text('{"mIoU": 1.0}')
    elif how == 'no annotations':
        coco = tmp_path
    elif how == 'no JSON':
        (coco / 'annotations/instances_val2017.json').write_text('hello')
    elif how == 'no picture':
        (coco / 'val2017/11.png').unlink()
    elif how == 'out is a file':
        (tmp_path / 'out').write_text('')
    return run, coco


@pytest.mark.parametrize(
    ('how', 'message'),
    [
        ('no work dir', 'no work directory .*nowhere'),
        ('no log', 'run has no training log'),
        ('only a test', 'run has no training log'),
        ('broken log', r'scalars\.json, line 1 is not JSON'),
        ('no predictions', r'no .*predictions\.pkl: test with --out'),
        ('no metrics', r'no .*metrics\.json: test with --metrics-out'),
        ('no JSON of metrics', r'metrics\.json cannot be read'),
        ('other metrics', r'metrics\.json has no coco/bbox_mAP: give the metrics'),
        ('no pickle', r'predictions\.pkl cannot be read'),
        ('code', r'predictions\.pkl cannot be read: it holds pickled code \(posix\.abort\)'),
        ('no detector', 'does not hold predictions of an mmdet detector'),
        ('other images', 'images that the dataset lacks: 99'),
        ('too few images', 'lacks images of the dataset: 12'),
        ('another size', 'images of another size than the dataset: 11'),
        ('labels', 'labels above the 3 classes'),
        ('no annotations', r'no annotations .*instances_val2017\.json'),
        ('no JSON', r'annotation file .*instances_val2017\.json is not JSON'),
        ('no picture', r'no picture .*11\.png'),
        ('out is a file', 'cannot write .*out'),
    ],
)
def test_errors_say_what_is_wrong(tmp_path, how, message):
    run, coco = spoil(tmp_path, how)
    with pytest.raises(UserError, match=message) as error:
        write_report(tmp_path / 'out', {'a': run}, coco)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('runs', 'options', 'message'),
    [
        ({}, {}, 'at least one run'),
        ({'a': '.'}, {'num_images': 0}, 'images must be 1 or more'),
        ({'a': '.'}, {'min_score': 1.5}, 'score must be within 0 and 1'),
    ],
)
def test_arguments_out_of_range(tmp_path, runs, options, message):
    with pytest.raises(UserError, match=message):
        write_report(tmp_path, runs, tmp_path, **options)


# ---------------------------------------------------------------- the command line


@pytest.fixture
def tool(monkeypatch):
    spec = importlib.util.spec_from_file_location('detection_report_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        module.main()

    return run


def test_tool(tmp_path, tool, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    coco, out = make_coco(tmp_path / 'coco'), tmp_path / 'out'
    make_run(tmp_path / 'x=y', perfect())
    make_run(tmp_path / 'b', [sample(11), sample(12)])
    tool(out, '--run', 'A=x=y', '--run', f'B={tmp_path}/b', '--coco', coco, '--images', 1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ['AP', 'AP50'],
        ['A', '1.000'],
        ['B', '0.000'],
    ]
    assert lines[-1] == f'report: {out}/report.html'
    assert Page(out / 'report.html').table('', 'AP').keys() == {'A', 'B'}


@pytest.mark.parametrize(
    ('runs', 'message'),
    [
        (['work'], 'error: --run work: give NAME=WORK_DIR'),
        (['=work'], 'error: --run =work: give NAME=WORK_DIR'),
        (['a=b', 'a=c'], 'error: --run a=c: a is given twice, give another name'),
    ],
)
def test_tool_says_what_is_wrong_in_a_line(tmp_path, tool, capsys, runs, message):
    with pytest.raises(SystemExit) as stop:
        tool(tmp_path, *(word for run in runs for word in ('--run', run)))
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip() == message


def test_imports_no_toolbox():
    for path in Path(pictures.__file__).parent.glob('*.py'):
        nodes = ast.parse(path.read_text(encoding='utf-8')).body  # at import; functions may
        names = [
            alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
        ]
        names += [node.module or '' for node in nodes if isinstance(node, ast.ImportFrom)]
        assert not {name.split('.')[0] for name in names} & {'mmdet', 'mmseg', 'mmpretrain'}
