"""``python -m mmsb.engine.launch SCRIPT CONFIG PROCESSES [ARGS]``: start N processes.

``tools/dist_train.sh`` and ``tools/dist_test.sh`` run this module. It calls
``torch.distributed.run`` after checks that fail with one line before any process starts.
Environment: ``NNODES`` (default 1), ``NODE_RANK`` (0), ``MASTER_ADDR`` (127.0.0.1), ``PORT`` (a
free one on one node, 29500 on several). ``--max-restarts N`` of a training starts all processes
again if one of them ends early, up to N times; they resume from the last checkpoint.
"""

import logging
import os
import re
import signal
import socket
import sys

import torch
from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from mmsb.engine.cli import report_user_errors
from mmsb.engine.config import check_config_path
from mmsb.engine.distributed import check_num_processes
from mmsb.utils.errors import UserError
from mmsb.utils.processes import PARENT


def port_is_free(port: int) -> bool:
    """Return whether this machine can listen on the TCP port."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(('', port))
        except OSError:
            return False
    return True


def rendezvous_args(restarts: int = 0) -> list[str]:
    """Return the options for ``torch.distributed.run`` that the environment variables set.

    Args:
        restarts: How often the processes may be restarted. Defaults to 0.
    """
    nnodes = _integer('NNODES', '1')
    node_rank = _integer('NODE_RANK', '0')
    port = os.environ.get('PORT')
    if not 0 <= node_rank < nnodes:
        raise UserError(f'NODE_RANK is {node_rank}: give 0 to {nnodes - 1} for NNODES={nnodes}')
    if nnodes == 1 and port is None:
        return ['--standalone']  # picks a free port
    port = _integer('PORT', '29500')
    if not 1 <= port <= 65535:
        raise UserError(f'PORT is {port}: give 1 to 65535')
    if node_rank == 0 and not port_is_free(port):
        raise UserError(f'port {port} is in use on this machine: give another one, PORT=<number>')
    address = os.environ.get('MASTER_ADDR', '127.0.0.1')
    if restarts:  # with this backend, the nodes tell each other of a restart
        backend = ['--rdzv_backend=c10d', f'--rdzv_endpoint={address}:{port}', f'--rdzv_id={port}']
        return [f'--nnodes={nnodes}', *backend]
    return [
        f'--nnodes={nnodes}',
        f'--node_rank={node_rank}',
        f'--master_addr={address}',
        f'--master_port={port}',
    ]


def _integer(name: str, default: str) -> int:
    value = os.environ.get(name, default)
    if not re.fullmatch('[0-9]{1,9}', value):  # isdigit also accepts e.g. superscripts
        raise UserError(f'{name} is {value!r}: give a whole number')
    return int(value)


def _pop_restarts(flags: list[str]) -> int:
    """Remove ``--max-restarts N`` from a training's flags and return N, 0 without it."""
    for index, flag in enumerate(flags):
        name, equals, value = flag.partition('=')
        if name == '--max-restarts':
            value = value if equals else ''.join(flags[index + 1 : index + 2])
            if not value.isdigit():
                raise UserError(f'--max-restarts {value!r}: give 0 or more')
            del flags[index : index + (1 if equals else 2)]
            return int(value)
    return 0


@report_user_errors
def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    is_test = len(argv) > 0 and argv[0].endswith('test.py')
    positional = ['CONFIG', *(['CHECKPOINT'] if is_test else []), 'PROCESSES']
    if len(argv) < 1 + len(positional) or '-h' in argv or '--help' in argv:
        name = os.path.basename(argv[0]).replace('.py', '.sh') if argv else 'launch'
        raise UserError(f'usage: [PORT=...] tools/dist_{name} {" ".join(positional)} [ARGS]')
    script, config, *rest = argv
    restarts = 0 if is_test else _pop_restarts(rest)
    processes = rest.pop(len(positional) - 2)
    if not re.fullmatch('[0-9]{1,5}', processes) or int(processes) < 1:
        raise UserError(f'the number of processes is {processes!r}: give 1 or more')
    check_config_path(config)
    check_num_processes(int(processes))
    # Set here so that neither torch nor mmengine sets them with a warning.
    threads = 1 if torch.cuda.is_available() else max(1, (os.cpu_count() or 1) // int(processes))
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        os.environ.setdefault(name, str(threads))
    if restarts:  # torch's shared store would give restarted processes the addresses of lost ones
        os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
    # The failing process prints the reason; torch's log of stopped processes would bury it.
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    args = run.parse_args(
        [
            *rendezvous_args(restarts),
            f'--max_restarts={restarts}',
            f'--nproc_per_node={processes}',
            script,
            config,
            *rest,
            '--launcher=pytorch',
        ]
    )
    os.environ[PARENT] = str(os.getpid())
    try:
        run.run(args)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(f'error: process {rank} was killed by {name}', file=sys.stderr)
        sys.exit(failure.exitcode if failure.exitcode > 0 else 1)
    except (KeyboardInterrupt, SignalException):
        print('stopped: checkpoints are in the work directory, --resume continues', file=sys.stderr)
        sys.exit(130)
    finally:  # what this process starts later is no process of the group
        del os.environ[PARENT]


if __name__ == '__main__':
    main()
