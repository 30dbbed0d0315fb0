"""One worker of a trial: the engine's trial, with checkpoints in the storage and reports to Ray around it."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray import tune

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.checkpoints import CheckpointFolder, decode
from dynrcnn_ray.execution.failures import failure_in_worker
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.nodes import require_marker
from dynrcnn_ray.execution.preemption import preempted_nodes
from dynrcnn_ray.execution.starting_weights import starting_weights
from dynrcnn_ray.experiment.costs import duration, seconds_left
from dynrcnn_ray.experiment.experiment import SINGLE_TRIAL
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker, broadcast_bytes_from_first, broadcast_from_first
from dynrcnn_ray.training.environment import describe_hardware, package_versions, require_gpu
from dynrcnn_ray.training.events import CheckpointDue, Finished, Logged, Note, Timed
from dynrcnn_ray.training.outcome import TrialOutcome
from dynrcnn_ray.training.state import CheckpointError
from dynrcnn_ray.training.telemetry import DynamicsRow
from dynrcnn_ray.training.trial import run_trial

Report = Callable[[dict[str, Any]], None]


def train_worker(payload: dict[str, Any]) -> dict[str, Any]:
    """Run a trial as this Ray Train worker, from its newest checkpoint in the storage.

    Args:
        payload: `job`, a `TrialJob`, and `row`: that of the running trial, which the first worker renews.

    Returns:
        The outcome as plain values, with what it ran on. Ray hands on the first worker's.

    Raises:
        TrialFailure: whatever went wrong, as plain values.
    """
    try:
        return _train(payload)
    except Exception as error:
        raise failure_in_worker(error) from None


def _train(payload: dict[str, Any]) -> dict[str, Any]:
    job: TrialJob = payload["job"]
    config = job.config
    worker, report = this_worker(config)
    store = ResultStore.open(job.storage)
    if worker.is_first:
        require_marker(store.files, job.marker)
    checkpoints = CheckpointFolder(store.files, job.trial.training_id)
    checkpoint, notes = agreed_checkpoint(checkpoints, worker)
    history: list[DynamicsRow] = [] if checkpoint is None else list(checkpoint["history"])
    nodes_to_go = preempted_nodes(is_local=config.run.is_local)
    known_to_go: set[str] = set()
    for note in notes:
        report({"note": note})
    for row in history:
        # A scheduler that judges by them knows nothing of those before the resume.
        if row.get("AP") is not None and row["step"] < config.total_steps:
            report({"checkpoint_AP": row["AP"], "step": row["step"]})
    weights = starting_weights(job.trial, store, worker) if checkpoint is None else None
    outcome: TrialOutcome | None = None
    try:
        for event in run_trial(job.trial, worker, checkpoint=checkpoint, detector_weights=weights):
            match event:
                case Note(text):
                    report({"note": text})
                case Timed():
                    if job.experiment == SINGLE_TRIAL and config.data.is_given:
                        report({"note": _how_long(config, event)})
                case Logged(row):
                    history.append(row)
                    report(dict(row))
                    if new := nodes_to_go() - known_to_go:
                        known_to_go |= new
                        report({"note": "a node is about to be taken back: a checkpoint is made at once"})
                        event.wants_checkpoint = True
                case CheckpointDue(state, is_best=is_best):
                    # All take part, as each holds a part of the state; the first worker writes.
                    contents = state.state_dict()
                    if worker.is_first:
                        # A folder whose mount has gone would take all that is written.
                        require_marker(store.files, job.marker)
                        checkpoints.save(contents, state.step, is_best=is_best, keep=config.run.keep_checkpoints)
                        store.write_dynamics(job.trial.trial_id, history)
                        now = {"last_good_step": state.step, "finished_at": datetime.now(UTC)}
                        store.write_running(payload["row"] | now)
                    if state.checkpoint_average_precision is not None and state.step < config.total_steps:
                        # Every worker reports, as Ray Train demands; the first one's counts.
                        report({"checkpoint_AP": state.checkpoint_average_precision, "step": state.step})
                case Finished(outcome):
                    pass
    except Exception as error:
        if worker.is_first and history:
            # The failure itself is what has to be told.
            with contextlib.suppress(StoreError):
                require_marker(store.files, job.marker)
                store.write_dynamics(job.trial.trial_id, history)
        if isinstance(error, CheckpointError):
            raise CheckpointError(f"{checkpoints.described}: {error}") from None
        raise
    assert outcome, "a trial ends by finishing, or raises"
    return {
        **asdict(outcome),
        "workers_at_end": worker.world_size,
        "packages": package_versions(worker.device),
        "hardware": describe_hardware(worker.device),
    }


def _how_long(config: TrialConfig, timed: Timed) -> str:
    """How long a trial takes here, told when its first steps were measured."""
    seconds = seconds_left(config, timed.seconds, timed.steps_left, timed.validation_images)
    return (
        f"takes about {duration(seconds)} here: {timed.steps_left} steps of {config.train.global_batch} images at "
        f"{timed.seconds:.2g} s each, as {timed.steps} of the first ones took, and an evaluation on "
        f"{timed.validation_images} images, which are tested some three times as fast"
    )


def this_worker(config: TrialConfig) -> tuple[Worker, Report]:
    """Which of a trial's workers this process is, and where its reports go.

    Raises:
        DeviceError: the trial asks for a GPU, and there is none that can be used.
    """
    if config.run.gpu:
        require_gpu()
    torch.set_num_threads(config.run.threads_per_worker)
    # From torch, as Ray Train's context may not be asked in a driver's process, which is Tune's.
    worker = Worker.of_this_process(ray.train.torch.get_device())
    # For the same reason reports go to Tune itself there.
    return worker, tune.report if config.run.is_local else ray.train.report


def agreed_checkpoint(checkpoints: CheckpointFolder, worker: Worker) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest training state that the first worker can read, on every worker, and notes on what it passed over.

    The others never look: their node may not see the storage, or see another state of it. And a report that not all
    workers make would never end.
    """
    notes: list[str] = []
    found = checkpoints.newest_with_content(on_damaged=notes.append) if worker.is_first else None
    state, content = found or (None, None)
    content = broadcast_bytes_from_first(content, worker)
    if state is None and content is not None:
        state = decode(content)
    return state, broadcast_from_first(notes, worker)
