#!/usr/bin/env bash
# From sbatch to Table 3 on a Slurm cluster. In the root of this project, with its .venv on a disk that all nodes see:
#
#   sbatch cluster/slurm.sh table3 --scale coco --data.root /shared/coco --storage /shared/dynrcnn
#
# What stands after the script's name are the arguments of experiments/main.py. Two trials of eight GPUs run at once; the
# same sbatch again goes on from the checkpoints. Data and storage must be seen by all nodes.
#
#SBATCH --job-name=dynrcnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
# Whole nodes: at the end `ray symmetric-run` stops every Ray of this user on them.
#SBATCH --exclusive
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
if [ -d .venv ]; then PATH=$PWD/.venv/bin:$PATH; fi

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# A port that two jobs are unlikely to share, below those that the system gives out.
address=$head:$((20000 + SLURM_JOB_ID % 10000))
# Other users of the cluster have no business in this Ray.
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
DYNRCNN_COMMIT=${DYNRCNN_COMMIT:-$(git describe --always --dirty --abbrev=12 2> /dev/null || echo unknown)}
export DYNRCNN_COMMIT

gpus=${SLURM_GPUS_ON_NODE:-0}
cpus=${SLURM_CPUS_PER_TASK:-$(nproc)}
# Since Slurm 22.05 srun does not take over the job's cores a task by itself.
exec srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$cpus" \
  ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$cpus" --num-gpus "$gpus" \
  --disable-usage-stats -- env RAY_ADDRESS="$address" python experiments/main.py "$@"
