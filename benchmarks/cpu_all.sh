#!/usr/bin/env bash
# Measure every figure in docs/performance.md on a CPU, in half an hour: benchmarks/cpu_all.sh [DIR].
# PYTHON sets the interpreter (default python).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT="${1:-benchmarks/results/cpu}"
PYTHON="${PYTHON:-python}"
run() { "$PYTHON" tools/analysis_tools/benchmark.py --device cpu --out "$OUT" "$@"; }

"$PYTHON" tools/analysis_tools/roofline.py --device cpu
for i in 1 2 3; do run ResNet-50 SB --preset headline --dtype fp32 --mode inference --rounds 30 --name "inference_$i"; done
run ResNet-50 SB --preset headline --dtype fp32 --mode training --rounds 4 --name training
run ResNet-50 SB --mode training --batch 4 --layout nchw nhwc --threads 1 --rounds 10 --name training_one_thread
# exported as docs/performance.md says
if [ -f work_dirs/sb_resnet50.onnx ]; then
  run ResNet-50 SB work_dirs/resnet50.onnx work_dirs/sb_resnet50.onnx --layout nhwc --fuse \
    --batch 1 8 --threads 1 --rounds 90 --min-seconds 0.1 --name onnxruntime
fi
run --preset paper --layout nhwc --rounds 15
run --preset resolution --rounds 6
run --preset batch --batch 1 4 16 --rounds 5
run --preset settings --rounds 4
TORCHINDUCTOR_FREEZING=1 run ResNet-50 SB --batch 8 --layout nhwc --fuse --compile --rounds 30 --name compiled
run ResNet-50 SB --mode training --batch 4 --layout nhwc --threads 1 --compile --rounds 8 --name compiled_training
run ResNet-50 SB --layout nhwc --fuse --operators --rounds 20 --name operators
run --preset detector --mode inference --batch 1 --rounds 3
run --preset segmentor --rounds 2

# images of 480 to 640 pixels in COCO's layout, which the config resizes to 800 and more
export MMSB_COCO_ROOT=work_dirs/benchmark_coco
"$PYTHON" tools/dataset_tools/make_mini_coco.py "$MMSB_COCO_ROOT" --train 32 --val 1 --size 480 640
run --preset training-split --batch 2 --rounds 2
