"""slurm.sh from `sbatch` to a trained trial: stand-ins for `srun` and `scontrol`, a real Ray in its own namespaces.

The namespaces are what a node of one's own is: at its end `ray symmetric-run` stops every Ray that it sees.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dynrcnn_ray.store.results_store import ResultStore

REPOSITORY = Path(__file__).resolve().parents[2]
SRUN = """#!/usr/bin/env bash
echo "srun $*" >> "$CALLS"
while [[ $1 == --* ]]; do shift; done
exec unshare --pid --fork --kill-child --mount-proc --net -- bash -c 'ip link set lo up && exec "$@"' node "$@"
"""
SCONTROL = """#!/usr/bin/env bash
[ "$*" = "show hostnames node[1-1]" ] && echo 127.0.0.1
"""


def has_namespaces() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--net", "ip", "link", "set", "lo", "up"]
    found = all(shutil.which(name) for name in ("unshare", "ip"))
    return found and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(not has_namespaces(), reason="needs Linux, root and iproute2")
def test_a_job_trains_on_a_ray_of_its_own(cache_home: Path, smoke, tmp_path: Path):
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    home = Path("/tmp") / f"slurm_{os.getpid()}"  # Short, for Ray's sockets.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = outer | {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(cache_home),
        "RAY_TMPDIR": str(home),
        "SLURM_SUBMIT_DIR": str(REPOSITORY),
        "SLURM_JOB_NODELIST": "node[1-1]",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_ID": "123456",
        "SLURM_CPUS_PER_TASK": "2",
    }
    storage = tmp_path / "store"
    command = ["bash", "cluster/slurm.sh", "train", "--scale", "smoke", "--train.steps", "4", "--storage", str(storage)]
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 trials to run" in done.stdout
    (row,) = ResultStore.open(storage).trials().to_dict("records")
    assert (row["status"], row["steps"]) == ("finished", 4)
    assert row["git_commit"] not in ("", "unknown")
    (call,) = (tmp_path / "calls").read_text().splitlines()
    srun = "srun --ntasks=1 --ntasks-per-node=1 --cpus-per-task=2"
    assert call.startswith(f"{srun} ray symmetric-run --address 127.0.0.1:23456 --min-nodes 1")
