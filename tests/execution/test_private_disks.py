"""Two nodes of which one has a disk of its own, and a node that is taken back: real `ray start` processes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.weights import PACKAGED
from dynrcnn_ray.store.results_store import ResultStore
from tests.cluster.ray_head import Head, ray_head, ray_node
from tests.execution.commands import Command, deaths, read_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TWO_WORKERS = ("train", "--scale", "smoke", "--num-workers", "2")


def lacks_mounts() -> bool:
    trial = ["unshare", "--mount", "true"]
    return shutil.which("unshare") is None or subprocess.run(trial, capture_output=True, check=False).returncode != 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def private(folder: Path) -> Path:
    """A folder that one of the nodes does not see."""
    (folder / "private").mkdir()
    return folder / "private"


@pytest.fixture(scope="module")
def head(folder: Path, private: Path) -> Iterator[Head]:
    """A head without a core for workers and two nodes of one core; training is slow while `folder/slowly` is there."""
    if lacks_mounts():
        pytest.skip("needs the right to make a mount namespace")
    quick = {"RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5"}
    slow = deaths({"slowly": "nobody"}, folder)
    with (
        ray_head(folder, "--num-cpus=0", "--object-store-memory=100000000", has_jobs=False, **quick) as head,
        ray_node(head, folder, **slow),
        ray_node(head, folder, private=private, **slow),
    ):
        yield head


def command(head: Head, folder: Path, storage: Path) -> Command:
    return Command(folder, storage, head.environment | {"RAY_ADDRESS": head.address})


def test_what_a_node_does_not_see_is_refused_before_anything_starts(
    head: Head, folder: Path, private: Path, smoke: TrialConfig
):
    root = shutil.copytree(smoke.data.root, private / "data")
    weights = Path(shutil.copy(PACKAGED / f"{smoke.model.backbone}.npz", private / "weights.npz"))
    storage = private / "store"
    files = ("--data.root", str(root), "--model.weights", str(weights))

    code, out = command(head, folder, storage).run(*TWO_WORKERS, *files)

    assert code == 2, out
    lines = [line.removeprefix("error: ") for line in out.splitlines() if re.match(r"(error: )?on [\d.]+ \(", line)]
    assert len({line.split(":")[0] for line in lines}) == 1, "one of the three nodes"
    told = [line.partition(": ")[2] for line in lines]
    assert told == [
        f"storage {storage}: is not the one that the command sees, but a disk of its own; use --storage "
        "s3://bucket/folder, or a mount that all nodes share",
        f"data.root: {root}/annotations/instances_train.json: cannot be read (No such file or directory); check "
        "data.root and the name of the split; put the same files there on every node, or on a mount that all nodes "
        "share",
        f"model.weights: '{weights}' is no file; put the same files there on every node, or on a mount that all nodes "
        "share",
    ]
    assert not list((storage / ".probe").iterdir())
    assert not (storage / "running").exists()


TAKE_BACK = """
import sys, time, ray
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
ray.init(address=sys.argv[1], log_to_driver=False)
node = next(node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU"))
deadline = int(1000 * (time.time() + 10))
reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
assert GcsClient(address=sys.argv[1]).drain_node(node, reason, "taken back", deadline)[0]
"""


def test_a_notice_makes_a_checkpoint_at_once_and_the_trial_goes_on_from_it_with_what_remains(
    head: Head, folder: Path, tmp_path: Path
):
    marker = folder / "slowly"
    marker.touch()
    # Two minutes and more, whatever the machine does beside, until the marker goes.
    trial = ("--train.steps", "120", "--run.checkpoint-every", "1000", "--run.min-workers", "1")
    ours = command(head, folder, tmp_path / "store")
    process = ours.start(*TWO_WORKERS, *trial)
    lines = read_until(process, "  loss ")
    # A test before this one may have started a Ray in this process, with a token of its own.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = outer | head.environment
    subprocess.run([sys.executable, "-c", TAKE_BACK, head.address], env=environment, check=True)
    lines += read_until(process, "a node is about to be taken back: a checkpoint is made at once")
    lines += read_until(process, "goes on from the checkpoint of step ")
    # Meanwhile the report shows the trial as what it is.
    store = ResultStore.open(ours.storage)
    (running,) = store.trials_so_far().to_dict("records")
    assert running["status"] == "running"
    step = int(running["last_good_step"])
    assert f"goes on from the checkpoint of step {step}\n" in lines
    # Steps after the checkpoint stand there too where a worker lived to write them; they are trained again.
    assert step in set(store.dynamics([running["trial_id"]])["step"])
    marker.unlink()
    rest, _ = process.communicate()
    assert process.returncode == 0, lines + rest
    (trial,) = ours.trials().to_dict("records")
    assert (trial["status"], trial["num_workers"], trial["workers_at_end"]) == ("finished", 2, 1)
