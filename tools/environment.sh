# Sourced by the launchers: which Python runs, and where mmsb is found.
#   PYTHON set: that one. A virtual or conda environment is active: its own. Else the
#   repository's .venv that `make` built (.venv-openmmlab with STACK=openmmlab), if there is one.
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
