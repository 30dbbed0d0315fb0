"""A grid on a cluster whose worker nodes are started by Ray's autoscaler: a real one, with all nodes on this machine.

Its store is on S3, where one of its trials goes on from a checkpoint.

`ray.cluster_utils.AutoscalingCluster` would do the same, but it ends every Ray on the machine and needs a file that the
wheel does not hold.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest
import ray.util
import yaml
from moto.s3.exceptions import S3AccessDeniedError
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.autoscaler._private.util import prepare_config, validate_config

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main
from tests.cluster.ray_head import Head, free_port, ray_head
from tests.execution.commands import REPOSITORY, run_command
from tests.execution.s3_server import Server, instead_of, s3_server
from tests.prepared import prepared
from tests.trained_store import train_into

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as started:
        yield started


@pytest.fixture(scope="module")
def autoscaled(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Head]:
    """A head without a core for workers, and up to two nodes of one core that are not there yet."""
    home, port = tmp_path_factory.mktemp("home"), free_port()
    cluster = {
        "cluster_name": "fake",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": f"{ray.util.get_node_ip_address()}:{port}",
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "small": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
    }
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    cluster |= {f"{name}_commands": [] for name in commands} | {"auth": {}, "docker": {}, "file_mounts": {}}
    cluster |= {"cluster_synced_files": [], "file_mounts_sync_continuously": False}
    validate_config(prepare_config(cluster))
    # Where `ray up` leaves it.
    file = home / "ray_bootstrap_config.yaml"
    file.write_text(yaml.safe_dump(cluster))
    environment = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    options = ["--num-cpus=0", "--object-store-memory=100000000", f"--autoscaling-config={file}"]
    with ray_head(home, *options, port=port, **environment) as head:
        yield head


# Several commands, one after the other, in one process.
_COMMANDS = """
import json, os, sys
from experiments.main import main
for environment, arguments in json.loads(sys.argv[1]):
    os.environ.update(environment)
    print("exit code", main(arguments), file=sys.stderr)
"""


def of_cluster(head: Head) -> dict[str, str]:
    """The environment of its users."""
    return {"RAY_ADDRESS": head.address} | {name: head.environment[name] for name in ("PATH", "HOME", "RAY_AUTH_MODE")}


def test_what_cannot_run_is_refused_at_once(autoscaled: Head, tmp_path: Path):
    """More workers than the node types hold; a disk of the head alone while there are no other nodes; and without
    `RAY_ADDRESS` a second cluster, which would have the machine's cores, and no GPU that the first one has taken.
    """
    train = ["train", "--scale", "smoke", "--storage", str(tmp_path)]
    beside = {"RAY_ADDRESS": "", "RAY_TMPDIR": autoscaled.temporary}
    commands = [({}, [*train, "--num-workers", "4", "--train.shards", "4"]), ({}, train), (beside, train)]

    outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = outer | {"XDG_CACHE_HOME": autoscaled.environment["HOME"]} | of_cluster(autoscaled)
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS, json.dumps(commands)],
        cwd=REPOSITORY,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert not list(tmp_path.rglob("*.parquet"))
    too_many, of_the_head_alone, second, end = done.stderr.split("exit code 2\n")
    assert end == ""
    assert (
        "error: run.num_workers: 4 workers of 1 CPU each do not fit, the cluster has 0 CPU on 1 nodes, places for 0, "
        "and for 2 when its autoscaler has started all it may (2 small of 1 CPU and 0 GPU); take "
        "fewer, which gives the same result, let workers share cores (run.cpus_per_worker below 1), or add nodes"
    ) in too_many
    assert f"error: storage {tmp_path}: is a " in of_the_head_alone
    assert (
        "of this machine alone, which the nodes that the autoscaler may start would not see; use --storage "
        "s3://bucket/folder, or a mount that all nodes share"
    ) in of_the_head_alone
    address = f":{autoscaled.address.rpartition(':')[2]}"
    assert "error: a Ray cluster runs on this machine at " in second
    assert f"{address}: set RAY_ADDRESS=auto to use it, or RAY_ADDRESS=local to start another one beside it" in second


def test_a_cluster_that_asks_for_a_token(
    autoscaled: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", autoscaled.address)
    assert main(["train", "--scale", "smoke", "--storage", str(tmp_path / "store")]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert f"RAY_ADDRESS={autoscaled.address}: Ray cannot join this cluster" in line
    assert "wants RAY_AUTH_MODE=token and its token, in RAY_AUTH_TOKEN or ~/.ray/auth_token" in line
    assert not list((tmp_path / "store").rglob("*.parquet"))


@dataclass(frozen=True)
class Grid:
    """A grid on S3 whose first trial had been begun and had lost its storage, and what its command printed."""

    uri: str
    home: Path
    command: list[str]
    trial: str
    before: set[str]
    out: str


@pytest.fixture(scope="module")
def grid(autoscaled: Head, server: Server, smoke: TrialConfig) -> Grid:
    """Two trials. The first one's checkpoint of step 10 was refused when it was uploaded, that of step 5 was not."""
    uri, home = server.uri("grid"), Path(autoscaled.environment["HOME"])
    rows = ["--name", "parts", "--axis", "dynamic.dla", "true", "false"]
    command = ["grid", *rows, "--scale", "smoke", f"--storage={uri}"]

    def refuse_the_last(real, backend, bucket, upload, body):
        if backend.get_bucket(bucket).multiparts[upload].key_name.endswith("step_00000010.pt"):
            raise S3AccessDeniedError
        return real(backend, bucket, upload, body)

    with instead_of("complete_multipart_upload", refuse_the_last), pytest.raises(StoreError, match="step_00000010"):
        train_into(uri, smoke)
    before = {key.removeprefix("grid/") for key in server.keys("grid/")}
    code, out = run_command(home, *command, **of_cluster(autoscaled))
    assert code == 0, out
    return Grid(uri, home, command, prepared(smoke).trial_id, before, out)


def test_it_runs_on_nodes_that_were_not_there(grid: Grid, server: Server):
    assert list(ResultStore.open(grid.uri).trials()["status"]) == ["finished"] * 2
    assert not server.keys("grid/.probe/")
    # Two nodes, so two trials at once: the second starts before the first is done.
    events = [line for line in grid.out.splitlines() if " starts:" in line or line.endswith(" done")]
    assert [" starts:" in line for line in events[:2]] == [True, True]


def test_a_trial_goes_on_from_the_last_checkpoint_that_was_written(grid: Grid):
    assert f"checkpoints/{grid.trial}/step_00000005.pt" in grid.before
    assert f"checkpoints/{grid.trial}/step_00000010.pt" not in grid.before
    assert not [key for key in grid.before if key.startswith("trials/")]
    assert grid.out.count("goes on from the checkpoint of step 5") == 1
    assert grid.out.count("step 10/10  loss ") == 2


def test_the_same_command_finds_it_all_done(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(grid.home))
    monkeypatch.setattr("dynrcnn_ray.execution.trials.run_trials", lambda *_, **__: pytest.fail("something is trained"))
    assert main(grid.command) == 0
    assert "nothing to train, all 2 trials are in s3://bucket/grid." in capsys.readouterr().out


def test_everything_is_in_the_bucket(grid: Grid, server: Server):
    store = ResultStore.open(grid.uri)
    expected = {f"tables/parts.{kind}" for kind in ("md", "tex", "parquet")} | {"plans/parts.parquet"}
    for trial in store.trials()["trial_id"]:
        expected |= {f"checkpoints/{trial}/step_{step:08d}.pt" for step in (5, 10)}
        expected |= {f"{kind}/{trial}.parquet" for kind in ("trials", "dynamics", "proposals", "detections")}
    assert expected <= {key.removeprefix("grid/") for key in server.keys("grid/")}


def test_the_report_is_drawn_from_the_bucket_alone(grid: Grid, server: Server, capsys: pytest.CaptureFixture[str]):
    server.client.delete_object(Bucket="bucket", Key="grid/tables/parts.md")
    assert main(["report", "--storage", grid.uri]) == 0
    assert "s3://bucket/grid/report.html" in capsys.readouterr().out
    assert {"grid/tables/parts.md", "grid/report.html"} <= server.keys("grid/")


def test_others_read_the_bucket_and_no_option_of_the_uri_is_stored(grid: Grid):
    store = ResultStore.open(grid.uri)
    trials = ds.dataset(f"{store.files.root}/trials", filesystem=store.files.filesystem).to_table().to_pandas()
    dynamics = pd.read_parquet(f"{store.files.root}/dynamics/{grid.trial}.parquet", filesystem=store.files.filesystem)
    assert trials["status"].tolist() == ["finished"] * 2
    assert dynamics["step"].max() == 10
    plan = store.plan("parts")
    assert plan is not None
    command = "dynrcnn grid --name parts --axis dynamic.dla true false --scale smoke --storage=s3://bucket/grid"
    assert plan["command"][0] == command
