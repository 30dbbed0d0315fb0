"""TensorBoard events and MLflow runs of a trial's course, from the results that Tune hands on. Nothing is trained."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from tensorboardX.proto.event_pb2 import Event

from dynrcnn_ray.config import RunConfig, TrialConfig
from dynrcnn_ray.config_yaml import ConfigError, to_yaml
from dynrcnn_ray.orchestration.watching import log_report, watchers_of
from dynrcnn_ray.results.store import ResultStore
from tests.results.conftest import trial_row

CONFIG = TrialConfig(seed=3)


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


def report_course(run: RunConfig, storage: Path) -> None:
    """A row, a note and the end of a trial, as Tune hands them to each watcher."""
    ResultStore.open(storage).write_trial(trial_row(CONFIG.trial_id, AP=51.5, config=to_yaml(CONFIG)))
    described = {"config": to_yaml(CONFIG), "setting": "DLA", "experiment": "my_ki", "git_commit": "abc"}
    trial: Any = SimpleNamespace(config={"trial": described})
    row = {"loss": 2.5, "step": 20, "T_now": 0.43, "beta_now": float("nan"), "trial_id": "x", "time_total_s": 3.0}
    for watcher in watchers_of(run, str(storage)):
        for result in (row, {"note": "a note"}, {"ending": "finished"}):
            watcher.on_trial_result(0, [], trial, result)


def test_tensorboard_has_the_finite_numbers_of_each_row_and_the_metrics(tmp_path: Path):
    report_course(RunConfig(tensorboard=True), tmp_path)
    found = scalars(tmp_path / "tensorboard" / CONFIG.trial_id)
    assert ("dynamics/loss", 2.5, 20) in found
    assert ("AP", 51.5, CONFIG.total_steps) in found
    assert {name for name, _, _ in found if name.startswith("dynamics/")} == {"dynamics/loss", "dynamics/T_now"}


def test_mlflow_has_configuration_course_metrics_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "runs").as_uri()
    report_course(RunConfig(mlflow=uri), tmp_path / "store")
    log_report(uri, "my_ki", "<p>report</p>")
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
    assert trial.data.metrics["dynamics/loss"] == 2.5
    assert [artifact.path for artifact in client.list_artifacts(report.info.run_id)] == ["report.html"]
    assert trial.data.tags["trial_id"] == CONFIG.trial_id


def test_what_cannot_be_had_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r"run.tensorboard: needs a storage that is a folder"):
        watchers_of(RunConfig(tensorboard=True), "s3://bucket/folder")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConfigError, match=r"run.mlflow: 'http://127.0.0.1:9' does not answer"):
        watchers_of(RunConfig(mlflow="http://127.0.0.1:9"), str(tmp_path))
