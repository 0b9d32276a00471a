"""Check of packages, devices and runnable tasks. Imports nothing that may be missing."""

import importlib
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

# import name: distributions that provide it, OneDL's, then OpenMMLab's
PACKAGES = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'numpy': ('numpy',),
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
}
REQUIRED = ('torch', 'torchvision', 'numpy', 'mmengine', 'mmcv')
TASKS = {'detection': 'mmdet', 'segmentation': 'mmseg', 'classification': 'mmpretrain'}


@dataclass
class Environment:
    """The result of :func:`inspect`.

    Attributes:
        rows (list[tuple[str, str]]): Names and findings, for printing.
        problems (list[tuple[str, str]]): Problems, each with the command that fixes it.
        tasks (list[str]): The tasks that can run.
    """

    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)


def installed(distributions: Iterable[str]) -> dict[str, str]:
    """Return the installed ones among the distributions, with their versions."""
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: str | None = None) -> str:
    """Return the name of the GPU, or the name and number of cores of the CPU.

    Args:
        device: 'cuda' or 'cpu'. Defaults to None: a GPU if there is one.
    """
    import torch

    if device != 'cpu' and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor()
    if Path('/proc/cpuinfo').is_file():
        names = re.findall(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
        name = names[0].strip() if names else name
    return f'{name}, {os.cpu_count()} cores'


def stack_of(found: dict[str, dict[str, str]]) -> str:
    """Return 'onedl', 'openmmlab', 'mixed' or 'none', according to the installed distributions."""
    names = [name for key in list(PACKAGES)[3:] for name in found[key]]
    if not names:
        return 'none'
    onedl = [name.startswith('onedl-') for name in names]
    return 'onedl' if all(onedl) else 'mixed' if any(onedl) else 'openmmlab'


def inspect(operators: Callable) -> Environment:
    """Inspect the running Python: packages, operators, devices, tasks.

    Args:
        operators: :func:`mmsb.ops.status`; called only if mmcv and torchvision import.
    """
    env = Environment()
    found = {name: installed(distributions) for name, distributions in PACKAGES.items()}
    stack = stack_of(found)
    index = 1 if stack == 'openmmlab' else 0
    env.rows.append(('Python', platform.python_version()))
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        env.problems.append(
            ('this Python version is not tested (3.10 to 3.13 are)', 'uv venv --python 3.12')
        )
    works = {}
    for name, distributions in PACKAGES.items():
        versions = ', '.join(f'{key} {value}' for key, value in found[name].items())
        error = _import_error(name)
        works[name] = error is None
        if len(found[name]) > 1:
            extra = list(found[name])[1 - index]
            env.problems.append(
                (
                    f'two distributions provide {name} and overwrite each other',
                    f'pip uninstall -y {" ".join(found[name])} && pip install '
                    f'{distributions[0] if extra != distributions[0] else distributions[1]}',
                )
            )
        if error is None:
            env.rows.append((name, versions or 'installed'))
        elif importlib.util.find_spec(name) is None:
            env.rows.append((name, 'not installed'))
            if name in REQUIRED:
                best = 'mmcv-lite==2.1.0' if (name, index) == ('mmcv', 1) else distributions[-1]
                line = best if index else distributions[0]
                env.problems.append((f'{name} is not installed', f'pip install {line}'))
        else:
            env.rows.append((name, f'{versions}: import fails'))
            env.problems.append(
                (
                    f'{name} does not import: {error}',
                    f'pip install "mmsb[{"onedl" if index == 0 else "openmmlab"}]"',
                )
            )
    env.rows.append(('stack', stack))
    if stack == 'mixed':
        env.problems.append(
            (
                'OneDL and OpenMMLab packages are mixed, and their versions do not fit together',
                'make a new environment with one of them: pip install "mmsb[onedl]"',
            )
        )
    if works['mmcv'] and works['torchvision']:
        status = operators()
        served = {'compiled': 'compiled in mmcv', 'torchvision': 'served by torchvision (mmsb.ops)'}
        env.rows.append(('mmcv operators', served.get(status.kind, status.kind)))
        if status.error:
            env.problems.append(
                (
                    f'mmcv is compiled for another torch: {status.error}',
                    'pip install --force-reinstall --no-deps mmcv-lite==2.1.0 (or onedl-mmcv)',
                )
            )
    if works['torch']:
        import torch

        devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        env.rows.append(('GPU', ', '.join(devices) or 'none: processes run on CPU (gloo)'))
    base = all(works[name] for name in REQUIRED)
    for task, toolbox in TASKS.items():
        if base and works[toolbox]:
            env.tasks.append(task)
            env.rows.append((task, 'ready'))
        else:
            missing = toolbox if base else 'the packages missing above'
            env.rows.append((task, f'needs {missing}: pip install {PACKAGES[toolbox][index]}'))
    return env


def _import_error(name: str) -> str | None:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken installation may raise anything
        lines = str(error).strip().splitlines()
        return f'{type(error).__name__}: {lines[0] if lines else ""}'
    return None
