"""A store that holds one trained smoke trial, as a command leaves it, without Ray."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.config_yaml import to_yaml
from dynrcnn_ray.engine.collectives import Worker
from dynrcnn_ray.engine.training import TrainingState
from dynrcnn_ray.engine.trial import run_trial
from dynrcnn_ray.orchestration.checkpoints import CheckpointFolder
from dynrcnn_ray.results.store import ResultStore


def train_into(folder: Path, config: TrialConfig) -> TrialConfig:
    """Train a trial, evaluating its checkpoints, and write all that later commands read.

    Returns:
        The trial as it is in the store.
    """
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, evaluate_checkpoints=True))
    store = ResultStore.open(folder)
    checkpoints = CheckpointFolder(store.files, config.training_id)

    def save(state: TrainingState, is_best: bool) -> None:
        checkpoints.save(state.state_dict(), state.step, is_best=is_best, keep=2)

    outcome = run_trial(config, Worker(), on_checkpoint=save)
    store.write_dynamics(config.trial_id, outcome.history)
    store.write_detections(config.trial_id, outcome.detections)
    store.write_images(config.data.fingerprint, outcome.example_images)
    store.write_trial(
        {
            "trial_id": config.trial_id,
            "experiment": "train",
            "setting": "trial",
            "seed": config.seed,
            "scale": config.scale,
            "status": "finished",
            **outcome.metrics,
            "steps": config.total_steps,
            "num_workers": 1,
            "config": to_yaml(config),
            "finished_at": datetime.now(UTC),
        }
    )
    return config
