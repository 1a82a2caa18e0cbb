#!/usr/bin/env bash
# One study on a Slurm allocation: sbatch platform/deploy/slurm.sh ablate quickstart --set resources.gpus_per_worker=1
# The same command continues the study. Change: the numbers below, and what makes 'advlora' available on a node.
#SBATCH --job-name=advlora
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=advlora-%j.log
set -euo pipefail

if (($# < 2)); then
    echo "usage: sbatch $0 ablate|sweep STUDY [OPTION ...]" >&2
    exit 2
fi
verb=$1 study=$2
shift 2

# A folder on storage that all nodes see; the submission's is one on most clusters.
shared=${ADVLORA_SHARED:-$SLURM_SUBMIT_DIR}
source "${ADVLORA_VENV:-$SLURM_SUBMIT_DIR/.venv}/bin/activate"
export MLFLOW_TRACKING_URI=${MLFLOW_TRACKING_URI:-sqlite:///$shared/mlflow.db}

# Whoever reaches a port of Ray runs code as you: the token keeps other users of the nodes out.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$shared/.ray-token-$SLURM_JOB_ID
(umask 077 && python -c "import secrets; print(secrets.token_hex(32), end='')" >"$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

# Ports of this job's own, below those that Ray gives its workers (from 10002).
port=$((6400 + SLURM_JOB_ID % 500))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
node=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block
    --dashboard-agent-listen-port=$((port + 1500)))

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --node-ip-address="$address" --port="$port" --dashboard-port=$((port + 500)) \
    --ray-client-server-port=$((port + 1000)) "${node[@]}" &
for _ in {1..60}; do
    ray status --address="$address:$port" >/dev/null 2>&1 && break
    sleep 2
done
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
        ray start --address="$address:$port" "${node[@]}" &
fi
for _ in {1..60}; do
    (($(ray status --address="$address:$port" 2>/dev/null | grep -c 'node_') >= SLURM_JOB_NUM_NODES)) && break
    sleep 2
done

# The driver gets the signal that Slurm sends two minutes before the end, and lets go of the study.
out=$shared/runs/$(basename "$study" .yaml)
RAY_ADDRESS=$address:$port advlora "$verb" "$study" --wait --out "$out" "$@" &
driver=$!
trap 'kill -TERM $driver' TERM
code=0
wait $driver || code=$?
if ((code > 128)) && kill -0 $driver 2>/dev/null; then # the signal ended the waiting, not yet the driver
    code=0
    wait $driver || code=$?
fi
exit $code
