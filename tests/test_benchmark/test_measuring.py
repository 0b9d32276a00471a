"""The benchmark: its arithmetic by hand, its order, what it times, and what it refuses."""

import csv
import importlib.util
import json
import operator
import re
import shlex
import statistics
import sys
import time

import pytest
import torch

from mmsb.benchmark import measuring as module
from mmsb.benchmark.measuring import benchmark
from mmsb.benchmark.report import draw, operator_table, paper_ratio, quartiles, table
from mmsb.benchmark.results import Comparison, Measured, Setting, from_json
from mmsb.benchmark.workloads import NETWORKS, VARIANTS, build_workload
from mmsb.utils.environment import device_name
from tests import readme
from tests.conftest import assert_one_line

MINI = {
    'mmdet': 'configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py',
    'mmseg': 'configs/mini/fpn_sb_r18_mini_ade20k.py',
    'mmpretrain': 'configs/mini/sb_resnet18_mini_in1k.py',
}


@pytest.fixture
def tool(root, monkeypatch):
    """Runs the tool in this process."""
    path = root / 'tools' / 'analysis_tools' / 'benchmark.py'
    spec = importlib.util.spec_from_file_location('benchmark_tool', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*args):
        monkeypatch.setattr('sys.argv', ['benchmark.py', *map(str, args)])
        tool.main()

    return run


def comparison(**setting):
    """Of two networks in three rounds; ratios 0.5, 0.8, 2/3."""
    rounds = [[dict(forward=a / 2, backward=a / 4, optimizer=a / 4) for a in seconds]
              for seconds in ((1.0, 2.0, 1.0), (2.0, 2.5, 1.5))]  # fmt: skip
    networks = [
        Measured('ResNet-50', 2_000_000, rounds[0], memory=100 * 2**20),
        Measured('SB', 3_000_000, rounds[1], memory=103 * 2**20),
    ]
    return Comparison(Setting('training', batch=4, **setting), networks)


def test_table_by_hand():
    head, rows = table(comparison())
    assert head == ['network', 'M params', 'ms', 'forward', 'backward', 'optimizer', 'images/s',
                    'ratio', 'quartiles', 'MiB', 'memory']  # fmt: skip
    assert rows[0] == ['ResNet-50', '2.00', '1000.0', '500.0', '250.0', '250.0', '4.00', '1.000',
                       '–', '100', '1.000']  # fmt: skip
    assert rows[1] == ['SB', '3.00', '2000.0', '1000.0', '500.0', '500.0', '2.00', '0.667',
                       '0.583-0.733', '103', '1.030']  # fmt: skip
    assert quartiles([1.0]) == '–'


def test_table_with_the_toolboxs_resnet():
    result = comparison()
    rounds = [{k: 1.25 * v for k, v in parts.items()} for parts in result.networks[0].rounds]
    result.networks.append(Measured('stock', 2_000_000, rounds, 100 * 2**20))
    head, rows = table(result)
    assert head[6:10] == ['images/s', 'ratio', 'quartiles', 'to stock']
    assert [row[9] for row in rows] == ['1.250', '0.833', '1.000']  # SB: 2/3 of 1.25
    assert rows[2][7] == '0.800'


def test_the_papers_ratios():
    # Table 8: SB 1836, SE 1787, ResNet-50 2042 images a second; Table 9: NL 1353, BAT 1232
    for name, ratio in dict(SB=0.899, SE=0.875, NL=0.663, BAT=0.603).items():
        assert round(paper_ratio(name), 3) == ratio
    assert paper_ratio('ResNet-50') == 1
    assert round(paper_ratio('Reduced NL'), 3) == 0.691  # Table 10: 630 less than ResNet-50
    assert None not in map(paper_ratio, NETWORKS) and paper_ratio('SB size=4') is None


@pytest.fixture
def turns(monkeypatch):
    """Nothing is built or timed, but whose turn it was is written here."""
    turns = []

    class Side:
        def __init__(self, name, setting, device):
            self.measured, self.parts = Measured(name, 0), setting.parts

        def warm_up(self, min_seconds):
            turns.append(f'warm {self.measured.name}')

        def turn(self):
            turns.append(self.measured.name)
            self.measured.rounds.append(dict.fromkeys(self.parts, 1.0))

    monkeypatch.setattr(module, '_Side', Side)
    return turns


def test_rounds_are_interleaved(turns):
    list(benchmark(['a', 'b', 'c'], [Setting()], rounds=3))
    assert turns == ['warm a', 'warm b', 'warm c', *'abc', *'bca', *'cab']


def test_tool_writes_what_it_measured(tool, tmp_path, capsys):
    flags = '--batch 2 --shape 32x32 32x48 --layout nhwc --rounds 3 --min-seconds 0 --fuse'
    tool('ResNet-50', 'SB', *flags.split(), '--device', 'cpu', '--out', tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == 'inference, batch 2, 32x32, fp32, nhwc, fuse'
    assert lines[4].split()[:2] == ['ResNet-50', '25.56']  # the paper's, Table 8
    assert lines[5].split()[:2] == ['SB', '25.99']
    values = json.loads((tmp_path / 'benchmark.json').read_text())
    assert values['device'] == device_name('cpu')
    assert values['threads'] == torch.get_num_threads()
    with (tmp_path / 'benchmark.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    first = from_json(values['comparisons'][0])
    assert first.setting.shape == (32, 32)
    for row, seconds in zip(rows[3:6], first.networks[1].seconds, strict=True):
        assert row['network'] == 'SB' and float(row['seconds']) == pytest.approx(seconds, abs=1e-6)
    baseline = [float(row['seconds']) for row in rows[:3]]
    for row, seconds in zip(rows[3:6], baseline, strict=True):
        assert float(row['ratio']) == pytest.approx(seconds / float(row['seconds']), rel=1e-2)
    assert (tmp_path / 'benchmark.png').stat().st_size > 5000


def test_pictures():
    networks = [Measured(name, 1, [dict(inference=1.0)]) for name in ('ResNet-50', 'SB', 'NL')]
    figure = draw([Comparison(Setting(), networks)], 'a device')
    accuracy, params = figure.axes
    assert {text.get_text() for text in params.texts} == {'ResNet-50', 'SB', 'NL'}
    lines = [line.get_xydata() for line in accuracy.lines if line.get_marker() == 'o']
    points = [tuple(line[0]) for line in lines if len(line)]
    assert (1836 / 2042, 76.86) in points and (1.0, 76.86) in points
    assert draw([Comparison(Setting(), networks[:1])], 'a device') is None
    figure = draw([comparison(layout=layout) for layout in ('nchw', 'nhwc')], 'a device')
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ['nchw', 'nhwc']


@pytest.mark.parametrize('toolbox', MINI)
def test_whole_models(root, toolbox):
    pytest.importorskip(toolbox)
    settings = [Setting(mode, 2, (64, 64), min_dtype) for mode, min_dtype in
                (('inference', 'fp32'), ('training', 'bf16'))]  # fmt: skip
    results = list(benchmark([str(root / MINI[toolbox])], settings, rounds=1, min_seconds=0))
    assert [list(result.networks[0].rounds[0]) for result in results] == [
        ['inference'],
        ['forward', 'backward', 'optimizer'],
    ]


def test_data_of_the_config(root, mini_coco, monkeypatch):
    pytest.importorskip('mmdet')
    monkeypatch.setenv('MMSB_COCO_ROOT', str(mini_coco))
    path = str(root / MINI['mmdet'])
    result = next(benchmark([path], [Setting('training', 2, data=True)], rounds=1, min_seconds=0))
    assert list(result.networks[0].rounds[0]) == ['data', 'forward', 'backward', 'optimizer']
    assert table(result)[0][3:7] == ['data', 'forward', 'backward', 'optimizer']


@pytest.mark.parametrize('name', ['SB size=14', 'SB channels=6', 'SB stages=1234'])
def test_variants(name):
    blocks = [m for m in build_workload(name).model.modules() if hasattr(m, 'spatial_bias')]
    assert len(blocks) == (16 if name.endswith('1234') else 13)
    key, _, value = name.removeprefix('SB ').partition('=')
    if key != 'stages':
        key = dict(size='size', channels='num_channels')[key]
        assert {getattr(block.spatial_bias, key) for block in blocks} == {int(value)}
    assert len(VARIANTS) == 15


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([], 'no network to time'),
        (['SBB'], "there is no network 'SBB'"),
        (['no/such.py'], 'no/such.py'),
        (['SB', '--rounds', 0], '--rounds is 0'),
        (['SB', '--batch', 0], 'must be positive'),
        (['SB', '--fuse', '--mode', 'training'], '--fuse is for inference'),
        (['SB', '--mode', 'training', '--batch', 1], 'give --batch 2'),
        (['SB', '--data'], 'give --mode training'),
        (['SB', '--data', '--mode', 'training'], 'SB has no data'),
        (['SB', '--no-kernels', '--device', 'cpu'], 'on a CPU these kernels never run'),
        (['SB', '--no-kernels', '--fuse'], 'with --fuse these kernels never run'),
        (['SB', '--no-kernels', '--compile'], 'with --compile these kernels never run'),
        (['SB', '--graph', '--device', 'cpu'], 'give --device cuda'),
        (['no/such.onnx', '--device', 'cpu'], 'no/such.onnx does not exist'),
        (['sb.onnx', '--mode', 'training'], 'ONNX files run on the CPU, at inference'),
    ],
)
def test_bad_input(tool, capsys, args, message):
    with pytest.raises(SystemExit) as stopped:
        tool(*args)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith('error: ') and message in error and '\n' not in error


def test_operator_table_by_hand():
    times = {
        'plain': {'conv': 70.0, 'relu': 10.0, 'view': 0.01},
        'SB': {'conv': 71.0, 'relu': 9.5, 'cat': 4.0, 'view': 0.02},
    }
    head, rows = operator_table(times)
    assert head == ['operator', 'plain', 'SB']
    assert rows == [['cat', '0.00', '4.00'], ['conv', '70.00', '71.00'], ['relu', '10.00', '9.50'],
                    ['others', '0.01', '0.02'], ['all', '80.01', '84.52']]  # fmt: skip
    head, rows = operator_table(times, dict(SB=141, plain=89))
    assert rows[-1] == ['launches', '89', '141']


def test_operators(tool, tmp_path, capsys):
    settings = ['--shape', 32, '--batch', 1, '--fuse', '--rounds', 1]
    tool('ResNet-50', 'SB', '--operators', *settings, '--out', tmp_path, '--name', 'op')
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[3:]}
    assert rows.pop('operator') == ['ResNet-50', 'SB']
    rows = {key: tuple(map(float, row)) for key, row in rows.items()}
    (joins,) = {'mmsb::concatenate', 'aten::cat'} & rows.keys()  # the kernel's where it compiles
    assert rows[joins][0] == 0 < rows[joins][1]
    assert rows['aten::mkldnn_convolution'][0] > 0
    assert sum(row[0] for row in rows.values()) == pytest.approx(2 * rows['all'][0], abs=0.1)
    with (tmp_path / 'op.csv').open() as file:
        found = [row for row in csv.DictReader(file) if row['network'] == 'SB']
    assert sum(float(row['ms']) for row in found) == pytest.approx(rows['all'][1], abs=0.01)
    assert {row['setting'] for row in found} == {'inference, batch 1, 32x32, fp32, nchw, fuse'}


def test_onnx_files(tool, tmp_path, capsys):
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    image = onnx.helper.make_tensor_value_info('image', 1, ['n', 3, 'h', 'w'])
    out = onnx.helper.make_tensor_value_info('out', 1, ['n', 3, 1, 1])
    node = onnx.helper.make_node('GlobalAveragePool', ['image'], ['out'])
    graph = onnx.helper.make_graph([node], 'mean', [image], [out])
    opset = [onnx.helper.make_opsetid('', 17)]
    path = tmp_path / 'mean.onnx'
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    work = build_workload(str(path))
    images, targets = work.inputs(2, (5, 7), 'cpu')
    (mean,) = work.predict(images, targets)
    torch.testing.assert_close(mean, images.mean((2, 3), keepdim=True))
    settings = ['--shape', '32', '--batch', 1, '--rounds', 1, '--min-seconds', 0]
    tool('SB', path, *settings, '--layout', 'nhwc', '--fuse', '--device', 'cpu')
    assert capsys.readouterr().out.splitlines()[-1].startswith('mean.onnx')


def test_one_thread_is_timed_by_its_processor_time(monkeypatch):
    """Waiting for other processes is not counted."""
    clocks = dict(process_time=iter((1.0, 2.0)), perf_counter=iter((10.0, 30.0)))
    side = object.__new__(module._Side)
    side.device, side.graph, side._predict = 'cpu', None, lambda: None
    for clock, values in clocks.items():
        monkeypatch.setattr(time, clock, values.__next__)
    side.setting = Setting()
    for threads, seconds in ((1, 1.0), (2, 20.0)):
        monkeypatch.setattr(torch, 'get_num_threads', lambda threads=threads: threads)
        assert side.step() == dict(inference=seconds)


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    setting = Setting(compile=True)
    assert_one_line(lambda: next(benchmark(['SB'], [setting])), 'needs a C++ compiler')


def test_readmes_commands(tool, turns, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tool(*shlex.split(readme.command('benchmark paper'))[2:])
    assert turns[: len(NETWORKS)] == [f'warm {name}' for name in NETWORKS]
    tool(*shlex.split(readme.command('benchmark'))[2:])
    text = capsys.readouterr().out
    assert re.search(r'^SB-GC .* 0.790$', text, re.M)  # Table 9: 1613 of 2042
    tables = [line for line in text.splitlines() if line.startswith('inf')]
    assert tables == ['inference, batch 8, 224x224, fp32, nchw'] + [
        f'inference, batch {batch}, 224x224, fp32, {layout}, fuse'
        for batch in (1, 8)
        for layout in ('nchw', 'nhwc')
    ]
    assert len(list((tmp_path / 'work_dirs' / 'benchmark').iterdir())) == 3


@pytest.mark.parametrize(
    ('page', 'results', 'count'), [('performance', 'cpu', 11), ('performance_gpu', 'h100', 5)]
)
def test_docs_show_what_was_measured(root, page, results, count):
    text = (root / 'docs' / f'{page}.md').read_text()
    files = sorted((root / 'benchmarks' / 'results' / results).glob('*.json'))
    files = [path for path in files if path.stem != 'variants']
    assert len(files) >= count
    for path in files:
        values = json.loads(path.read_text())
        assert values['device'].split(',')[0] in text
        for comparison in map(from_json, values['comparisons']):
            head, rows = table(comparison)
            for row in (dict(zip(head, row, strict=True)) for row in rows[1:]):
                assert f'{row["ratio"]} ({row["quartiles"]})' in text, (path, row)


def test_docs_show_what_runtimes_take(root):
    text = (root / 'docs' / 'deploy.md').read_text()
    values = json.loads((root / 'benchmarks/results/runtimes/batch_8.json').read_text())
    rounds = {
        network['name']: [row['inference'] for row in network['rounds']]
        for network in values['comparisons'][0]['networks']
    }
    for runtime, label in (('onnxruntime', 'ONNX Runtime 1.31'), ('openvino', 'OpenVINO 2026.4.1')):
        cells = []
        for kind in ('dynamic', 'fixed'):
            plain, sb = (rounds[f'{name}resnet50_{kind}.onnx {runtime}'] for name in ('', 'sb_'))
            low, ratio, high = statistics.quantiles(map(operator.truediv, plain, sb), n=4)
            cells.append(f'{ratio:.3f} ({low:.3f}-{high:.3f})')
        assert f'| {label} | {" | ".join(cells)} |' in text


def test_docs_show_what_was_measured_as_graphs_and_by_wall_clock(root):
    text = (root / 'docs' / 'performance_gpu.md').read_text()
    folder = root / 'benchmarks' / 'results' / 'h200'
    for row in json.loads((folder / 'graphs.json').read_text())['rows']:
        milliseconds = row['ms']
        for name, value in milliseconds.items():
            assert f'{value:.2f}' in text, (row, name)
        assert f'{milliseconds["plain"] / milliseconds["sb"]:.3f}' in text, row
    for line in (folder / 'steps.jsonl').read_text().splitlines():
        values = json.loads(line)
        plain, sb = values['rounds']['plain'], values['rounds']['sb']
        ratios = [a / b for a, b in zip(plain, sb, strict=True)]
        assert f'{statistics.median(ratios):.3f}' in text, values
        for rounds in (plain, sb):
            assert f'{statistics.median(rounds):.3f}' in text, values


def test_graphs_and_kernels_where_they_make_sense():
    training = [Setting('training', graph=True, data=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, 'is_available', lambda: True)
        assert_one_line(lambda: list(benchmark(['SB'], training, 'cuda')), 'leave out --data')
    assert Setting('training', graph=True).parts == ('graph',)
    setting = Setting(batch=1, shape=(32, 32), kernels=False)
    assert str(setting).endswith(', no kernels')
    side = module._Side('SB', setting, 'cpu')
    assert side.has_kernels
    assert not any(getattr(part, 'kernels', False) for part in side.work.model.modules())
    assert module._Side('SB', Setting(), 'cpu').work.model.backbone.kernels
    # SKNet's own block, mmdet's ResNet: nothing to switch off
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module._Side, '__init__', lambda self, *_: setattr(self, 'has_kernels', False)
        )
        assert_one_line(
            lambda: module._sides(['a', 'b'], setting, 'cpu'), 'none of a, b has kernels'
        )


def test_headline_has_three_lines_and_three_types(tool, turns, capsys):
    tool('--preset', 'headline', '--device', 'cpu', '--mode', 'training', '--rounds', 1)
    assert turns[:6] == ['warm ResNet-50', 'warm SB', 'warm stock', 'ResNet-50', 'SB', 'stock']
    shown = re.findall(r'^training, batch 8, 224x224, (\w+), (\w+)$', capsys.readouterr().out, re.M)
    assert shown == [(d, layout) for d in ('fp32', 'bf16', 'fp16') for layout in ('nchw', 'nhwc')]


def test_stock(monkeypatch):
    pytest.importorskip('mmdet')
    work = build_workload('stock')
    assert not work.model.backbone.norm_eval
    ours = build_workload('ResNet-50').model
    assert [p.shape for p in work.model.parameters()] == [p.shape for p in ours.parameters()]
    monkeypatch.setitem(sys.modules, 'mmdet.models.backbones', None)
    assert_one_line(lambda: build_workload('stock'), "'stock' is mmdet's ResNet-50, but mmdet")


def test_detectors_backbones():
    learning, frozen, without = (
        build_workload(f'detection SB{kind}').model for kind in ('', ' frozen', ' stages=23')
    )
    for model, learns in ((learning, True), (frozen, False)):
        layer = model.backbone.layer1[0].spatial_bias
        assert all(p.requires_grad is learns for p in layer.parameters())
        assert not any(p.requires_grad for p in model.backbone.layer1[0].conv1.parameters())
    assert not hasattr(without.backbone.layer1[0], 'spatial_bias')
    levels = learning(torch.zeros(1, 3, 64, 96))
    assert [level.shape for level in levels] == [(1, 256, 64 // n, 96 // n) for n in (4, 8, 16, 32)]


def test_float16_is_trained_with_scaled_losses():
    setting = Setting('training', 2, (32, 32), 'fp16')
    side = module._Side('ResNet-50', setting, 'cpu')
    assert side._loss() > 1000
    assert module._Side('ResNet-50', Setting('training', 2, (32, 32)), 'cpu')._loss() < 100


def test_a_fused_network_is_cast_rather_than_autocast():
    side = module._Side(
        'ResNet-50', Setting(batch=1, shape=(32, 32), dtype='bf16', fuse=True), 'cpu'
    )
    assert side.work.model.fc.weight.dtype == side.images.dtype == torch.bfloat16
    assert side.step().keys() == {'inference'}
