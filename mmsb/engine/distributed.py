"""Process groups for several CPU processes, which mmengine does not support."""

import logging
import os
import subprocess
from contextlib import contextmanager

import torch
import torch.distributed as dist
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mmsb.utils.errors import UserError
from mmsb.utils.processes import PARENT, die_with_parent


def init_distributed(launcher: str) -> None:
    """Create the process group that ``Runner`` needs without a GPU; with GPUs, check their number.

    mmengine's launchers call ``torch.cuda.set_device`` whatever the backend. Without CUDA this
    function creates a gloo group, and the runner then creates none.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        UserError: This node runs more processes than it has GPUs.
    """
    if launcher == 'none' or dist.is_initialized():
        return
    if parent := os.environ.get(PARENT):
        die_with_parent(int(parent))  # else this process would train on without its launcher
    if launcher == 'slurm' and not torch.cuda.is_available():
        _environment_from_slurm()
    if torch.cuda.is_available():
        processes = os.environ.get('LOCAL_WORLD_SIZE') or os.environ.get('SLURM_NTASKS_PER_NODE')
        check_num_processes(int(processes or 1))
    elif launcher in ('pytorch', 'slurm'):
        dist.init_process_group('gloo')


@contextmanager
def distributed(launcher: str):
    """Call :func:`init_distributed`, and destroy the process group at the end of the block.

    A process that exits while gloo's threads run sometimes aborts, which would turn success into
    failure. NCCL's group is destroyed only after success: after an error in one process, this
    could wait for the others forever.
    """
    init_distributed(launcher)
    done = False
    try:
        yield
        done = True
    finally:
        if dist.is_available() and dist.is_initialized():
            if done:
                dist.barrier()
            if done or dist.get_backend() == 'gloo':
                dist.destroy_process_group()


def check_num_processes(processes: int) -> None:
    """Raise an error for more processes than GPUs on a node that has GPUs."""
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise UserError(
            f'{processes} processes for {gpus} GPU(s) on this node: start {gpus}, or hide the '
            "GPUs (CUDA_VISIBLE_DEVICES='') to run on CPU"
        )


def _environment_from_slurm() -> None:
    env = os.environ
    if 'MASTER_ADDR' not in env:
        hosts = subprocess.run(
            ['scontrol', 'show', 'hostname', env['SLURM_NODELIST']],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        env['MASTER_ADDR'] = hosts.split()[0]
    env.setdefault('MASTER_PORT', '29500')
    env['RANK'] = env['SLURM_PROCID']
    env['LOCAL_RANK'] = env['SLURM_LOCALID']
    env['WORLD_SIZE'] = env['SLURM_NTASKS']


def prepare_for_cpu(cfg: Config) -> None:
    """Adapt a config to several CPU processes, in place.

    By default the runner passes ``device_ids=[LOCAL_RANK]``, which DDP refuses on CPU. SyncBN,
    mmseg's default, has no CPU kernel: BN replaces it, with a warning.
    """
    if cfg.get('launcher', 'none') == 'none' or torch.cuda.is_available():
        return
    if _replace_type(cfg.model, 'SyncBN', 'BN'):
        print_log('SyncBN needs GPUs: BN replaces it', 'current', logging.WARNING)
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper.update(cfg.get('model_wrapper_cfg') or {})
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def _replace_type(cfg: ConfigDict, old: str, new: str) -> int:
    """Replace every ``type=old`` in nested dicts and lists; return how many were replaced."""
    if isinstance(cfg, list | tuple):
        return sum(_replace_type(value, old, new) for value in cfg)
    if not isinstance(cfg, dict):
        return 0
    count = sum(_replace_type(value, old, new) for value in cfg.values())
    if cfg.get('type') == old:
        cfg['type'] = new
        count += 1
    return count


def rank_zero() -> bool:
    """Return whether this process is the first one; works before the process group exists."""
    if dist.is_available() and dist.is_initialized():
        return is_main_process()
    return os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0'
