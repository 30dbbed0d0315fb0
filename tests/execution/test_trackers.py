"""TensorBoard events and MLflow runs of a trial's course, from the results that Tune hands on. Nothing is trained."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from tensorboardX.proto.event_pb2 import Event

from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.execution import trackers
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.trackers import MLflow, ended, log_report, trackers_of
from dynrcnn_ray.store.results_store import ResultStore
from tests.prepared import prepared
from tests.stored_table import trial_row

CONFIG = TrialConfig(seed=3)
TRIAL_ID = prepared(CONFIG).trial_id


def scalars(folder: Path) -> list[tuple[str, float, int]]:
    """Read TensorBoard's records: a length, a checksum, the event, a checksum."""
    found = []
    for file in folder.rglob("events*"):
        content, at = file.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found += [(value.tag, value.simple_value, event.step) for value in event.summary.value]
            at += 16 + length
    return found


def jobs(storage: Path, config: TrialConfig = CONFIG) -> dict[str, TrialJob]:
    return {TRIAL_ID: TrialJob(prepared(config), "my_ki", "DLA", str(storage), git_commit="abc")}


def course(storage: Path) -> tuple[Any, list[dict[str, Any]]]:
    """A trial whose row is in the store, and what it reports: a row of the dynamics, a note and its end."""
    ResultStore.open(storage).write_trial(trial_row(TRIAL_ID, AP=51.5, config=to_stored(prepared(CONFIG))))
    trial: Any = SimpleNamespace(config={"trial": TRIAL_ID})
    row = {"loss": 2.5, "step": 20, "T_now": 0.43, "beta_now": float("nan"), "trial_id": "x", "time_total_s": 3.0}
    return trial, [row, {"note": "a note"}, {"ending": "finished"}]


def report_course(run: RunConfig, storage: Path) -> None:
    """As Tune does to each tracker."""
    trial, results = course(storage)
    for tracker in trackers_of(run, str(storage), jobs(storage)):
        for result in results:
            tracker.on_trial_result(0, [], trial, result)
        tracker.on_experiment_end([])


def test_tensorboard_has_the_finite_numbers_of_each_row_and_the_metrics(tmp_path: Path):
    report_course(RunConfig(tensorboard=True), tmp_path)
    found = scalars(tmp_path / "tensorboard" / TRIAL_ID)
    assert ("dynamics/loss", 2.5, 20) in found
    assert ("AP", 51.5, CONFIG.total_steps) in found
    assert {name for name, _, _ in found if name.startswith("dynamics/")} == {"dynamics/loss", "dynamics/T_now"}


@pytest.mark.parametrize(
    "uri",
    [
        "file://{folder}/runs",
        "{folder}/runs",
        pytest.param("sqlite:///{folder}/runs.db", marks=pytest.mark.slow),
    ],
)
def test_mlflow_has_configuration_course_metrics_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str):
    """Whatever it may be told to log to without a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    uri = uri.format(folder=tmp_path)
    report_course(RunConfig(mlflow=uri), tmp_path / "store")
    log_report(uri, "my_ki", "<p>report</p>")
    assert_has_all(uri)


def assert_has_all(uri: str, loss: float = 2.5) -> None:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("my_ki")
    assert experiment
    report, trial = sorted(
        client.search_runs([experiment.experiment_id]), key=lambda run: run.data.tags["mlflow.runName"] != "report"
    )
    assert trial.info.status == "FINISHED"
    assert trial.data.params["dynamic.iou_top_k"] == "75"
    assert trial.data.params["seed"] == "3"
    assert trial.data.metrics["AP"] == 51.5
    assert trial.data.metrics["dynamics/loss"] == loss
    assert [artifact.path for artifact in client.list_artifacts(report.info.run_id)] == ["report.html"]
    assert trial.data.tags["trial_id"] == TRIAL_ID


def test_a_trial_that_was_ended_goes_on_in_its_run(tmp_path: Path):
    """A signal leaves no run that seems to go on; a kill does, and the next command takes that too."""
    uri = str(tmp_path / "runs")
    trial, (row, _, ending) = course(tmp_path / "store")

    def watch(*results: dict[str, Any], config: TrialConfig = CONFIG) -> MLflow:
        store = tmp_path / "store"
        (tracker,) = trackers_of(RunConfig(mlflow=uri), str(store), jobs(store, config))
        assert isinstance(tracker, MLflow)
        for result in results:
            tracker.on_trial_result(0, [], trial, result)
        return tracker

    def status() -> list[str]:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("my_ki")
        assert experiment
        return [run.info.status for run in client.search_runs([experiment.experiment_id])]

    with pytest.raises(KeyboardInterrupt), ended([watch(row)]):
        raise KeyboardInterrupt
    assert status() == ["KILLED"]
    watch(row | {"step": 40})  # And is killed.
    assert status() == ["RUNNING"]
    # With another number of workers, which decides nothing of the result.
    fewer = dataclasses.replace(CONFIG, run=RunConfig(num_workers=1))
    with ended([watch(row | {"step": 60}, ending, config=fewer)]):
        pass
    assert status() == ["FINISHED"]
    watch(row)
    assert status() == ["RUNNING", "FINISHED"], "trained anew"


class Server:
    """An MLflow server on loopback, which may go away and come back."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._folder = folder

    def start(self) -> None:
        places = ["--backend-store-uri", f"sqlite:///{self._folder}/runs.db"]
        places += ["--artifacts-destination", f"{self._folder}/artifacts", "--workers", "1"]
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port), *places]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, process_group=0)
        for _ in range(1200):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health"):
                return
            time.sleep(0.25)
        raise AssertionError((self._folder / "server.log").read_text())

    def stop(self) -> None:
        # The server's workers are processes of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("mlflow.server", reason="mlflow-skinny has no server", exc_type=ImportError)
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
def test_a_server_that_goes_away_ends_nothing_and_later_has_all(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store = tmp_path / "store"
    (tracker,) = trackers_of(RunConfig(mlflow=server.uri), str(store), jobs(store))
    trial, (row, note, ending) = course(tmp_path / "store")
    tracker.on_trial_result(0, [], trial, row)
    server.stop()
    tracker.on_trial_result(0, [], trial, row | {"step": 40, "loss": 1.5})
    tracker.on_trial_result(0, [], trial, note)
    err = capsys.readouterr().err
    assert err.startswith("note: MLflow does not take what is logged: ")
    assert err.count("\n") == 1
    tracker.on_experiment_end([])
    assert capsys.readouterr().err == "note: MLflow lacks the last 2 reports; the store has the rows\n"

    server.start()
    tracker.on_trial_result(0, [], trial, ending)
    assert not capsys.readouterr().err, "it does not ask again so soon"
    tracker.on_experiment_end([])
    log_report(server.uri, "my_ki", "<p>report</p>")
    assert not capsys.readouterr().err
    assert_has_all(server.uri, loss=1.5)


def test_what_cannot_be_had_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r"run.tensorboard: needs a storage that is a folder"):
        trackers_of(RunConfig(tensorboard=True), "s3://bucket/folder", {})
    with pytest.raises(ConfigError, match=r"run.mlflow: 'http://127.0.0.1:9' does not answer"):
        trackers_of(RunConfig(mlflow="http://127.0.0.1:9"), str(tmp_path), {})


class OnlyNumbers:
    """A client of a server whose store of files cannot be written from here."""

    def __init__(self) -> None:
        self.runs = 0
        self.metrics: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: SimpleNamespace(experiment_id="1")

    def create_run(self, *given: Any, **named: Any) -> Any:
        self.runs += 1
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run {self.runs}"))

    def search_runs(self, *given: Any, **named: Any) -> list[Any]:
        return []

    def get_run(self, run: str) -> Any:
        return SimpleNamespace(data=SimpleNamespace(params={}))

    def log_text(self, *given: Any) -> None:
        raise PermissionError("/srv/artifacts")

    def log_metric(self, run: str, name: str, value: float, step: int) -> None:
        self.metrics.append(value)


def test_a_server_that_takes_no_files_gets_the_numbers_in_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    client = OnlyNumbers()
    monkeypatch.setattr(trackers, "mlflow_client", lambda uri: client)
    report_course(RunConfig(mlflow="http://elsewhere"), tmp_path)
    assert client.runs == 1
    assert {2.5, 51.5} <= set(client.metrics)
    assert capsys.readouterr().err == "note: MLflow takes no config.yaml: PermissionError: /srv/artifacts\n"
