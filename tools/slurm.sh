# The shared part of slurm_train.sh and slurm_test.sh, which set SCRIPT and USAGE and source this.
#   GPUS: total number of processes (default 8); GPUS_PER_NODE: default GPUS, at most 8 (0: CPU
#   only); CPUS_PER_TASK: default 5; SRUN_ARGS: further arguments for srun.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ $# -lt $(($(wc -w <<< "$USAGE") - 1)) ]; then
  echo "usage: [GPUS=8] $USAGE [flags of $SCRIPT]" >&2
  exit 2
fi
PARTITION=$1 JOB_NAME=$2
shift 2
# bash runs commands in what it takes for numbers, e.g. GPUS='a[$(command)]'
for NAME in GPUS GPUS_PER_NODE CPUS_PER_TASK; do
  if [[ ! ${!NAME:-0} =~ ^[0-9]{1,6}$ ]]; then
    echo "error: $NAME is '${!NAME}': give a whole number" >&2
    exit 2
  fi
done
GPUS=$((10#${GPUS:-8}))
if [ "$GPUS" -lt 1 ]; then
  echo "error: GPUS is $GPUS: give 1 or more processes" >&2
  exit 2
fi
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
TASKS_PER_NODE=$((GPUS_PER_NODE > 0 ? GPUS_PER_NODE : GPUS))
GRES=()
if [ "$GPUS_PER_NODE" -gt 0 ]; then GRES=(--gres="gpu:$GPUS_PER_NODE"); fi
exec srun -p "$PARTITION" --job-name="$JOB_NAME" "${GRES[@]}" --ntasks="$GPUS" \
  --ntasks-per-node="$TASKS_PER_NODE" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} "$PYTHON" -u "$TOOLS/$SCRIPT" "$@" --launcher=slurm
