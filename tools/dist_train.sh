#!/usr/bin/env bash
# Train on N processes of this node: tools/dist_train.sh CONFIG N [train.py flags]
# N GPUs, or N CPU processes where there is no GPU. Several nodes: NNODES, NODE_RANK, MASTER_ADDR,
# PORT, the same command on each. One node: a free port is found when PORT is not given.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec "$PYTHON" -m mmsb.engine.launch "$TOOLS/train.py" "$@"
