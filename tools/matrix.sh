#!/usr/bin/env bash
# Run a short selection of the tests on combinations of stack, Python and PyTorch, each in an
# environment of its own, which is removed afterwards: tools/matrix.sh [STACK:PYTHON:TORCH ...].
# PYTHON is a version that is installed, such as 3.13. TORCH is a version, or "pinned". The table is
# printed and written to $OUT (default work_dirs/matrix/matrix.md); a line per combination says what
# failed, and $OUT's folder keeps the logs. The exit status is 1 if anything failed.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export BYTECODE='' # compile what is imported, not all packages
unset PYTHONDONTWRITEBYTECODE
OUT="${OUT:-work_dirs/matrix/matrix.md}"
FOLDER=$(dirname "$OUT")
COMBINATIONS=("$@")
[ $# -gt 0 ] || COMBINATIONS=(
  onedl:3.10:pinned onedl:3.11:pinned onedl:3.11:2.14.0 onedl:3.11:2.15.0 onedl:3.13:2.15.0
  openmmlab:3.11:pinned openmmlab:3.13:pinned
)
# The backbone, its kernels, mmcv's operators, checkpoints, the names in the toolboxes, and a
# training with its test from the command line.
KERNELS=tests/test_models/test_kernels
TESTS=(
  tests/test_models/test_sb_resnet.py "$KERNELS/test_dispatch.py"
  "$KERNELS/test_inference.py::test_kernels_equal_the_operators" tests/test_ops/test_install.py
  tests/test_utils/test_safe_load.py tests/test_utils/test_on_import.py
  tests/test_utils/test_model_index.py::test_get_model_and_list_models tests/test_main.py::test_demo
)

find_python() { # print the path of an installed interpreter
  local path
  # pyenv's command fails for a version that is installed but not chosen
  for path in "python$1" "$(uv python find --no-python-downloads "$1" 2>/dev/null)" \
    "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if [ -n "$path" ] && "$path" -c '' 2>/dev/null; then command -v "$path" && return; fi
  done
  return 1
}

version() { "$MMSB_VENV/bin/python" -c "import $1; print($1.__version__)" 2>/dev/null; }

mkdir -p "$FOLDER"
failed=0
{
  echo '| stack | Python | torch | torchvision | numpy | tests |'
  echo '| --- | --- | --- | --- | --- | --- |'
} > "$OUT"
for combination in "${COMBINATIONS[@]}"; do
  IFS=: read -r stack python torch <<< "$combination"
  if ! interpreter=$(find_python "$python"); then
    echo "| $stack | $python | $torch | | | not run: no Python $python here |" >> "$OUT"
    continue
  fi
  export MMSB_VENV
  MMSB_VENV="$(cd "$FOLDER" && pwd)/venv"
  log="$FOLDER/${combination//:/-}.log"
  echo "$combination ... ($log)" >&2
  given="$torch"
  [ "$torch" != pinned ] || given=''
  if PYTHON="$interpreter" TORCH="$given" tools/setup_env.sh "$stack" > "$log" 2>&1; then
    "$MMSB_VENV/bin/python" -m pytest -q --durations=10 -p no:cacheprovider "${TESTS[@]}" >> "$log" 2>&1
    status=$?
    result=$(grep -E '^[0-9]+ (passed|failed|error).* in ' "$log" | tail -1)
    result="${result:-no result: see the log}"
  else
    status=1
    result="not installed: $(grep -m 1 -E 'cause: |error: ' "$log" | sed 's/^ *//')"
  fi
  [ $status -eq 0 ] || failed=1
  echo "| $stack | $python | $(version torch) | $(version torchvision) | $(version numpy) |" \
    "${result%% in *} |" >> "$OUT"
  rm -rf "$MMSB_VENV"
done
cat "$OUT"
exit $failed
