"""A trial of the storage as the start of another one."""

import dataclasses
import io
import shutil
from pathlib import Path

import pytest
import torch

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.shapes import CATEGORIES
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.execution.starting_weights import require_starting_weights, starting_weights
from dynrcnn_ray.execution.stored_trial import with_trial_id
from dynrcnn_ray.options.shared import RunOptions
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from tests.prepared import prepared
from tests.stored_table import plan_row, trial_row
from tests.trial_events import run_to_end


def model_from(config: TrialConfig, name: str) -> TrialConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, detector_weights=name))


@pytest.mark.slow
def test_a_trial_starts_from_another_one(trained: tuple[Path, TrialConfig]):
    folder, config = trained
    store = ResultStore.open(folder)
    checkpoints = CheckpointFolder(store.files, prepared(config).training_id)
    last, _ = checkpoints.require("last", last_step=config.total_steps)
    best, _ = checkpoints.require("best", last_step=config.total_steps)
    half, _ = checkpoints.require(5, last_step=config.total_steps)
    for name, state in (
        (prepared(config).trial_id, last),
        (f"{prepared(config).trial_id}:best", best),
        (f"{prepared(config).trial_id}:5", half),
    ):
        weights = starting_weights(prepared(model_from(config, name)), store, Worker())
        assert weights is not None
        assert weights.class_names == list(CATEGORIES.values())
        assert weights.origin == f"trial {name}"
        assert all(torch.equal(weights.state[key], value) for key, value in state["model"].items())
    assert starting_weights(prepared(config), store, Worker()) is None

    notes: list[str] = []
    tuned = dataclasses.replace(
        model_from(config, prepared(config).trial_id),
        train=dataclasses.replace(config.train, steps=1, learning_rate=1e-9),
    )
    outcome = run_to_end(
        tuned, Worker(), detector_weights=starting_weights(prepared(tuned), store, Worker()), on_note=notes.append
    )
    assert notes == [
        f"starts from trial {prepared(config).trial_id}: {len(last['model'])} of {len(last['model'])} tensors taken"
    ]
    stored = store.trials([prepared(config).trial_id])["AP"].iloc[0]
    assert outcome.metrics["AP"] == pytest.approx(stored, abs=1e-3), "a step that hardly moves: the same detector"


def test_no_trial_starts_from_another_step_or_trial_than_it_names(
    trained: tuple[Path, TrialConfig], tmp_path: Path, smoke: TrialConfig
):
    """Its id says which weights it trained from."""
    config = trained[1]
    shutil.copytree(trained[0], tmp_path / "store")
    store = ResultStore.open(tmp_path / "store")
    folder = tmp_path / "store" / "checkpoints" / prepared(config).training_id
    last = folder / f"step_{config.total_steps:08d}.pt"
    content = last.read_bytes()
    last.unlink()
    trial = prepared(model_from(config, prepared(config).trial_id))
    with pytest.raises(
        StoreError, match=r"of step 10 \(the trial's last\) is missing; .*--model\.detector-weights TRIAL:5"
    ):
        require_starting_weights(trial, store)
    require_starting_weights(prepared(model_from(config, f"{prepared(config).trial_id}:5")), store)
    foreign = torch.load(io.BytesIO(content), weights_only=True) | {"training_id": "another"}
    torch.save(foreign, last)
    with pytest.raises(StoreError, match=f"is of training 'another', not of '{prepared(config).training_id}'"):
        require_starting_weights(trial, store)


def test_what_is_not_there_is_refused_before_anything_starts(trained: tuple[Path, TrialConfig]):
    folder, config = trained
    with pytest.raises(StoreError, match="holds no trial '0123456789ab'"):
        require_starting_weights(prepared(model_from(config, "0123456789ab")), ResultStore.open(folder))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", ""),
        ("coco", "coco"),
        ("last", "0123456789ab"),
        ("0123:500", "0123456789ab:500"),
        ("best:table3:best", "0123456789ab:best"),
        ("best:table3", "0123456789ab"),
        ("0123456789ab", "0123456789ab"),
        ("ffffffffffff:best", "ffffffffffff:best"),
        ("some/file.pth", "some/file.pth"),
    ],
)
def test_a_trial_to_start_from_is_named_as_elsewhere(tmp_path: Path, given: str, meant: str):
    """The configuration has the whole id, which is what the new trial's own id is made of."""
    store = ResultStore.open(tmp_path)
    store.write_trial(trial_row("0123456789ab"))
    store.write_plan("table3", [plan_row(0, trial_id="0123456789ab")])
    options = RunOptions(storage=str(tmp_path), model=ModelConfig(detector_weights=given))
    assert with_trial_id(options).model.detector_weights == meant


def test_a_beginning_that_no_trial_has_is_refused(tmp_path: Path):
    options = RunOptions(storage=str(tmp_path), model=ModelConfig(detector_weights="abc:best"))
    with pytest.raises(StoreError, match="holds no trial 'abc'"):
        with_trial_id(options)
