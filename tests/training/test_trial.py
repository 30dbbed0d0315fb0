"""The engine without Ray: a whole trial, and its resume."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models import roi_heads
from dynrcnn_ray.store.schemas import METRICS
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.loop import TrainingDivergedError
from dynrcnn_ray.training.state import TrainingState
from tests.trial_events import run_to_end

CLOCK = "images_per_second"


def without_clock(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != CLOCK} for row in rows]


def change(config: TrialConfig, **sections: dict[str, Any]) -> TrialConfig:
    replaced = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in sections.items()}
    return dataclasses.replace(config, **replaced)


@pytest.mark.slow
def test_a_trial_trains_and_evaluates(smoke: TrialConfig):
    rows: list[dict[str, Any]] = []
    outcome = run_to_end(smoke, Worker(), on_row=rows.append)
    assert outcome.metrics.keys() == set(METRICS)
    assert outcome.history == rows
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    for row in rows:
        assert all(math.isfinite(value) for name, value in row.items() if not name.startswith("shard_"))
        assert (row["shard_T_now"], row["shard_beta_now"]) == ([row["T_now"]] * 2, [row["beta_now"]] * 2)
        assert row["loss"] == pytest.approx(sum(value for name, value in row.items() if name.startswith("loss_")))
        assert row["positives_iou50"] >= row["positives_iou70"] >= row["positives_iou90"] > 0
        assert 0 < row["positives"] <= 32


@pytest.mark.slow
def test_a_resumed_trial_is_the_uninterrupted_one(smoke: TrialConfig, tmp_path: Path):
    """Step 5 lies in the middle of an interval of 4 steps and between two rows."""

    def checkpoint_into(folder: Path):
        def save(state: TrainingState, _is_best: bool) -> None:
            (folder / str(state.step)).mkdir(parents=True)
            torch.save(state.state_dict(), folder / str(state.step) / "state.pt")

        return save

    whole = run_to_end(smoke, Worker(), on_checkpoint=checkpoint_into(tmp_path / "whole"))
    resumed = run_to_end(
        smoke,
        Worker(),
        checkpoint=torch.load(tmp_path / "whole" / "5" / "state.pt", weights_only=True),
        on_checkpoint=checkpoint_into(tmp_path / "resumed"),
    )
    assert resumed.metrics == whole.metrics
    assert without_clock(resumed.history) == without_clock(whole.history)
    ends = [torch.load(tmp_path / name / "10" / "state.pt", weights_only=True) for name in ("whole", "resumed")]
    for name, value in ends[0]["model"].items():
        assert torch.equal(value, ends[1]["model"][name]), name
    for name in ("values", "records"):
        assert torch.equal(ends[0]["dynamic"][name], ends[1]["dynamic"][name])


@pytest.mark.slow
def test_mixed_precision_trains(smoke: TrialConfig):
    outcome = run_to_end(change(smoke, train={"precision": "bfloat16", "steps": 4}), Worker())
    assert math.isfinite(outcome.history[-1]["loss"])


def test_a_loss_that_is_not_finite_stops_the_trial_with_its_terms(smoke: TrialConfig):
    with pytest.raises(TrainingDivergedError, match=r"not finite at step \d+: loss_classifier .* T_now"):
        run_to_end(change(smoke, train={"learning_rate": 1e8}), Worker())


def test_a_loss_that_explodes_and_stays_finite_is_said_once(smoke: TrialConfig, monkeypatch: pytest.MonkeyPatch):
    of_the_package = roi_heads.box_losses

    def exploding(*given: Any) -> dict[str, torch.Tensor]:
        return {name: 1e9 * loss for name, loss in of_the_package(*given).items()}

    monkeypatch.setattr(roi_heads, "box_losses", exploding)
    config = change(smoke, train={"steps": 3, "learning_rate": 1e-12}, run={"log_every": 1})
    notes: list[str] = []
    run_to_end(config, Worker(), on_note=notes.append)
    assert len(notes) == 1
    assert "at step 1: the training has diverged, its numbers mean nothing" in notes[0]
