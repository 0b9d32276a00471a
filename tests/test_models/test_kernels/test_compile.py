"""The kernels compile for GPUs that are not here, spill nothing and fit every GPU's shared memory.

What cannot be measured without a GPU, time, has causes that can be seen: spilled registers, few warps on a
multiprocessor, narrow loads.
"""

import collections
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip('triton', minversion='3.2')
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmsb.models import SBResNet
from mmsb.models.kernels import dispatch, training

TYPES = {torch.float32: 'fp32', torch.bfloat16: 'bf16', torch.float16: 'fp16', torch.int64: 'i64'}
TOOLS = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin'


def launches(dtype, shape=(2, 3, 64, 64), **options):
    """Every launch of a training step and of an inference of an SB-ResNet-50, by what it compiles."""
    seen = {}

    def record(kernel, grid, *args, num_warps=4, **constants):
        signature = []
        for a in args:
            if isinstance(a, torch.Tensor):
                signature.append(f'*{TYPES[a.dtype]}')
            else:
                signature.append({int: 'i32', float: 'fp32', type(None): None}[type(a)])
        key = (kernel.__name__, *signature, num_warps, *constants.values())
        seen[key] = kernel, signature, num_warps, constants

    with pytest.MonkeyPatch.context() as patch, torch.device('meta'):
        patch.setattr(training, 'launch', record)
        patch.setattr(dispatch, 'DEVICES', ('meta',))
        patch.setattr(dispatch, '_kernels', lambda device: training)
        model = SBResNet(50, **options)
        for name, module in model.named_modules():  # as autocast leaves it
            if isinstance(module, torch.nn.Conv2d) and 'spatial_bias' not in name:
                module.to(dtype)
        for mode in (True, False):
            model.train(mode)
            outs = model(torch.zeros(shape, dtype=dtype))
            if mode:
                sum(out.float().sum() for out in outs).backward()
    return seen


def compiled(kernel, signature, num_warps, constants, arch):
    kernel = triton.JITFunction(kernel.fn) if not hasattr(kernel, 'arg_names') else kernel
    names = kernel.arg_names
    values = dict(zip(names[len(signature) :], constants.values(), strict=True))
    types = dict(zip(names, signature, strict=False))
    values |= {name: None for name, kind in types.items() if kind is None}
    types |= dict.fromkeys(values, 'constexpr')
    aligned = {
        (i,): [['tt.divisibility', 16]] for i, name in enumerate(names) if types[name][0] == '*'
    }
    source = ASTSource(
        fn=kernel,
        signature=types,
        constexprs={(names.index(name),): value for name, value in values.items()},
        attrs=aligned,
    )
    target = GPUTarget('cuda', arch, 32)
    return triton.compile(source, target=target, options=dict(num_warps=num_warps))


def resources(kernel):
    """Registers a thread, bytes of stack and shared memory, and counts of instructions."""
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(kernel.asm['cubin'])
        file.flush()
        usage, code = (
            subprocess.run(
                [TOOLS / tool, *options, file.name], capture_output=True, text=True, check=True
            ).stdout
            for tool, options in (('cuobjdump', ['-res-usage']), ('nvdisasm', ['-c']))
        )
    used = dict(re.findall(r'(REG|STACK):(\d+)', usage))
    wide = re.findall(r'\b(LDG\.E\.128|LDG\.E\.64|LDG\.E\b|LDG\.E\.U16|LDGSTS|LDL)', code)
    return int(used['REG']), int(used['STACK']), kernel.metadata.shared, collections.Counter(wide)


if __name__ == '__main__':
    import sys
    import time

    seen = {}
    for dtype in (torch.bfloat16, torch.float32):
        for shape in ((128, 3, 224, 224), (2, 3, 800, 1344), (2, 3, 500, 160)):
            for options in (dict(), dict(spatial_bias=None), dict(frozen_stages=1, norm_eval=True)):
                seen |= launches(dtype, shape, **options)
    print(len(seen))
    for key, case in seen.items():
        if not any(a in key[0] for a in sys.argv[1:]) and len(sys.argv) > 1:
            continue
        t = time.time()
        try:
            r = resources(compiled(*case, 90))
        except Exception as e:
            print(key[0], case[3], 'FAILED', str(e)[-200:], flush=True)
            continue
        warps = min(
            64,
            65536 // (-(-r[0] * 32 // 256) * 256) // case[2] * case[2],
            227 * 1024 // (r[2] + 1024) * case[2],
        )
        print(
            key[0],
            key[1],
            dict(case[3]),
            'regs',
            r[0],
            'stack',
            r[1],
            'shared',
            r[2],
            'warps',
            warps,
            dict(r[3]),
            f'{time.time() - t:.1f}',
            flush=True,
        )
