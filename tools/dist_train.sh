#!/usr/bin/env bash
# Train on N processes of this node: tools/dist_train.sh CONFIG N [--max-restarts M] [train.py flags]
# N GPUs, or N CPU processes if there is no GPU. On several nodes, run the same command on each with
# NNODES, NODE_RANK, MASTER_ADDR and PORT set. On one node, PORT defaults to a free port.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec "$PYTHON" -m mmsb.engine.launch "$TOOLS/train.py" "$@"
