#!/usr/bin/env bash
# Test on a Slurm cluster; slurm.sh lists the variables, e.g. for the number of GPUs.
SCRIPT=test.py
USAGE='tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT'
. "$(dirname "${BASH_SOURCE[0]}")/slurm.sh"
