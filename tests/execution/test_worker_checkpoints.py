"""What a worker tells of its checkpoints, without Ray around it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.execution import worker as of_ray
from dynrcnn_ray.execution.checkpoints import decode
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.preemption import WATCHER
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.inference import detect_all, metrics_of
from dynrcnn_ray.training.state import load_trained
from tests.prepared import prepared


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the one worker reports."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(of_ray, "this_worker", lambda _config: (Worker(), told.append))
    monkeypatch.setenv(WATCHER, "0")
    return told


def train(config: TrialConfig, storage: Path) -> None:
    row = {
        "trial_id": prepared(config).trial_id,
        "experiment": "train",
        "setting": "trial",
        "seed": 0,
        "scale": "smoke",
    }
    row |= {"status": "running", "steps": 9, "num_workers": 1, "config": to_stored(prepared(config))}
    of_ray.train_worker({"job": TrialJob(prepared(config), "train", "trial", str(storage)), "row": row})


@pytest.mark.slow
def test_what_comes_after_a_resume_is_told_what_came_before(
    smoke: TrialConfig, tmp_path: Path, told: list[dict[str, Any]]
):
    """ASHA would put a trial that goes on from step 6 among those of step 3."""
    run = dataclasses.replace(smoke.run, log_every=3, checkpoint_every=3, keep_checkpoints=9, evaluate_checkpoints=True)
    config = dataclasses.replace(smoke, run=run, train=dataclasses.replace(smoke.train, steps=9))
    of_checkpoints = []
    for last in ("step_00000009.pt", "none"):
        train(config, tmp_path)
        of_checkpoints.append([each for each in told if "checkpoint_AP" in each])
        (tmp_path / "checkpoints" / prepared(config).training_id / last).unlink(missing_ok=True)
        told.clear()
    assert [each["step"] for each in of_checkpoints[0]] == [3, 6]
    assert of_checkpoints[1] == of_checkpoints[0]


@pytest.mark.slow
def test_each_checkpoint_is_told_with_its_own_ap_also_before_and_between_the_logged_rows(
    smoke: TrialConfig, tmp_path: Path, told: list[dict[str, Any]]
):
    """At so low a rate the detector keeps its first weights, whose AP is not zero."""
    run = dataclasses.replace(smoke.run, log_every=4, checkpoint_every=3, keep_checkpoints=9, evaluate_checkpoints=True)
    config = dataclasses.replace(smoke, run=run, train=dataclasses.replace(smoke.train, steps=9, learning_rate=1e-9))
    train(config, tmp_path)
    of_checkpoints = {each["step"]: each["checkpoint_AP"] for each in told if "checkpoint_AP" in each}
    assert list(of_checkpoints) == [3, 6], "the last checkpoint is the trial's end"
    split = CocoDataset(config.data.root, "val")
    for step, average_precision in of_checkpoints.items():
        content = (tmp_path / "checkpoints" / prepared(config).training_id / f"step_{step:08d}.pt").read_bytes()
        checkpoint = decode(content)
        model = load_trained(
            prepared(config), len(split.class_names), Worker(), checkpoint, prepared(config).training_id
        )
        expected = metrics_of(config, split, detect_all(config, model, split, Worker()))["AP"]
        assert expected
        assert average_precision == expected
