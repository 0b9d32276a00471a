"""The kernels compile for GPUs that are not here, spill nothing and fit their shared memory.

Time cannot be measured without a GPU, but what costs it can be seen: spilled registers, few warps
on a multiprocessor, narrow loads.
"""

import collections
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from mmsb.models import SBResNet
from mmsb.models.kernels import dispatch

TYPES = {torch.float32: 'fp32', torch.bfloat16: 'bf16', torch.float16: 'fp16', torch.int64: 'i64'}
IMAGENET, DETECTION = (128, 3, 224, 224), (2, 3, 500, 160)
# the least number of warps, of 64, on a multiprocessor of sm_90: some kernels' and the others'
WARPS = dict(moments=16, norm=24, norm_backward=24, norm_backward_sums=20, widen=32)
FEWEST_WARPS = 8


def launches(dtype, shape, **options):
    """Return the launches of a training step and an inference of an SB-ResNet-50."""
    from mmsb.models.kernels import training

    seen = {}

    def record(kernel, grid, *args, num_warps=4, **constants):
        signature = [
            f'*{TYPES[a.dtype]}'
            if isinstance(a, torch.Tensor)
            else {int: 'i32', float: 'fp32', type(None): None}[type(a)]
            for a in args
        ]
        key = (kernel.__name__, *signature, num_warps, *constants.values())
        seen[key] = kernel, signature, num_warps, constants

    with pytest.MonkeyPatch.context() as patch, torch.device('meta'):
        patch.setattr(training, 'launch', record)
        patch.setattr(dispatch, 'DEVICES', ('meta',))
        patch.setattr(dispatch, 'LEAST_ELEMENTS', 0)
        patch.setattr(dispatch, '_kernels', lambda device: training)
        model = SBResNet(50, **options)
        for name, module in model.named_modules():  # the types that autocast gives features
            if isinstance(module, torch.nn.Conv2d) and 'spatial_bias' not in name:
                module.to(dtype)
        for mode in (True, False):
            model.train(mode)
            outs = model(torch.zeros(shape, dtype=dtype))
            if mode:
                sum(out.float().sum() for out in outs).backward()
    return seen


def compile_for(arch, kernel, signature, num_warps, constants):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    values = dict(zip(names[len(signature) :], constants.values(), strict=True))
    types = dict(zip(names, signature, strict=False))
    values |= dict.fromkeys(name for name, kind in types.items() if kind is None)
    types |= dict.fromkeys(values, 'constexpr')
    aligned = [['tt.divisibility', 16]]
    source = ASTSource(
        fn=kernel,
        signature=types,
        constexprs={(names.index(name),): value for name, value in values.items()},
        attrs={(i,): aligned for i, name in enumerate(names) if types[name][0] == '*'},
    )
    options = dict(num_warps=num_warps)
    return triton.compile(source, target=GPUTarget('cuda', arch, 32), options=options)


def resources(compiled):
    """Return registers per thread, bytes of stack, and counts of load instructions."""
    import triton

    tools = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(compiled.asm['cubin'])
        file.flush()
        usage, code = (
            subprocess.run(
                [tools / tool, *options, file.name], capture_output=True, text=True, check=True
            ).stdout
            for tool, options in (('cuobjdump', ['-res-usage']), ('nvdisasm', ['-c']))
        )
    used = dict(re.findall(r'(REG|STACK):(\d+)', usage))
    loads = re.findall(r'\b(LDG\.E\.128|LDG\.E\.64|LDG\.E\b|LDG\.E\.U16|LDGSTS)', code)
    return int(used['REG']), int(used['STACK']), collections.Counter(loads)


def warps(registers, shared, of_program):
    """Return the warps that a multiprocessor of sm_90 holds: 64 Ki registers, 227 KiB shared."""
    by_registers = 65536 // (-(-registers * 32 // 256) * 256) // of_program * of_program
    return min(64, by_registers, 227 * 1024 // (shared + 1024) * of_program)


# One width is enough on other architectures; a detector's maps take other tiles.
@pytest.mark.parametrize(
    ('arch', 'dtype', 'shape', 'everything'),
    [
        (90, torch.bfloat16, IMAGENET, True),
        (90, torch.float32, DETECTION, False),
        (80, torch.bfloat16, IMAGENET, False),
        (100, torch.bfloat16, IMAGENET, False),
    ],
)
def test_kernels_compile_without_spilling(arch, dtype, shape, everything):
    pytest.importorskip('triton', minversion='3.2')
    module = 'tests.test_models.test_kernels.test_compile'
    code = f'from {module} import check; check({arch}, {dtype}, {shape}, {everything})'
    # a process of its own: in the interpreter kernels cannot be compiled
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, '-c', f'import torch; {code}'],
        cwd=root, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def check(arch, dtype, shape, everything):
    cases = launches(dtype, shape)
    kernels = {key[0] for key in cases}
    assert len(kernels) == 19
    seen = set()
    for (name, *_), (kernel, signature, num_warps, constants) in cases.items():
        width = constants.get('C')
        if width and 16 < width not in (64, 256):
            continue
        # of other types and architectures, a kernel of each kind
        kind = (name, *constants.values()) if everything else (name, width)
        if kind in seen or not (everything or width in (None, 3, 5, 64)):
            continue
        seen.add(kind)
        compiled = compile_for(arch, kernel, signature, num_warps, constants)
        registers, stack, loads = resources(compiled)
        shared = compiled.metadata.shared
        told = name, constants, registers, stack, shared, dict(loads)
        assert stack <= 16, told
        assert shared <= 99 * 1024, told  # sm_86 and sm_89 have no more
        if arch == 90:
            least = WARPS.get(name.removesuffix('_kernel'), FEWEST_WARPS)
            assert warps(registers, shared, num_warps) >= least, told
        if (width or 0) >= 64 and 'combine' not in name:
            assert loads['LDG.E.128'] + loads['LDGSTS'] > 0, told
    assert {name for name, *_ in seen} == kernels
