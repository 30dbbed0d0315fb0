"""The driver of one trial: a Tune trainable that has a TorchTrainer train it and writes what came out into the store.

Several workers are processes of Ray Train. One worker that is not elastic trains in the driver's own process, by Ray
Train's local mode: the same function, without the 15 to 20 seconds of CPU time that starting processes takes.
"""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ray import train, tune
from ray.exceptions import RayActorError, RayTaskError

from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.alive import signs_of_life
from dynrcnn_ray.execution.callbacks import FailedStarts, Reports
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.execution.cluster import DRIVER_RESOURCES
from dynrcnn_ray.execution.failures import TrialFailure, failure_of, lost_process
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.nodes import require_marker
from dynrcnn_ray.execution.ray_private import free_places_of_the_dead
from dynrcnn_ray.execution.temporary import scratch_folder
from dynrcnn_ray.execution.tune_private import torch_trainer
from dynrcnn_ray.store.results_store import ResultStore

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

_FROM_OUTCOME = (
    "train_seconds",
    "eval_seconds",
    "kept_iou_updates",
    "kept_beta_updates",
    "workers_at_end",
    "packages",
    "hardware",
)

# Ray Train asks for a worker group's place again after each minute in vain, by default. It must: after the death of a
# node it first asks for as many workers as before, and an elastic trial gets by with fewer only when asked anew.
_MINUTES_TO_WAIT_FOR_NODES = 24 * 60


def driver_resources(run: RunConfig) -> dict[str, float]:
    """What a driver holds: a worker's resources where that trains in its process, else a share of the head node."""
    return {"cpu": run.cpus_per_worker, "gpu": run.gpu} if run.is_local else DRIVER_RESOURCES


def drive_trial(job: TrialJob) -> None:
    """Run one trial to its row in the store, be it finished or failed.

    Args:
        job: the trial, and where its results go.

    Raises:
        Exception: whatever the training raised in this process, unless another attempt would only repeat it. Tune then
            ends the process, and takes another one for the next attempt and for other trials.
    """
    store = ResultStore.open(job.storage)
    require_marker(store.files, job.marker)
    started = time.time()
    running = _row(job) | {"status": "running"}
    store.write_running(running)
    try:
        with signs_of_life(store, job.trial.trial_id):
            outcome: dict[str, Any] = fit(job.trial, _train_worker, {"job": job, "row": running})
    except Exception as error:
        is_controllers = isinstance(error, RayActorError)
        failure = lost_process("Ray Train's controller", error) if is_controllers else failure_of(error)
        if not (failure.would_repeat or isinstance(error, train.TrainingFailedError)):
            tune.report({"note": f"interrupted: {failure.reason}"})
            raise
        ended = _write_failure(store, job, failure, wall_seconds=time.time() - started)
        tune.report({"ending": failure.reason if ended else "finished"})
    else:
        require_marker(store.files, job.marker)
        _write_course(store, job.trial, outcome)
        ending = _finished(outcome) | {"startup_seconds": outcome["training_began_at"] - started}
        store.write_trial(_row(job) | {"wall_seconds": time.time() - started} | ending)
        tune.report({"ending": "finished"})


def record_lost_driver(job: TrialJob, error: Exception | str) -> None:
    """Write the row of a trial whose driver ended without writing one, by an error or with its process.

    Args:
        job: the trial.
        error: what Tune knows of its end, as in `failure_of`.
    """
    store = ResultStore.open(job.storage)
    failure = failure_of(error)
    if not isinstance(error, RayTaskError | TrialFailure):
        failure = TrialFailure(f"the trial's driver ended: {failure.reason}", failure.traceback)
    _write_failure(store, job, failure)


def _write_failure(store: ResultStore, job: TrialJob, failure: TrialFailure, **measured: float) -> bool:
    """Write the row of a failed trial; not over that of another command's driver, which has finished the same trial.

    Returns:
        Whether it was written.

    Raises:
        StoreError: the storage is not there any more, or cannot be written.
    """
    require_marker(store.files, job.marker)
    trial_id = job.trial.trial_id
    if "finished" in store.trials([trial_id], ["trial_id", "status"])["status"].tolist():
        store.drop_running(trial_id)
        return False
    store.write_trial(_row(job) | measured | _failed(store, job.trial, failure))
    return True


def fit(trial: Trial, work: Callable[[dict], dict[str, Any]], payload: dict[str, Any]) -> dict[str, Any]:
    """Have the trial's workers do something with the payload.

    Returns:
        What the first worker returned.

    Raises:
        TrainingFailedError: a worker failed more often than the trial allows.
    """
    # Those of a driver that was killed: its trial, or the next one, finds its places free.
    free_places_of_the_dead()
    reports = None if trial.config.run.is_local else Reports()
    # Ray's own files of a run are of no use afterwards: checkpoints and results go to the storage.
    with scratch_folder() as scratch:
        try:
            outcome: Any = _trainer(trial, work, payload, scratch, reports).fit().return_value
        finally:
            # A trial that runs at the same time may wait for those of this one's controller.
            free_places_of_the_dead()
            if reports:
                reports.wait_until_taken()
    assert isinstance(outcome, dict), "the first worker returned no outcome"
    return outcome


def _train_worker(payload: dict[str, Any]) -> dict[str, Any]:
    # Imported late: torchvision takes seconds, and a driver that does not train has no need of it.
    from dynrcnn_ray.execution.worker import train_worker

    return train_worker(payload)


def _trainer(
    trial: Trial,
    work: Callable[[dict], dict[str, Any]],
    payload: dict[str, Any],
    scratch: str,
    reports: Reports | None,
) -> "TorchTrainer":
    run = trial.config.run
    resources: dict[str, float] = {"CPU": run.cpus_per_worker}
    num_workers = 0 if run.is_local else (run.min_workers, run.num_workers) if run.min_workers else run.num_workers
    return torch_trainer(
        work,
        train_loop_config=payload,
        scaling_config=train.ScalingConfig(
            num_workers=num_workers,
            use_gpu=run.gpu > 0,
            resources_per_worker=resources | ({"GPU": run.gpu} if run.gpu else {}),
        ),
        run_config=train.RunConfig(
            name=trial.trial_id,
            storage_path=scratch,
            failure_config=train.FailureConfig(
                max_failures=run.max_failures, controller_failure_limit=_MINUTES_TO_WAIT_FOR_NODES
            ),
            # Ray Train takes its own kind of callbacks too, though the type does not say so. Its local mode calls none,
            # and to make the first starts a process.
            callbacks=[reports, FailedStarts(at_most=run.max_failures)] if reports else [],  # pyright: ignore[reportArgumentType]
        ),
    )


def _write_course(store: ResultStore, trial: Trial, outcome: dict[str, Any]) -> None:
    trial_id = trial.trial_id
    store.write_dynamics(trial_id, outcome["history"])
    if outcome["proposals"]:
        store.write_proposals(trial_id, outcome["proposals"])
    if outcome["statistics"]:
        store.write_statistics(trial_id, outcome["statistics"])
    store.write_detections(trial_id, outcome["detections"])
    if store.images(trial.inputs.data).empty:
        store.write_images(trial.inputs.data, outcome["example_images"])


def _row(job: TrialJob) -> dict[str, Any]:
    config = job.config
    return {
        "trial_id": job.trial.trial_id,
        "experiment": job.experiment,
        "setting": job.setting,
        "seed": config.seed,
        "scale": config.scale,
        "steps": config.total_steps,
        "num_workers": config.run.num_workers,
        "config": to_stored(job.trial),
        "git_commit": job.git_commit,
        "finished_at": datetime.now(UTC),
    }


def _finished(outcome: dict[str, Any]) -> dict[str, Any]:
    history = outcome["history"]
    return {
        "status": "finished",
        **outcome["metrics"],
        "final_T_now": history[-1]["T_now"],
        "final_beta_now": history[-1]["beta_now"],
        "final_positives": history[-1]["positives"],
        "train_images_per_second": statistics.median(row["images_per_second"] for row in history),
        **{name: outcome[name] for name in _FROM_OUTCOME},
    }


def _failed(store: ResultStore, trial: Trial, failure: TrialFailure) -> dict[str, Any]:
    steps = CheckpointFolder(store.files, trial.training_id).steps()
    return {
        "status": "failed",
        "error": failure.reason,
        "traceback": failure.traceback or None,
        "last_good_step": steps[-1] if steps else None,
    }
