"""A store that holds one trained trial, as a command leaves it, without Ray."""

from datetime import UTC, datetime
from pathlib import Path

from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import TrainingState
from tests.prepared import prepared
from tests.trial_events import run_to_end


def train_into(folder: str | Path, of: TrialConfig | Trial) -> None:
    """Train a trial in this process and write all that later commands read; the folder may be a URI too."""
    train_as(Worker(), folder, of)


def train_as(worker: Worker, folder: str | Path, of: TrialConfig | Trial) -> None:
    """The same as one of its workers."""
    store, trial = ResultStore.open(folder), of if isinstance(of, Trial) else prepared(of)
    config = trial.config
    checkpoints = CheckpointFolder(store.files, trial.training_id)

    def save(state: TrainingState, is_best: bool) -> None:
        contents = state.state_dict()
        if worker.is_first:
            checkpoints.save(contents, state.step, is_best=is_best, keep=2)

    outcome = run_to_end(trial, worker, on_checkpoint=save)
    if not worker.is_first:
        return
    store.write_dynamics(trial.trial_id, outcome.history)
    if outcome.proposals:
        store.write_proposals(trial.trial_id, outcome.proposals)
    if outcome.statistics:
        store.write_statistics(trial.trial_id, outcome.statistics)
    store.write_detections(trial.trial_id, outcome.detections)
    store.write_images(trial.inputs.data, outcome.example_images)
    store.write_trial(
        {
            "trial_id": trial.trial_id,
            "experiment": "train",
            "setting": "trial",
            "seed": config.seed,
            "scale": config.scale,
            "status": "finished",
            **outcome.metrics,
            "final_T_now": outcome.history[-1]["T_now"],
            "final_beta_now": outcome.history[-1]["beta_now"],
            "steps": config.total_steps,
            "num_workers": worker.world_size,
            "config": to_stored(trial),
            "finished_at": datetime.now(UTC),
        }
    )
