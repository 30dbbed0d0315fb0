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
# Two minutes before the time limit this script is told, and has all trials make a checkpoint.
#SBATCH --signal=B:USR1@120
# After a node's death Slurm starts the job anew, and the trials go on from their checkpoints.
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
if [ -d .venv ]; then PATH=$PWD/.venv/bin:$PATH; fi

# Three ports that two jobs are unlikely to share, below those that the system gives out.
port=$((20000 + SLURM_JOB_ID % 4000 * 3))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
read -r ip _ < <(getent ahosts "$head") || { echo "The name of the first node, $head, has no address." >&2; exit 1; }
export RAY_ADDRESS=$ip:$port
# Other users of the cluster have no business in this Ray.
export RAY_AUTH_MODE=token
# At its end Ray need not wait for requests, as a service would.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
ray get-auth-token --generate > /dev/null
DYNRCNN_COMMIT=${DYNRCNN_COMMIT:-$(git describe --always --dirty --abbrev=12 2> /dev/null || echo unknown)}
export DYNRCNN_COMMIT

# Ray on one node of the job. Not by `ray symmetric-run`: it refuses to start beside another Ray of this user, and at its
# end stops every one. The folder's path is short, for Ray's sockets.
on_a_node='
port=$1 folder=/tmp/dynrcnn_$SLURM_JOB_ID
shift
# The end is a signal to all processes here. The folder goes after Ray.
trap ended=1 TERM
mkdir -p -m 700 "$folder"
if [ "$SLURM_NODEID" = 0 ]; then
  set -- --head --node-ip-address "${RAY_ADDRESS%:*}" --port "$port" --ray-client-server-port $((port + 1)) \
    --include-dashboard false "$@"
else
  until (: < "/dev/tcp/${RAY_ADDRESS%:*}/$port") 2> /dev/null; do sleep 1; done
  set -- --address "$RAY_ADDRESS" "$@"
fi
# Ray gives itself 30 seconds to start, which are too few on a busy node.
for _ in 1 2 3; do
  ray start "$@" --block --temp-dir "$folder" --dashboard-agent-listen-port $((port + 2)) --disable-usage-stats || true
  if [ -n "${ended:-}" ] || [ $SECONDS -gt 200 ]; then break; fi
done
rm -rf "$folder"
test -n "${ended:-}"
'
cpus=${SLURM_CPUS_PER_TASK:-$(nproc)}
# Since Slurm 22.05 srun does not take over the job's cores a task by itself.
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$cpus" --kill-on-bad-exit \
  bash -c "$on_a_node" ray "$port" --num-cpus "$cpus" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" > /dev/null &
ray=$!

alive() {
  python -c 'import ray; ray.init(log_to_driver=False); print(*(n["NodeID"] for n in ray.nodes() if n["Alive"]))' \
    2> /dev/null
}
until [ "$(alive | wc -w)" = "$SLURM_JOB_NUM_NODES" ]; do
  if ! kill -0 $ray 2> /dev/null || [ $SECONDS -gt 300 ]; then
    echo "Ray did not start on all $SLURM_JOB_NUM_NODES nodes within $SECONDS seconds." >&2
    exit 1
  fi
  sleep 1
done

python experiments/main.py "$@" &
program=$!
# Trials take it for a spot node's notice: they make a checkpoint at the next row of the log, and train on. Slurm may tell
# a minute early, and at Ray's deadline Ray Train would end them: it is later than the limit. Ray removes an idle node at
# once, and with the head's the whole cluster: those where nothing runs are not told.
busy() {
  python -c '
import ray
from ray._private.state import available_resources_per_node
ray.init(log_to_driver=False)
free = available_resources_per_node()
used = lambda node: free.get(node["NodeID"], {}).get("CPU", 0) < node["Resources"].get("CPU", 0)
print(*(node["NodeID"] for node in ray.nodes() if node["Alive"] and used(node)))' 2> /dev/null
}
warn() {
  echo "The time limit is near."
  busy | xargs -r -n 1 -P 8 ray drain-node --address "$RAY_ADDRESS" --reason DRAIN_NODE_REASON_PREEMPTION \
    --reason-message limit --deadline-remaining-seconds 86400 --node-id
}
trap warn USR1
trap 'kill -TERM $program' TERM
# A signal ends `wait`, not the program.
while code=0; wait $program || code=$?; kill -0 $program 2> /dev/null; do :; done
trap '' TERM
# The signal lets Ray end by itself; srun would kill it at once.
scancel --signal=TERM "$SLURM_JOB_ID.0" 2> /dev/null || true
wait $ray || true
exit "$code"
