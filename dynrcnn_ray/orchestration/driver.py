"""The driver of one trial: a Tune trainable that runs a TorchTrainer and writes what came out into the store."""

import statistics
import tempfile
import time
from datetime import UTC, datetime
from typing import Any

from ray import train, tune
from ray.exceptions import RayActorError
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from dynrcnn_ray.config import TrialConfig, from_yaml
from dynrcnn_ray.orchestration.checkpoints import CheckpointFolder
from dynrcnn_ray.orchestration.worker import train_worker
from dynrcnn_ray.results.store import ResultStore

_FROM_OUTCOME = (
    "train_seconds",
    "eval_seconds",
    "kept_iou_updates",
    "kept_beta_updates",
    "packages",
    "hardware",
)


def drive_trial(trial: dict[str, str]) -> None:
    """Run one trial to its row in the store, be it finished or failed.

    Args:
        trial: `config` (YAML), `experiment`, `setting`, `storage` and `git_commit`.
    """
    config = from_yaml(trial["config"])
    store = ResultStore.open(trial["storage"])
    started = time.time()
    # Ray's own files of a run are of no use afterwards: checkpoints and results go to the storage.
    with tempfile.TemporaryDirectory(prefix="dynrcnn_ray_") as scratch:
        try:
            returned: Any = _trainer(config, trial, scratch).fit().return_value
            assert isinstance(returned, dict), "the first worker returned no outcome"
            outcome: dict[str, Any] = returned
        except (train.TrainingFailedError, RayActorError) as error:
            outcome = {"failure": _reason(error)}
    if "failure" in outcome:
        steps = CheckpointFolder(store, config.training_id).steps()
        ending = {"status": "failed", "error": outcome["failure"], "last_good_step": steps[-1] if steps else None}
    else:
        _write_course(store, config, outcome)
        ending = _finished(outcome) | {"startup_seconds": outcome["training_began_at"] - started}
    store.write_trial(_row(config, trial, started) | ending)
    tune.report({"ending": ending["status"] if ending["status"] == "finished" else ending["error"]})


def _trainer(config: TrialConfig, trial: dict[str, str], scratch: str) -> TorchTrainer:
    run = config.run
    resources: dict[str, float] = {"CPU": run.cpus_per_worker}
    return TorchTrainer(
        train_worker,
        train_loop_config={"config": trial["config"], "storage": trial["storage"]},
        scaling_config=train.ScalingConfig(
            num_workers=(run.min_workers, run.num_workers) if run.min_workers else run.num_workers,
            use_gpu=run.gpu,
            resources_per_worker=resources | ({"GPU": 1} if run.gpu else {}),
        ),
        run_config=train.RunConfig(
            name=config.trial_id,
            storage_path=scratch,
            failure_config=train.FailureConfig(max_failures=run.max_failures, controller_failure_limit=0),
            callbacks=[TuneReportCallback()],
        ),
    )


def _write_course(store: ResultStore, config: TrialConfig, outcome: dict[str, Any]) -> None:
    store.write_dynamics(config.trial_id, outcome["history"])
    if outcome["proposals"]:
        store.write_proposals(config.trial_id, outcome["proposals"])
    store.write_detections(config.trial_id, outcome["detections"])
    if store.images(config.data.fingerprint).empty:
        store.write_images(config.data.fingerprint, outcome["example_images"])


def _row(config: TrialConfig, trial: dict[str, str], started: float) -> dict[str, Any]:
    return {
        "trial_id": config.trial_id,
        "experiment": trial["experiment"],
        "setting": trial["setting"],
        "seed": config.seed,
        "scale": config.scale,
        "steps": config.total_steps,
        "num_workers": config.run.num_workers,
        "config": trial["config"],
        "git_commit": trial["git_commit"],
        "wall_seconds": time.time() - started,
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


def _reason(error: Exception) -> str:
    """The first worker's exception in one line."""
    failures = getattr(error, "worker_failures", {})
    cause = next(iter(failures.values()), error)
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:500]
