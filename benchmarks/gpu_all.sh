#!/usr/bin/env bash
# Every figure of docs/performance.md for a GPU, in under ten minutes: benchmarks/gpu_all.sh [DIR].
# PYTHON: the interpreter (default python).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT="${1:-benchmarks/results/gpu}"
PYTHON="${PYTHON:-python}"
"$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo 'error: there is no GPU here: benchmarks/gpu_all.sh needs one' >&2
  exit 1
}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
run() { "$PYTHON" tools/analysis_tools/benchmark.py --device cuda --rounds 7 --out "$OUT" "$@"; }

"$PYTHON" tools/analysis_tools/roofline.py --device cuda --batch 128
run --preset headline --batch 128 --dtype fp32 bf16
run --preset headline --batch 128 --dtype bf16 --layout nhwc --compile --name compiled
run --preset batch --batch 1 8 64 256 --dtype bf16
run --preset paper --batch 128 --dtype bf16
run --preset resolution --batch 8 --dtype bf16
run --preset settings --batch 128 --dtype bf16
run --preset detector --dtype bf16
run --preset segmentor --dtype bf16

export MMSB_COCO_ROOT=work_dirs/benchmark_coco
"$PYTHON" tools/dataset_tools/make_mini_coco.py "$MMSB_COCO_ROOT" --train 64 --val 1 --size 480 640
run --preset training-split --batch 8 --dtype bf16
