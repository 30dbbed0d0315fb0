"""Where else a running grid is logged: TensorBoard events, and an MLflow server."""

import contextlib
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from dynrcnn_ray.config.errors import innermost_line
from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.config.trial import Inputs
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, field_paths, to_yaml
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.tune_private import Trial
from dynrcnn_ray.store.metrics import METRICS
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import DYNAMICS

if TYPE_CHECKING:
    from mlflow import MlflowClient

TENSORBOARD_FOLDER = "tensorboard"
_LONGEST_VALUE = 500
"""Characters of a parameter that MLflow keeps."""
_FOR_FOLDERS = {"MLFLOW_ALLOW_FILE_STORE": "true"}
"""MLflow 3.7 and later refuse a folder without it, and the package mlflow-skinny brings nothing for a database."""
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Of MLflow's client, unless the environment says otherwise. By default it retries for minutes."""
_SECONDS_BETWEEN_TRIES = 60.0


def trackers_of(run: RunConfig, storage: str, jobs: Mapping[str, TrialJob]) -> "list[TensorBoard | MLflow]":
    """What a run asks for.

    Args:
        run: of any trial of the grid.
        storage: the store's absolute path or URI.
        jobs: what each trial does, by its id; it may grow.

    Raises:
        ConfigError: the storage is no folder of this machine, a package is not installed, or no MLflow answers.
    """
    trackers: list[TensorBoard | MLflow] = []
    if run.tensorboard:
        if "://" in storage:
            raise ConfigError("run.tensorboard: needs a storage that is a folder; leave it out, or use run.mlflow")
        trackers.append(TensorBoard(ResultStore.open(storage), Path(storage) / TENSORBOARD_FOLDER, jobs))
    if run.mlflow:
        trackers.append(MLflow(ResultStore.open(storage), mlflow_client(run.mlflow), jobs))
    return trackers


@contextlib.contextmanager
def ended(trackers: "Sequence[TensorBoard | MLflow]") -> Iterator[None]:
    """End them with the trials, also on a signal, of which Tune does not tell its callbacks."""
    try:
        yield
    finally:
        for tracker in trackers:
            tracker.end()


class TensorBoard(Callback):
    """Events of each trial in a folder of its own: the logged rows, and the metrics at its end."""

    def __init__(self, store: ResultStore, folder: Path, jobs: Mapping[str, TrialJob]) -> None:
        """Write below a folder."""
        self._store = store
        self._folder = folder
        self._jobs = jobs
        self._writers: dict[str, Any] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Write a row, or the metrics."""
        from tensorboardX import SummaryWriter

        job = self._jobs[trial.config["trial"]]
        trial_id = job.trial.trial_id
        if trial_id not in self._writers:
            self._writers[trial_id] = SummaryWriter(str(self._folder / trial_id), flush_secs=10)
        writer = self._writers[trial_id]
        for name, value, step in _scalars(self._store, job, result):
            writer.add_scalar(name, value, step)
        if "ending" in result:
            writer.close()
            del self._writers[trial_id]

    def end(self) -> None:
        """Close the files: the command ends, for whatever reason."""
        for writer in self._writers.values():
            writer.close()


class MLflow(Callback):
    """A run of each trial, in an experiment of the table's name: its configuration, its rows and its metrics."""

    def __init__(self, store: ResultStore, client: "MlflowClient", jobs: Mapping[str, TrialJob]) -> None:
        """Log to a server or a folder."""
        self._store = store
        self._client = client
        self._jobs = jobs
        self._runs: dict[str, str] = {}
        self._described: set[str] = set()
        self._open: set[str] = set()
        self._to_log: deque[tuple[TrialJob, dict[str, Any]]] = deque()
        self._asks_again_at: float | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Log a row, or the metrics. A server that does not answer costs a note, and gets all later."""
        self._to_log.append((self._jobs[trial.config["trial"]], result))
        # The grid waits for each request that fails.
        if self._asks_again_at is None or time.monotonic() >= self._asks_again_at:
            self._log_all()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Try once more to log what the server has not taken."""
        self._log_all()
        if self._to_log:
            print(f"note: MLflow lacks the last {len(self._to_log)} reports; the store has the rows", file=sys.stderr)

    def end(self) -> None:
        """Mark what still runs as killed: the command ends, for whatever reason."""
        if self._asks_again_at is not None:
            return
        # Whatever a client of HTTP and files raises.
        with contextlib.suppress(Exception):
            while self._open:
                self._client.set_terminated(self._open.pop(), "KILLED")

    def _log_all(self) -> None:
        try:
            while self._to_log:
                self._log(*self._to_log[0])
                self._to_log.popleft()
            self._asks_again_at = None
        except Exception as error:  # Whatever a client of HTTP and files raises.
            if self._asks_again_at is None:
                print(
                    f"note: MLflow does not take what is logged: {innermost_line(error, 200)}",
                    file=sys.stderr,
                    flush=True,
                )
            self._asks_again_at = time.monotonic() + _SECONDS_BETWEEN_TRIES

    def _log(self, job: TrialJob, result: dict[str, Any]) -> None:
        trial_id = job.trial.trial_id
        if trial_id not in self._runs:
            self._runs[trial_id] = self._start(job)
            self._open.add(self._runs[trial_id])
        run = self._runs[trial_id]
        if run not in self._described:
            self._describe(run, job)
            self._described.add(run)
        for name, value, step in _scalars(self._store, job, result):
            self._client.log_metric(run, name, value, step=step)
        if "ending" in result:
            self._client.set_terminated(run, "FINISHED" if result["ending"] == "finished" else "FAILED")
            self._open.discard(run)

    def _start(self, job: TrialJob) -> str:
        name = f"{job.setting}, seed {job.config.seed}"
        tags = {"trial_id": job.trial.trial_id, "git_commit": job.git_commit}
        experiment = mlflow_experiment(self._client, job.experiment)
        of_trial = f"tags.trial_id = '{job.trial.trial_id}' and attributes.status != 'FINISHED'"
        if earlier := self._client.search_runs([experiment], of_trial, max_results=1):
            # The trial goes on where an earlier command was ended, and so does its run.
            run = earlier[0].info.run_id
            self._client.update_run(run, status="RUNNING")
            return run
        return self._client.create_run(experiment, tags=tags, run_name=name).info.run_id

    def _describe(self, run: str, job: TrialJob) -> None:
        # What stands there cannot be changed: the number of workers may be another one than before.
        known = self._client.get_run(run).data.params
        for path, value in (*_fields(job.config), *_fields(job.trial.inputs, "inputs.")):
            if path in known:
                continue
            self._client.log_param(run, path, str(value)[:_LONGEST_VALUE])
        try:
            self._client.log_text(run, to_yaml(job.config), "config.yaml")
        except Exception as error:  # Whatever a client of HTTP and files raises.
            # A server that answers may keep files where this machine cannot write; it takes the numbers all the same.
            self._client.search_experiments(max_results=1)
            print(f"note: MLflow takes no config.yaml: {innermost_line(error, 200)}", file=sys.stderr, flush=True)


def mlflow_client(uri: str) -> "MlflowClient":
    """A client whose server has answered.

    Raises:
        ConfigError: the package is not installed, or nobody answers.
    """
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise ConfigError("run.mlflow: needs the package mlflow-skinny: pip install 'dynrcnn-ray[mlflow]'") from None
    for name, value in (_PATIENCE | _FOR_FOLDERS).items():
        os.environ.setdefault(name, value)
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # Whatever a client of HTTP and files raises.
        database = "; a database needs pip install sqlalchemy alembic" if isinstance(error, ImportError) else ""
        raise ConfigError(f"run.mlflow: {uri!r} does not answer ({innermost_line(error, 200)}){database}") from None
    return client


def log_report(uri: str, experiment: str, page: str) -> None:
    """Log a store's page as a run of its own. A server that does not answer costs a note and no more."""
    try:
        client = mlflow_client(uri)
        run = client.create_run(mlflow_experiment(client, experiment), run_name="report").info.run_id
        try:
            client.log_text(run, page, "report.html")
        finally:
            client.set_terminated(run)
    except Exception as error:  # Whatever a client of HTTP and files raises.
        print(f"note: MLflow does not take the report: {innermost_line(error, 200)}", file=sys.stderr, flush=True)


def mlflow_experiment(client: "MlflowClient", name: str) -> str:
    """The id of an experiment, made if it is not there."""
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


def _scalars(store: ResultStore, job: TrialJob, result: dict[str, Any]) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of what a result tells: the finite numbers of a row, the metrics of a finished trial."""
    if "loss" in result:
        step = int(result["step"])
        shown = {name: value for name, value in result.items() if name in DYNAMICS.names and name != "step"}
        yield from ((f"dynamics/{name}", float(value), step) for name, value in shown.items() if _is_number(value))
    if result.get("ending") == "finished":
        row = store.trials([job.trial.trial_id], ["trial_id", *METRICS]).to_dict("records")[0]
        yield from ((name, row[name], job.config.total_steps) for name in METRICS if _is_number(row[name]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fields(given: TrialConfig | Inputs, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for path in field_paths(given):
        value: Any = given
        for name in path.split("."):
            value = getattr(value, name)
        yield f"{prefix}{path}", value
