"""SBResNet on several processes (gloo, CPU)."""

import copy
import os
import socket
from importlib.util import find_spec

import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mmsb.models import SBResNet
from mmsb.models.kernels import dispatch

# tests/conftest.py asks for it where there is no GPU
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1' and find_spec('triton') is not None


def build(**kwargs):
    torch.manual_seed(0)
    settings = dict(base_channels=8, spatial_bias=dict(size=4), norm_eval=True, frozen_stages=1)
    return SBResNet(**settings, **kwargs).train()


def images(rank):
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(rank))


def loss(model, rank):
    return sum(out.square().mean() for out in model(images(rank)))


def plain_weights():
    torch.manual_seed(1)
    return SBResNet(base_channels=8, spatial_bias=None).state_dict()


def block_gradients(model, block, rank):
    """A block's gradients of a step whose batch norms see one rank's features alone."""
    generator = torch.Generator().manual_seed(rank)
    out = model(torch.randn(2, 64, 6, 5, generator=generator))
    (out * torch.randn(out.shape, generator=generator)).mean().backward()
    return {name: p.grad.clone() for name, p in block.named_parameters()}


def one_block():
    torch.manual_seed(0)
    return SBResNet(base_channels=16, spatial_bias=dict(size=4)).layer1[1]


def _gradients_of_kernels(rank):
    """Run a block in Triton's interpreter, which is slow; its gradients and if kernels ran."""
    dispatch.DEVICES, ran, bottleneck = ('cpu',), [], dispatch.bottleneck
    dispatch.bottleneck = lambda *args: ran.append(bottleneck(*args)) or ran[-1]
    block = one_block()
    gradients = block_gradients(DistributedDataParallel(block), block, rank)
    return gradients, ran[0] is not None


def sync_block(norm):
    torch.manual_seed(0)
    block = SBResNet(base_channels=16, spatial_bias=dict(size=4)).layer1[1]
    for name, module in list(block.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight)
            nn.init.normal_(module.bias)
            parent, _, child = name.rpartition('.')
            new = norm(module.num_features)
            new.load_state_dict(module.state_dict())
            setattr(block.get_submodule(parent), child, new)
    return block


def sync_step(block, images, dtype):
    """Output, gradients (summed over a batch) and running statistics of a step."""
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(2, 4, 64, 6, 5, generator=generator)[:, images].to(dtype)
    x.requires_grad_()
    out = block(x)
    (out * weight).sum().backward()
    gradients = {name: p.grad for name, p in block.named_parameters()}
    return out.detach(), x.grad, gradients, dict(block.named_buffers())


def _synchronised(rank):
    """A step on three images or one of four, with synchronised norms in kernels."""
    dispatch.DEVICES = ('cpu',)
    images = slice(0, 3) if rank == 0 else slice(3, 4)
    return sync_step(sync_block(nn.SyncBatchNorm), images, torch.float32)


def _two_steps(rank, port, results):
    MMLogger.get_current_instance().setLevel('WARNING')
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    for freeze in (None, True):
        # without find_unused_parameters: a frozen parameter that DDP waits for would hang or raise
        model = DistributedDataParallel(build(freeze_spatial_bias=freeze), broadcast_buffers=False)
        model.module.load_state_dict(plain_weights())  # as late as mmengine's runner
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss(model, rank).backward()
            optimizer.step()
        parameters = model.module.named_parameters()
        results[rank, freeze] = {name: p.detach().clone() for name, p in parameters}
    if INTERPRETED:
        results[rank, 'kernels'] = _gradients_of_kernels(rank)
        results[rank, 'synchronised'] = _synchronised(rank)
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def of_two_processes():
    """Parameters after two steps, of each rank, by freeze_spatial_bias; gradients."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    results = multiprocessing.Manager().dict()
    multiprocessing.spawn(_two_steps, (port, results), nprocs=2)
    return dict(results)


@pytest.mark.parametrize('freeze', [None, True])
def test_ddp_with_frozen_stages(freeze, of_two_processes):
    """Two processes end where one process with both gradients averaged does."""
    first, second = (of_two_processes[rank, freeze] for rank in range(2))
    reference = build(freeze_spatial_bias=freeze)
    reference.load_state_dict(plain_weights())
    initial = copy.deepcopy(reference.state_dict())
    optimizer = torch.optim.SGD([p for p in reference.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (sum(loss(reference, rank) for rank in range(2)) / 2).backward()
        optimizer.step()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
        torch.testing.assert_close(first[name], parameter.detach(), rtol=1e-4, atol=1e-5)
    moved = {n for n, p in reference.named_parameters() if not torch.equal(initial[n], p)}
    assert {'layer2.0.conv3.weight', 'layer3.5.spatial_bias.mixing.weight'} <= moved
    held = {name for name in moved if name.startswith(('conv1', 'bn1', 'layer1'))}
    if freeze:
        assert not held
    else:
        assert {f'layer1.0.{name}' for name in (
            'conv3.weight', 'bn2.bias', 'spatial_bias.mixing.weight')} <= held  # fmt: skip
        assert not held & {'layer1.0.conv1.weight', 'layer1.0.conv2.weight', 'layer1.0.bn3.bias'}


@pytest.mark.skipif(not INTERPRETED, reason="needs Triton's interpreter")
def test_ddp_averages_the_gradients_of_the_kernels(of_two_processes):
    """They are the mean of those that operators give for each half of the batch."""
    pytest.importorskip('triton', minversion='3.2')
    halves = []
    for rank in range(2):
        block = one_block()
        halves.append(block_gradients(block, block, rank))
    for rank in range(2):
        gradients, ran = of_two_processes[rank, 'kernels']
        assert ran and gradients.keys() == halves[0].keys()
        for name, gradient in gradients.items():
            expected = (halves[0][name] + halves[1][name]) / 2
            torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.skipif(not INTERPRETED, reason="needs Triton's interpreter")
def test_kernels_synchronise_norms(of_two_processes):
    """Two processes with unequal shares of a batch are as one with all of it, in float64."""
    pytest.importorskip('triton', minversion='3.2')
    block = sync_block(nn.BatchNorm2d).double()
    out, dx, gradients, buffers = sync_step(block, slice(None), torch.float64)
    shares = [of_two_processes[rank, 'synchronised'] for rank in range(2)]
    for index, whole in enumerate((out, dx)):
        ours = torch.cat([share[index] for share in shares]).double()
        torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        ours = sum(share[2][name] for share in shares).double()
        torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-4, msg=name)
    for name, buffer in buffers.items():
        for share in shares:
            torch.testing.assert_close(share[3][name].double(), buffer.double(), msg=name)


def test_sync_bn_is_bn_on_one_process():
    model = build(norm_cfg=dict(type='SyncBN')).eval()
    reverted = revert_sync_batchnorm(copy.deepcopy(model))
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in reverted.modules())
    plain = build(norm_cfg=dict(type='BN')).eval()
    x = images(0)
    for synced, back, batch_norm in zip(model(x), reverted(x), plain(x), strict=True):
        assert torch.equal(synced, batch_norm) and torch.equal(back, batch_norm)
    assert list(model.state_dict()) == list(plain.state_dict())
