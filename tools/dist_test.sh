#!/usr/bin/env bash
# Test on N processes of this node: tools/dist_test.sh CONFIG CHECKPOINT N [test.py flags]
# N GPUs, or N CPU processes if there is no GPU. On several nodes, run the same command on each with
# NNODES, NODE_RANK, MASTER_ADDR and PORT set. On one node, PORT defaults to a free port.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec "$PYTHON" -m mmsb.engine.launch "$TOOLS/test.py" "$@"
