# Sourced by the launchers: sets which Python runs, and where it finds mmsb. The Python is $PYTHON
# if set; else that of the active virtual or conda environment; else that of the repository's .venv
# that `make` built (.venv-openmmlab with STACK=openmmlab); else the `python` on PATH.
TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(dirname "$TOOLS")"
VENV="$ROOT/.venv"
if [ "${STACK:-onedl}" = openmmlab ]; then VENV="$ROOT/.venv-openmmlab"; fi
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python
  if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$VENV/bin/python" ]; then
    PYTHON="$VENV/bin/python"
  fi
fi
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
