#!/usr/bin/env bash
# Make an environment: tools/setup_env.sh [onedl|openmmlab|docs], in .venv, .venv-openmmlab or
# .venv-docs. The first two are the stacks; the third only builds the documentation. PYTHON sets the
# interpreter (default: the first CPython 3.10-3.13 found). If nothing changed, a second call returns
# at once. UV_TORCH_BACKEND=cpu, an option of uv, installs PyTorch's CPU builds, which are much
# smaller. TORCH=2.15.0 installs another PyTorch than the pinned one. MMSB_VENV is the folder to make.
set -u
STACK="${1:-onedl}"
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

fail() {
  echo "error: $*" >&2
  exit 1
}

case "$STACK" in
  onedl) VENV="${MMSB_VENV:-.venv}" ;;
  openmmlab) VENV="${MMSB_VENV:-.venv-openmmlab}" ;;
  docs) VENV="${MMSB_VENV:-.venv-docs}" ;;
  *) fail "STACK is '$STACK': give onedl, openmmlab or docs" ;;
esac
PINS=("requirements/$STACK.txt")
GIB=1
if [ "$STACK" != docs ]; then
  PINS+=(requirements/{deploy,visualization,tests}.txt)
  GIB=7
fi

is_supported() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}
if [ -n "${PYTHON:-}" ]; then
  is_supported "$PYTHON" || fail "PYTHON=$PYTHON is not a CPython 3.10 to 3.13: give another one"
else
  for PYTHON in python3 python python3.12 python3.11 python3.13 python3.10 ''; do
    if [ -n "$PYTHON" ] && is_supported "$PYTHON"; then break; fi
  done
  [ -n "$PYTHON" ] || fail 'no CPython 3.10 to 3.13 found: install one, or give its path, PYTHON=/path/to/python3'
fi

STAMP="$VENV/.installed"
# Only the part of pyproject.toml above the settings of linter and tests affects what is installed.
WANTED="$( (cat "${PINS[@]}" "requirements/$STACK.lock" setup.py model-index.yml
  sed '/^\[tool.ruff\]/,$d' pyproject.toml) | cksum) $(pwd)${TORCH:+ torch $TORCH}"
if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$WANTED" ]; then exit 0; fi

FREE=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
[ "$FREE" -ge "$GIB" ] || fail "the disk has $FREE GiB free here: the environment needs $GIB, free some space"

UV=uv
if ! command -v uv >/dev/null; then
  UV=.venv-uv/bin/uv
  if [ ! -x "$UV" ]; then
    echo 'Getting uv (into .venv-uv) ...'
    "$PYTHON" -m pip install -q --disable-pip-version-check --no-warn-script-location \
      --target .venv-uv uv || fail 'pip could not install uv: no network, or no pip (see above)'
  fi
fi

SCRATCH=$(mktemp -d)
LOG="$SCRATCH/log"
trap 'rm -rf "$SCRATCH"' EXIT
LOCK="requirements/$STACK.lock"
if [ -n "${TORCH:-}" ]; then # leave the pins that belong to the other PyTorch out
  grep -vE '^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==' "$LOCK" > "$SCRATCH/lock"
  { grep -vE '^(torch|torchvision)==' "${PINS[0]}"
    printf '%s\n' "torch==$TORCH" torchvision; } > "$SCRATCH/requirements.txt"
  LOCK="$SCRATCH/lock" PINS[0]="$SCRATCH/requirements.txt"
fi
step() {  # show the output; on failure print one line with the likely cause
  "$@" 2> >(tee "$LOG" >&2) && return
  sleep 0.2
  if grep -qi 'invalid peer certificate' "$LOG"; then
    fail "a certificate was refused: behind a company's proxy, UV_SYSTEM_CERTS=1 make ..."
  elif grep -qiE 'dns|failed to fetch|error sending request|connect' "$LOG"; then
    fail 'the packages could not be downloaded: no network?'
  elif grep -qi 'no space left' "$LOG"; then
    fail "the disk is full: free $GIB GiB for the environment"
  fi
  fail "setting up $VENV failed (see above)"
}
echo "Setting up $VENV ($STACK, $("$PYTHON" --version)): up to $GIB GiB, once ..."
rm -f "$STAMP"
step "$UV" venv -q --clear --python "$PYTHON" "$VENV"
# Compile bytecode now, as pip does: if PYTHONDONTWRITEBYTECODE is set (in many containers), every
# process would otherwise compile 3,500 files again, which takes 4 s. BYTECODE='' leaves it out.
step "$UV" pip install ${BYTECODE---compile-bytecode} --python "$VENV/bin/python" \
  -c "$LOCK" "${PINS[@]/#/--requirements=}"
if [ "$STACK" != docs ]; then
  step "$UV" pip install -q --python "$VENV/bin/python" --no-deps -e .
  "$VENV/bin/python" -m mmsb.check_env || fail "the environment is incomplete (see above)"
fi
echo "$WANTED" > "$STAMP"
