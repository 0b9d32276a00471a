#!/usr/bin/env bash
# Every figure of a GPU that docs/performance_gpu.md shows, most important first, in eight minutes:
#   benchmarks/gpu_all.sh [DIR [SECONDS]]
# DIR: where each result is written as soon as there is one (default benchmarks/results/gpu).
# SECONDS, or MMSB_LIMIT: after these it stops and says what it left out (default 480).
# PYTHON: the interpreter (default python). MMSB_DRY=1: a run through all of it without a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" benchmarks/gpu_all.py "$@"
