"""A trial of the storage as the start of another one."""

import dataclasses
from pathlib import Path

import pytest
import torch

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.shapes import CATEGORIES
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.execution.starting_weights import require_starting_weights, starting_weights
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from tests.trial_events import run_to_end


def model_from(config: TrialConfig, name: str) -> TrialConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, detector_weights=name))


def test_a_trial_starts_from_another_one(trained: tuple[Path, TrialConfig]):
    folder, config = trained
    store = ResultStore.open(folder)
    checkpoints = CheckpointFolder(store.files, config.training_id)
    last, _ = checkpoints.require("last")
    best, _ = checkpoints.require("best")
    for name, state in ((config.trial_id, last), (f"{config.trial_id}:best", best)):
        weights = starting_weights(model_from(config, name).model, store, Worker())
        assert weights is not None
        assert weights.class_names == list(CATEGORIES.values())
        assert weights.origin == f"trial {name}"
        assert all(torch.equal(weights.state[key], value) for key, value in state["model"].items())
    assert starting_weights(config.model, store, Worker()) is None

    notes: list[str] = []
    tuned = dataclasses.replace(
        model_from(config, config.trial_id), train=dataclasses.replace(config.train, steps=1, learning_rate=1e-9)
    )
    outcome = run_to_end(
        tuned, Worker(), detector_weights=starting_weights(tuned.model, store, Worker()), on_note=notes.append
    )
    assert notes == [f"starts from trial {config.trial_id}: {len(last['model'])} of {len(last['model'])} tensors taken"]
    stored = store.trials([config.trial_id])["AP"].iloc[0]
    assert outcome.metrics["AP"] == pytest.approx(stored, abs=1e-3), "a step that hardly moves: the same detector"


def test_what_is_not_there_is_refused_before_anything_starts(trained: tuple[Path, TrialConfig]):
    folder, config = trained
    with pytest.raises(StoreError, match="holds no trial '0123456789ab'"):
        require_starting_weights(model_from(config, "0123456789ab").model, ResultStore.open(folder))
