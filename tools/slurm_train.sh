#!/usr/bin/env bash
# Train on a Slurm cluster; slurm.sh lists the variables, e.g. for the number of GPUs.
SCRIPT=train.py
USAGE='tools/slurm_train.sh PARTITION JOB_NAME CONFIG'
. "$(dirname "${BASH_SOURCE[0]}")/slurm.sh"
