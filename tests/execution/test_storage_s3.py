"""Results and checkpoints on S3: moto's server in this process, the real command line in others."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pyarrow.dataset as ds
import pytest
from moto.s3.exceptions import S3AccessDeniedError
from moto.s3.models import S3Backend

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main
from tests.execution.commands import REPOSITORY, run_command
from tests.execution.s3_server import Server, s3_server
from tests.prepared import prepared
from tests.trained_store import train_into

PART = 10 * 1024 * 1024
"""Bytes of one part of an upload, as pyarrow cuts it."""

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as started:
        yield started


def instead_of(method: str, act: Callable[..., Any]) -> Any:
    """Patch the server: `act` is called with the real method and its arguments."""
    real = getattr(S3Backend, method)
    return mock.patch.object(S3Backend, method, lambda *arguments, **named: act(real, *arguments, **named))


def test_an_upload_that_breaks_off_leaves_what_was_there(server: Server):
    """The second of three parts is refused, as when rights are withdrawn or an upload is aborted elsewhere."""

    def refuse_second(real, backend, bucket, upload, part, body):
        if part == 2:
            raise S3AccessDeniedError
        return real(backend, bucket, upload, part, body)

    store = ResultStore.open(server.uri("broken"))
    store.files.write_bytes("a", b"before")
    with instead_of("upload_part", refuse_second):
        for name in ("a", "b"):
            with pytest.raises(StoreError, match=rf"s3://bucket/broken/{name} cannot be written: .*UploadPart"):
                store.files.write_bytes(name, bytes(3 * PART))
    assert store.files.read_bytes("a") == b"before"
    assert store.files.read_bytes("b") is None


WRITE = """
import sys
from dynrcnn_ray.store.results_store import ResultStore
store = ResultStore.open(sys.argv[1])
store.files.write_bytes("plans/a.parquet", bytes(int(sys.argv[2])))
"""


def test_a_writer_that_is_killed_leaves_what_was_there(server: Server):
    store = ResultStore.open(server.uri("killed"))
    store.files.write_bytes("plans/a.parquet", b"before")
    writers: list[subprocess.Popen] = []

    def kill_at_last(real, backend, bucket, upload, part, body):
        if part == 3:
            writers[0].kill()
            writers[0].wait()
        return real(backend, bucket, upload, part, body)

    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with instead_of("upload_part", kill_at_last):
        command = [sys.executable, "-c", WRITE, server.uri("killed"), str(3 * PART)]
        writers.append(subprocess.Popen(command, env=environment))
        assert writers[0].wait(60) == -signal.SIGKILL
    assert store.files.read_bytes("plans/a.parquet") == b"before"
    assert server.keys("killed/") == {"killed/plans/a.parquet"}


def test_a_large_object_is_read_in_few_requests(server: Server):
    """A checkpoint has some hundred megabytes; each request costs tens of milliseconds."""
    store = ResultStore.open(server.uri("large"))
    content = os.urandom(PART)
    store.files.write_bytes("a", content)
    requests: list[str] = []

    def count(real, backend, bucket, key, *others, **named):
        requests.append(key)
        return real(backend, bucket, key, *others, **named)

    with instead_of("get_object", count):
        assert store.files.read_bytes("a") == content
    assert len(requests) < 10


def test_the_endpoint_may_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch):
    ResultStore.open(server.uri("environment")).files.write_bytes("a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    assert ResultStore.open("s3://bucket/environment").files.read_bytes("a") == b"1"


def test_a_bucket_that_is_not_there_is_told_in_one_line(server: Server):
    store = ResultStore.open(server.uri("x").replace("//bucket", "//nowhere"))
    with pytest.raises(StoreError, match=r"s3://nowhere/x/a cannot be written: .*bucket does not exist") as refused:
        store.files.write_bytes("a", b"1")
    assert "\n" not in str(refused.value)


@dataclass(frozen=True)
class Runs:
    """One training that lost its storage, and what a command then printed."""

    uri: str
    home: Path
    command: list[str]
    trial: str
    before: set[str]
    resumed: str


@pytest.fixture(scope="module")
def runs(server: Server, smoke: TrialConfig, cache_home: Path) -> Iterator[Runs]:
    """Ten steps with checkpoints at five and ten, of which the second is refused when it is uploaded; then the command.

    Ray has its files below a folder of its own.
    """
    uri, prefix = server.uri("runs/smoke"), "runs/smoke/"
    command = ["train", "--scale", "smoke", f"--storage={uri}"]

    def refuse_the_last(real, backend, bucket, upload, body):
        if backend.get_bucket(bucket).multiparts[upload].key_name.endswith("step_00000010.pt"):
            raise S3AccessDeniedError
        return real(backend, bucket, upload, body)

    with instead_of("complete_multipart_upload", refuse_the_last), pytest.raises(StoreError, match="step_00000010"):
        train_into(uri, smoke)
    before = {key.removeprefix(prefix) for key in server.keys(prefix)}
    with tempfile.TemporaryDirectory(prefix="s3_", dir="/tmp", ignore_cleanup_errors=True) as folder:
        code, out = run_command(cache_home, *command, RAY_TMPDIR=folder, PYTHONPATH=str(REPOSITORY))
    assert code == 0, out
    return Runs(uri, cache_home, command, prepared(smoke).trial_id, before, out)


def test_a_run_goes_on_from_the_last_checkpoint_that_was_written(runs: Runs):
    assert f"checkpoints/{runs.trial}/step_00000005.pt" in runs.before
    assert f"checkpoints/{runs.trial}/step_00000010.pt" not in runs.before
    assert not [key for key in runs.before if key.startswith("trials/")]
    assert "goes on from the checkpoint of step 5" in runs.resumed
    assert "step 10/10" in runs.resumed


def test_the_same_command_finds_it_all_done(runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(runs.home))
    assert main(runs.command) == 0
    printed = capsys.readouterr().out
    assert "nothing to train, all 1 trials are in s3://bucket/runs/smoke." in printed
    assert "[1/1]" not in printed


def test_everything_is_in_the_bucket(runs: Runs, server: Server):
    kept = {f"checkpoints/{runs.trial}/step_{step:08d}.pt" for step in (5, 10)}
    per_trial = {f"{kind}/{runs.trial}.parquet" for kind in ("trials", "dynamics", "proposals", "detections")}
    name = f"train_{runs.trial}"
    drawn = {f"tables/{name}.{kind}" for kind in ("md", "tex", "parquet")} | {f"plans/{name}.parquet"}
    assert kept | per_trial | drawn <= {key.removeprefix("runs/smoke/") for key in server.keys("runs/smoke/")}


def test_the_report_is_drawn_from_the_bucket_alone(runs: Runs, server: Server, capsys: pytest.CaptureFixture[str]):
    (table,) = [key for key in server.keys("runs/smoke/") if key.endswith(".md")]
    server.client.delete_object(Bucket="bucket", Key=table)
    assert main(["report", "--storage", runs.uri]) == 0
    assert "s3://bucket/runs/smoke/report.html" in capsys.readouterr().out
    assert {table, "runs/smoke/report.html"} <= server.keys("runs/smoke/")


def test_others_read_the_bucket_and_no_option_of_the_uri_is_stored(runs: Runs, server: Server):
    store = ResultStore.open(runs.uri)
    trials = ds.dataset(f"{store.files.root}/trials", filesystem=store.files.filesystem).to_table().to_pandas()
    dynamics = pd.read_parquet(f"{store.files.root}/dynamics/{runs.trial}.parquet", filesystem=store.files.filesystem)
    assert trials["status"].tolist() == ["finished"]
    assert dynamics["step"].max() == 10
    plan = store.plan(f"train_{runs.trial}")
    assert plan is not None
    assert plan["command"][0] == "dynrcnn train --scale smoke --storage=s3://bucket/runs/smoke"
