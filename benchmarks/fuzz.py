"""Feed mutated data, checkpoints and overrides to training and testing; count what goes wrong.

Each case changes one valid input at random and runs all that training and testing do with it, but
not the network: the checks before anything is built, the data set, its whole pipeline, the labels'
hook, the metric. A case may end in one line of error, in a line that says what was filled in or
left out, or in nothing said and nothing lost. Faults are tracebacks, hangs, and silent losses. The
latter are found by comparing what the network would be given with the mutated file.

    python benchmarks/fuzz.py --number 1000 --seed 0 [--only coco maps ...] [--out NAME.json]
"""

from __future__ import annotations

import argparse
import collections
import copy
import io
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from urllib.error import URLError

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmsb.datasets.miniatures.ade20k import make_mini_ade20k  # noqa: E402
from mmsb.datasets.miniatures.cifar100 import make_mini_cifar100  # noqa: E402
from mmsb.datasets.miniatures.coco import make_mini_coco  # noqa: E402
from mmsb.datasets.miniatures.imagenet import make_mini_imagenet  # noqa: E402
from mmsb.engine.checking import check_built  # noqa: E402
from mmsb.engine.config import read_config, use_weights  # noqa: E402
from mmsb.engine.explaining import (  # noqa: E402
    explained_data_errors,
    explained_errors,
    explained_running,
)
from mmsb.engine.overrides import apply_overrides  # noqa: E402
from mmsb.engine.runner import prepare_data  # noqa: E402
from mmsb.inference.loading import load_model  # noqa: E402
from mmsb.utils.errors import UserError  # noqa: E402

TIME_LIMIT = 20  # seconds per case, after which it hangs
VALUES = (
    *(None, '', 'x', '7', -1, 0, 1, 0.5, 1e308, -1e308, 10**30, float('nan'), float('inf'), True),
    *([], {}, [[]], [None], ['a'], {'a': 1}, [0] * 5, '\ud800', '../../x', '\0'),
)


class SilentLoss(Exception):
    """The network would not be given what is in the file, and no line says so."""


class Hang(Exception):
    """A case took too long."""


# --------------------------------------------------------------- mutations


def nodes(value, path=()):
    """All places in nested lists and dicts, as (container, key)."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, dict | list):
            yield from nodes(inner, (*path, key))


def mutate_json(data, rng) -> str:
    """Change a value of nested lists and dicts, in place; return what was done."""
    container, key = rng.choice(list(nodes(data)))
    old = container[key]
    kind = rng.choice(['replace', 'replace', 'remove', 'text', 'double', 'negate', 'all'])
    if kind == 'remove':
        del container[key]
    elif kind == 'text':
        container[key] = str(old)
    elif kind == 'double' and isinstance(container, list):
        container.append(copy.deepcopy(old))
    elif kind == 'negate' and isinstance(old, int | float):
        container[key] = -old
    elif kind == 'all' and isinstance(container, dict):  # the same key of all entries
        value = rng.choice([*VALUES, 'remove'])
        for other, name in list(nodes(data)):
            if name == key and isinstance(other, dict) and other.keys() == container.keys():
                if value == 'remove':
                    other.pop(name)
                else:
                    other[name] = copy.deepcopy(value)
    else:
        container[key] = copy.deepcopy(rng.choice(VALUES))
    return f'{kind} {key!r} ({str(old)[:40]})'


def mutate_bytes(content: bytes, rng) -> bytes:
    """Cut, flip, replace, insert or empty a file's bytes."""
    kind = rng.randrange(6)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    if kind == 1:
        return b''
    if kind == 2:
        return rng.choice(
            [b'not a file', b'<html>', b'\x80\x04.', b'{}', b'version https://git-lfs']
        )
    changed = bytearray(content)
    for _ in range(rng.choice([1, 10, 200])):
        at = rng.randrange(len(changed))
        if kind == 3:
            changed[at] = rng.randrange(256)
        elif kind == 4:
            changed[at:at] = bytes([rng.randrange(256)])
        elif len(changed) > 1:
            del changed[at]
    return bytes(changed)


# ----------------------------------------------------------------- targets


def silence() -> None:
    logging.disable(logging.CRITICAL)
    os.environ.setdefault('LOCAL_RANK', '0')


def build(cfg, names, model):
    """Check and build the data sets of a config as the engine does.

    Returns:
        The lines that were said, and the data sets.
    """
    lines, built = prepare_data(cfg, names), []
    logger = SimpleNamespace(
        warning=lines.append, log=lambda level, line: lines.append(line), info=lambda *a: None
    )
    for name in names:
        with (
            explained_data_errors(cfg, name),
            DefaultScope.overwrite_default_scope(cfg.default_scope),
        ):
            dataset = DATASETS.build(cfg[name].dataset)
        runner = SimpleNamespace(model=model, logger=logger, hooks=[], rank=0)
        runner.register_hook = runner.hooks.append
        setattr(runner, name, SimpleNamespace(dataset=dataset))
        check_built(runner, name)
        built.append((dataset, runner))
    return lines, built


class Target:
    """One kind of input."""

    config: str
    variable: str
    options: dict = {}

    def __init__(self, folder: Path):
        self.folder = folder
        self.data = folder / 'data'
        self.make()
        os.environ[self.variable] = str(self.data)
        self.cfg = read_config(ROOT / self.config, self.options)
        self.cfg.work_dir = str(folder / 'work')
        self.cfg.launcher = 'none'
        with DefaultScope.overwrite_default_scope(self.cfg.default_scope):
            self.model = MODELS.build(self.cfg.model)

    def make(self) -> None:
        """Make the data; an empty folder where none is read."""
        self.data.mkdir()

    def case(self, rng) -> tuple[str, list[str]]:
        """Run one case; return what was changed, and the lines that were said."""
        raise NotImplementedError


class Coco(Target):
    """Annotation files of training and validation."""

    config = 'configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py'
    variable = 'MMSB_COCO_ROOT'

    def make(self):
        make_mini_coco(self.data, num_train=4, num_val=2, size=(96, 128))

    def case(self, rng):
        split = rng.choice(['train', 'val'])
        path = self.data / f'annotations/instances_{split}2017.json'
        whole = path.read_bytes()
        data = json.loads(whole)
        kind = rng.choice(['json'] * 6 + ['bytes', 'meaning', 'meaning'])
        self.done = kind
        if kind == 'bytes':
            content = mutate_bytes(whole, rng)
        else:
            if kind == 'json':
                self.done = '; '.join(mutate_json(data, rng) for _ in range(rng.choice([1, 1, 3])))
            else:
                self.done = self.confuse(data, rng)
            encoding = rng.choice(['utf-8'] * 8 + ['utf-8-sig', 'utf-16'])
            content = json.dumps(data).encode(encoding)
        path.write_bytes(content)
        try:
            return self.run(split, content)
        finally:
            path.write_bytes(whole)

    @staticmethod
    def confuse(data, rng) -> str:
        """Write right values in a wrong way."""
        rows, images = data['annotations'], data['images']
        some = rng.sample(rows, rng.randint(1, len(rows)))
        kind = rng.randrange(9)
        if kind == 0:
            for row in images:
                row['width'], row['height'] = row['height'], row['width']
        elif kind == 1:
            for row in some:
                x, y, w, h = row['bbox']
                row['bbox'] = [x, y, x + w, y + h]
        elif kind == 2:
            rng.shuffle(data['categories'])
        elif kind == 3:
            for row in data['categories']:
                row['name'] = rng.choice([str.upper, str.title, lambda s: s + ' '])(row['name'])
        elif kind == 4:
            for row in some:
                row['bbox'] = [v / 100 for v in row['bbox']]
        elif kind == 5:
            for row in images:
                row['file_name'] = (
                    rng.choice(['C:\\x\\', 'train2017\\', '/tmp/']) + row['file_name']
                )
        elif kind == 6:
            for row in some:
                row['bbox'] = [v + 500 for v in row['bbox']]
        elif kind == 7:
            for row in some:
                row['category_id'] = row['category_id'] + 1000
        else:
            for row in some:
                row['image_id'] = rng.choice([0, -1, str(row['image_id'])])
        return f'confuse {kind}'

    def run(self, split, content):
        cfg = copy.deepcopy(self.cfg)
        name = f'{split}_dataloader'
        lines, [(dataset, _)] = build(cfg, (name,), self.model)
        instances = []
        for i in range(len(dataset)):
            sample = dataset[i]
            if (
                split == 'train'
                and not torch.isfinite(sample['data_samples'].gt_instances.bboxes.tensor).all()
            ):
                raise SilentLoss('boxes that are not finite')
        if split == 'val':
            self.evaluate(cfg, dataset)
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        instances = [one for info in infos for one in info['instances']]
        raw = json.loads(content)
        if lines:
            return self.done, lines
        rows = [row for row in raw.get('annotations', ()) if not row.get('ignore')]
        if len(infos) < len(raw['images']):
            raise SilentLoss(f'{len(raw["images"]) - len(infos)} of {len(raw["images"])} images')
        if len(instances) < len(rows):
            raise SilentLoss(f'{len(rows) - len(instances)} of {len(rows)} boxes')
        names = {row['id']: row['name'] for row in raw['categories']}
        wanted = collections.Counter(names[row['category_id']] for row in rows)
        classes = dataset.metainfo['classes']
        if wanted != collections.Counter(classes[one['bbox_label']] for one in instances):
            raise SilentLoss('labels of other classes')
        return self.done, lines

    def evaluate(self, cfg, dataset) -> None:
        """Compute the metric of perfect predictions."""
        with (
            explained_errors(cfg),
            explained_running(cfg),
            DefaultScope.overwrite_default_scope(cfg.default_scope),
        ):
            evaluator = Evaluator(copy.deepcopy(cfg.val_evaluator))
            evaluator.dataset_meta = dataset.metainfo
            for i in range(len(dataset)):
                info = dataset.get_data_info(i)
                boxes = [one['bbox'] for one in info['instances']] or [[0, 0, 1, 1]]
                labels = [one['bbox_label'] for one in info['instances']] or [0]
                found = dict(
                    bboxes=torch.tensor(boxes, dtype=torch.float32),
                    labels=torch.tensor(labels),
                    scores=torch.ones(len(boxes)),
                )
                sample = dict(img_id=info['img_id'], ori_shape=(96, 128), pred_instances=found)
                evaluator.process([sample])
            evaluator.evaluate(len(dataset))


class Maps(Target):
    """Segmentation maps of training and validation."""

    config = 'configs/mini/fpn_sb_r18_mini_ade20k.py'
    variable = 'MMSB_ADE20K_ROOT'

    def make(self):
        make_mini_ade20k(self.data, 2, 1, (96, 128))

    def __init__(self, folder):
        super().__init__(folder)
        names = ('train_dataloader', 'val_dataloader')
        self.built = build(copy.deepcopy(self.cfg), names, self.model)[1]

    def case(self, rng):
        number = rng.randrange(2)
        dataset, runner = self.built[number]
        path = Path(dataset.get_data_info(0)['seg_map_path'])
        whole = path.read_bytes()
        labels = np.array(Image.open(path))
        kind = rng.randrange(9)
        done, change = f'map {kind}', None
        if kind == 0:
            change = mutate_bytes(whole, rng)
        elif kind == 1:
            labels = np.where(labels > rng.randrange(100), rng.randrange(256), labels)
        elif kind == 2:
            labels = labels.astype(np.uint16) + rng.choice([0, 1, 100, 256, 65000])
        elif kind == 3:
            labels = np.stack([labels] * rng.choice([2, 3, 4]), -1)
        elif kind == 4:
            labels = labels[:: rng.choice([1, 2]), :: rng.choice([1, 2])]
        elif kind == 5:
            labels = (labels > rng.choice([0, 300])) * np.uint8(255)
        elif kind == 6:
            labels = labels.astype(np.float32) + rng.choice([0, 0.5, float('nan'), 300])
        elif kind == 7:
            labels = labels.astype(np.int32) * rng.choice([1, -1, 1000, 2**20])
        else:
            labels = labels > 7
        if change is None:
            buffer = io.BytesIO()
            ending = 'TIFF' if labels.dtype.kind in 'if' and labels.dtype.itemsize > 2 else 'PNG'
            Image.fromarray(labels.astype(labels.dtype)).save(buffer, ending)
            change = buffer.getvalue()
        path.write_bytes(change)
        try:
            sample = dataset[0]
            batch = pseudo_collate([sample])
            hook = copy.deepcopy(runner.hooks[0])
            lines = []
            runner.logger.log = lambda level, line: lines.append(line)
            if number:
                hook.before_val_iter(runner, 0, batch)
                hook.after_val_epoch(runner)
            else:
                hook.before_train_iter(runner, 0, batch)
            self.compare(sample, path, number)
        finally:
            path.write_bytes(whole)
        return done, lines

    @staticmethod
    def compare(sample, path, validation) -> None:
        """The labels that the loss sees are those of the file, less one."""
        raw = np.array(Image.open(path)).astype(np.float64)
        wanted = np.where((raw == 0) | (raw == 255), 255, raw - 1)
        found = sample['data_samples'].gt_sem_seg.data[0].numpy()
        if validation and not np.array_equal(wanted, found):
            raise SilentLoss('labels differ from the file')
        if not validation and not set(np.unique(found)) <= {*np.unique(wanted), 255}:
            raise SilentLoss('labels that the file does not have')
        if raw.max() > 255 or (wanted[wanted != 255] >= 150).any():
            raise SilentLoss('labels beyond the classes')


class ImageNet(Target):
    """Images in folders of classes, and the folders."""

    config = 'configs/mini/sb_resnet18_mini_in1k.py'
    variable = 'MMSB_IMAGENET_ROOT'

    def make(self):
        make_mini_imagenet(self.data, 1, 1, (64, 64))

    def __init__(self, folder):
        super().__init__(folder)
        self.names = ('train_dataloader', 'val_dataloader')
        self.built = build(copy.deepcopy(self.cfg), self.names, self.model)[1]

    def case(self, rng):
        if rng.random() < 0.3:
            return self.folders(rng)
        dataset, _ = self.built[rng.randrange(2)]
        path = Path(dataset.get_data_info(3)['img_path'])
        whole = path.read_bytes()
        change = mutate_bytes(whole, rng)
        remove = rng.random() < 0.1
        path.write_bytes(change)
        try:
            if remove:
                path.unlink()
            sample = dataset[3]
            if remove or not change:
                raise SilentLoss('an image of nothing')
            if not torch.isfinite(sample['inputs'].float()).all():
                raise SilentLoss('pixels that are not finite')
        finally:
            path.write_bytes(whole)
        return f'image of {len(change)} bytes', []

    def folders(self, rng):
        split = rng.choice(['train', 'val'])
        folder = rng.choice(sorted((self.data / split).iterdir()))
        kind = rng.randrange(6)
        target, undo = folder, lambda: None
        if kind == 0:
            target = folder.with_name(
                rng.choice(['a', 'zzz', folder.name.upper(), folder.name + '_'])
            )
            folder.rename(target)
            undo = lambda: target.rename(folder)  # noqa: E731
        elif kind == 1:
            target = folder.with_name(rng.choice(['.ipynb_checkpoints', '@eaDir', '__MACOSX', 'a']))
            shutil.copytree(folder, target)
            undo = lambda: shutil.rmtree(target)  # noqa: E731
        elif kind == 2:
            target = self.folder / 'away'
            folder.rename(target)
            undo = lambda: target.rename(folder)  # noqa: E731
        elif kind == 3:
            file = next(folder.iterdir())
            other = file.with_suffix(rng.choice(['.webp', '.txt', '']))
            file.rename(other)
            undo = lambda: other.rename(file)  # noqa: E731
        elif kind == 4:
            file = next(folder.iterdir())
            content = file.read_bytes()
            file.unlink()
            undo = lambda: file.write_bytes(content)  # noqa: E731
        else:
            other = folder.parent / 'file.txt'
            other.touch()
            undo = other.unlink
        done = f'folders {kind} {split} {target.name}'
        try:
            lines, built = build(copy.deepcopy(self.cfg), self.names, self.model)
            labels = [self.labels(dataset) for dataset, _ in built]
            if any(one != labels[0][name] for name, one in labels[1].items() if name in labels[0]):
                raise SilentLoss('labels of training and validation differ')
            if not lines and sum(len(dataset) for dataset, _ in built) < 72:
                raise SilentLoss('images')
        finally:
            undo()
        return done, lines

    @staticmethod
    def labels(dataset) -> dict[str, int]:
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        return {Path(info['img_path']).parent.name: info['gt_label'] for info in infos}


class Cifar(Target):
    """The pickles of CIFAR-100."""

    config = 'configs/cifar100/sb_resnet38-s1_300e_cifar100.py'
    variable = 'MMSB_CIFAR100_ROOT'

    def make(self):
        make_mini_cifar100(self.data, 1, 1)

    def case(self, rng):
        files = [path for path in sorted(self.data.rglob('*')) if path.is_file()]
        path = rng.choice(files)
        whole = path.read_bytes()
        change = mutate_bytes(whole, rng)
        if change == whole:
            return 'nothing', []
        path.write_bytes(change)
        failing = mock.patch(
            'mmpretrain.datasets.cifar.download_and_extract_archive',
            side_effect=URLError('no network'),
        )
        try:
            with failing:
                names = ('train_dataloader', 'val_dataloader')
                _, built = build(copy.deepcopy(self.cfg), names, self.model)
            for dataset, _ in built:
                dataset[0]
            if path.suffix not in ('.json', '.md', '.txt'):
                raise SilentLoss(f'{path.name} is not the one that was written')
        finally:
            path.write_bytes(whole)
        return f'{path.name} of {len(change)} bytes', []


class Checkpoints(Target):
    """Checkpoints that are tested with."""

    config = 'configs/mini/sb_resnet18_mini_in1k.py'
    variable = 'MMSB_IMAGENET_ROOT'

    def __init__(self, folder):
        super().__init__(folder)
        use_weights(self.cfg, '')
        self.state = self.model.state_dict()
        self.path = folder / 'file.pth'

    def case(self, rng):
        state = dict(self.state)
        content = dict(state_dict=state, meta=dict(dataset_meta=dict(classes=['a'])))
        kind = rng.randrange(8)
        key = rng.choice(list(state))
        if kind == 0:
            state.pop(key)
        elif kind == 1:
            state[key] = rng.choice(
                [state[key][..., None], state[key].flatten().repeat(2), 'text', None, 7]
            )
        elif kind == 2:
            state[key + rng.choice(['x', '.y', ''])] = state.pop(key)
        elif kind == 3:
            content = rng.choice([[1], 'text', None, 7, {}, dict(state_dict=[]), dict(model=state)])
        elif kind == 4:
            content['meta'] = rng.choice([None, [], 'x', dict(dataset_meta=3)])
        elif kind == 5:
            content['state_dict'] = {
                f'{rng.choice(["module.", "a.b."])}{k}': v for k, v in state.items()
            }
        torch.save(content, self.path)
        if kind > 5:
            self.path.write_bytes(mutate_bytes(self.path.read_bytes(), rng))
        with (
            DefaultScope.overwrite_default_scope(self.cfg.default_scope),
            explained_errors(self.cfg),
        ):
            model, _ = load_model(self.cfg, str(self.path))
        if kind < 5 and any(
            not torch.equal(v, self.state[k]) for k, v in model.state_dict().items()
        ):
            raise SilentLoss('other weights than those that were saved')
        return f'checkpoint {kind} {key}', []


class Overrides(Target):
    """Keys of ``--cfg-options``."""

    config = 'configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py'
    variable = 'MMSB_COCO_ROOT'

    def __init__(self, folder):
        super().__init__(folder)
        self.keys = [
            key for key in self.dotted(self.cfg._cfg_dict.to_dict()) if 'pipeline' not in key
        ]

    def dotted(self, value, path=()):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield '.'.join(map(str, (*path, key)))
            if isinstance(inner, dict | list):
                yield from self.dotted(inner, (*path, key))

    def case(self, rng):
        key = rng.choice(self.keys)
        parts = key.split('.')
        at = rng.randrange(len(parts))
        word = parts[at]
        kind = rng.randrange(5)
        place = rng.randrange(len(word))
        if kind == 0:
            parts[at] = word[:place] + word[place + 1 :] or 'x'
        elif kind == 1:
            parts[at] = word[:place] + rng.choice('abcxyz9') + word[place:]
        elif kind == 2:
            parts[at] = word[:place] + word[place:][::-1]
        elif kind == 3:
            parts[at] = word.upper()
        else:
            parts.append('x')
        changed = '.'.join(parts)
        known = changed in self.keys
        cfg = copy.deepcopy(self.cfg)
        lines = apply_overrides(cfg, {changed: rng.choice(VALUES)})
        if not known and not lines:
            raise SilentLoss(f'{changed} was accepted')
        return changed, lines


TARGETS = dict(
    coco=Coco,
    maps=Maps,
    imagenet=ImageNet,
    cifar=Cifar,
    checkpoints=Checkpoints,
    overrides=Overrides,
)


# ----------------------------------------------------------------- running


def run_target(name: str, number: int, seed: int, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Run cases of one kind of input.

    Returns:
        How many ended how, and a text per fault.
    """
    folder.mkdir(parents=True)
    target = TARGETS[name](folder)
    counts, faults = collections.Counter(), []

    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for i in range(number):
            rng = random.Random(f'{name} {seed} {i}')
            signal.alarm(TIME_LIMIT)
            try:
                with open(os.devnull, 'w') as null, redirect_stdout(null):
                    _, lines = target.case(rng)
                outcome = 'said' if lines else 'nothing lost'
                wrong = next((line for line in lines if '\n' in line), None)
            except UserError as error:
                outcome = 'refused'
                wrong = f'{error}' if '\n' in f'{error}' else None
            except SilentLoss as error:
                outcome, wrong = 'silent loss', f'{error}'
            except Hang:
                outcome, wrong = 'hang', 'time limit'
            except Exception:
                outcome, wrong = 'traceback', traceback.format_exc()
            finally:
                signal.alarm(0)
            counts[outcome] += 1
            if wrong is not None:
                done = getattr(target, 'done', '')
                faults.append(f'{name} seed {seed} case {i} {done}: {outcome}: {wrong}')
                print(faults[-1], flush=True)
    finally:
        signal.signal(signal.SIGALRM, before)
    return dict(counts), faults


def main(argv: list[str] | None = None) -> int:
    """Run the fuzzer from the command line; return 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--number', type=int, default=300, help='cases per kind of input')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', nargs='+', choices=TARGETS, default=list(TARGETS))
    parser.add_argument('--out', help='write the counts, NAME.json')
    args = parser.parse_args(argv)
    silence()
    table, faults = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            table[name], wrong = run_target(name, args.number, args.seed, Path(folder) / name)
            faults += wrong
            print(f'{name}: {json.dumps(table[name])}', flush=True)
    if args.out:
        Path(args.out).write_text(json.dumps(table, indent=1) + '\n')
    return bool(faults)


if __name__ == '__main__':
    sys.exit(main())
