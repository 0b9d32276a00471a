#!/usr/bin/env bash
# Measure every figure in docs/performance_gpu.md and more, in ten minutes: benchmarks/gpu_all.sh [DIR].
# PYTHON sets the interpreter (default python). If one run fails, the others continue.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT="${1:-benchmarks/results/gpu}"
PYTHON="${PYTHON:-python}"
"$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo 'error: there is no GPU here: run benchmarks/gpu_all.sh on a machine with one' >&2
  exit 1
}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
failed=0
run() {
  echo "\$ benchmark.py $*"
  "$PYTHON" tools/analysis_tools/benchmark.py --device cuda --rounds 7 --min-seconds 0.15 --out "$OUT" "$@" || {
    echo "error: benchmark.py $* failed" >&2
    failed=1
  }
}

"$PYTHON" tools/analysis_tools/roofline.py --device cuda --batch 128 || failed=1
run --preset headline --batch 128 --dtype fp32 bf16
run ResNet-50 SB NL --batch 1 8 128 --dtype fp32 bf16 --layout nhwc --fuse --graph --name graphs
run ResNet-50 SB --batch 128 --dtype bf16 --layout nhwc --mode inference training --operators --name operators
run ResNet-50 SB --batch 128 --dtype bf16 --layout nhwc --fuse --operators --name operators_fused
run --preset paper --batch 128 --dtype bf16 --layout nhwc
run --preset batch --batch 1 8 64 256 --dtype bf16
run --preset resolution --batch 8 --dtype bf16
run --preset detector --dtype bf16
run --preset segmentor --dtype bf16
run --preset settings --batch 128 --dtype bf16
run ResNet-50 SB --batch 128 --dtype bf16 --layout nhwc --fuse --compile --name compiled

export MMSB_COCO_ROOT=work_dirs/benchmark_coco
"$PYTHON" tools/dataset_tools/make_mini_coco.py "$MMSB_COCO_ROOT" --train 64 --val 1 --size 480 640
run --preset training-split --batch 8 --dtype bf16
exit $failed
