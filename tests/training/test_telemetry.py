"""Rows of the dynamics: what was in force in their step, and every image with the same weight."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dynrcnn_ray.config.shares import images_of_shard
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.training.collectives import Worker, all_reduce_sum
from dynrcnn_ray.training.telemetry import BOX_WEIGHTS, Telemetry
from tests.dynamic.cases import EVERY_CONVENTION, KINDS, appended, assigned, make_config, random_image
from tests.processes import run_workers
from tests.trial_events import run_to_end

BATCH, SHARDS = 6, 3
LOSSES = [1.0, 2.0, 4.0, 0.5, 3.0, 0.25]
"""One an image. A shard's loss is the mean over its images, as a model gives it."""


def row_of_worker(worker: Worker) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    config = make_config(global_batch=BATCH, shards=SHARDS)
    own_shards = worker.shards(config)
    dynamic = DynamicTrainingState(config, own_shards=own_shards)
    images = [assigned(random_image(rng, KINDS[0]), dynamic.iou_threshold) for _ in range(BATCH)]
    telemetry = Telemetry(("loss_classifier",), config, worker)
    assignments = {}
    for shard in own_shards:
        part = images_of_shard(BATCH, SHARDS, shard)
        assignments[shard] = images[part]
        losses = {"loss_classifier": torch.tensor(LOSSES[part]).mean()}
        telemetry.add(shard, losses, assignments[shard], len(assignments[shard]))
    telemetry.end_step()
    row = telemetry.row(1, 0.1, dynamic, assignments, all_reduce_sum)
    return {name: value for name, value in row.items() if name != "images_per_second"}


def save_row(worker: Worker, folder: Path) -> None:
    torch.save(row_of_worker(worker), folder / f"{worker.rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_three_shards_over_some_workers_give_the_row_of_one_worker(workers: int, tmp_path: Path):
    run_workers(save_row, workers, tmp_path, tmp_path)
    alone = row_of_worker(Worker())
    assert alone["loss"] == pytest.approx(sum(LOSSES) / BATCH)
    assert alone["shard_T_now"] == [pytest.approx(0.4)] * SHARDS
    assert alone["shard_beta_now"] == [1.0] * SHARDS
    for rank in range(workers):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == alone


def test_a_row_and_its_proposals_hold_what_was_in_force_in_their_step(smoke: TrialConfig):
    """Every step but the first follows an update here, and every step has a row."""
    dynamic = dataclasses.replace(smoke.dynamic, update_interval=1, initial_iou=0.05)
    run = dataclasses.replace(smoke.run, log_every=1)
    train = dataclasses.replace(smoke.train, steps=6)
    outcome = run_to_end(dataclasses.replace(smoke, dynamic=dynamic, run=run, train=train), Worker())
    assert [outcome.history[0][name] for name in ("T_now", "beta_now")] == [pytest.approx(0.05), 1.0]
    assert outcome.history[1]["T_now"] == pytest.approx(outcome.history[0]["iou_at_rank"], rel=1e-6)
    for row in outcome.history:
        of_step = outcome.proposals["step"] == row["step"]
        assert set(outcome.proposals["iou_threshold"][of_step]) <= {np.float32(row["T_now"])}
        assert row["shard_T_now"] == [row["T_now"]] * smoke.train.shards


@EVERY_CONVENTION
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize(
    "kinds", [("no_gt", "no_gt", "ordinary"), ("ordinary", "no_gt", "no_positive"), ("no_gt",), ("ordinary",)]
)
def test_a_row_holds_what_algorithm_1_records_of_its_step(convention: str, counted: bool, kinds: tuple[str, ...]):
    """Also with images without objects, which two conventions count in their ranks."""
    rng = np.random.default_rng(3)
    config = make_config(global_batch=len(kinds), convention=convention, count_ground_truths=counted, beta_top_k=24)
    dynamic = DynamicTrainingState(config)
    images = [assigned(appended(random_image(rng, kind)), dynamic.iou_threshold) for kind in kinds]
    telemetry = Telemetry(("loss_classifier",), config, Worker())
    telemetry.add(0, {"loss_classifier": torch.tensor(1.0)}, images, len(kinds))
    telemetry.end_step()
    dynamic.record(dynamic.measure(images, BOX_WEIGHTS))
    ious, errors, valid = dynamic.state_dict()["records"][:, 0]
    row = telemetry.row(1, 0.1, dynamic, {0: images}, all_reduce_sum)
    for name, values in (("iou_at_rank", ious), ("error_at_rank", errors)):
        expected = values[valid > 0].mean().item()
        assert row[name] == pytest.approx(expected, rel=1e-6, nan_ok=True), name
    assert np.isfinite(row["iou_at_rank"]) == ("ordinary" in kinds)


@pytest.mark.slow
def test_recorded_statistics_are_those_of_the_rows(smoke: TrialConfig):
    run = dataclasses.replace(smoke.run, log_every=1, record_statistics=True)
    outcome = run_to_end(dataclasses.replace(smoke, run=run), Worker())
    for row in outcome.history[:8]:
        of_step = outcome.statistics["step"] == row["step"]
        assert np.nanmean(outcome.statistics["iou"][of_step]) == pytest.approx(row["iou_at_rank"], rel=1e-5)
    # The last update is that of step 8, at an interval of 4.
    assert outcome.statistics["step"].tolist() == np.repeat(np.arange(1, 9), smoke.train.global_batch).tolist()


@pytest.mark.slow
def test_statistics_that_a_resumed_run_begins_to_record_have_its_steps(smoke: TrialConfig):
    run = dataclasses.replace(smoke.run, log_every=1, checkpoint_every=5)
    checkpoints: list[dict[str, Any]] = []
    run_to_end(
        dataclasses.replace(smoke, run=run),
        Worker(),
        on_checkpoint=lambda state, _: checkpoints.append(copy.deepcopy(state.state_dict())),
    )
    recording = dataclasses.replace(smoke, run=dataclasses.replace(run, record_statistics=True))
    outcome = run_to_end(recording, Worker(), checkpoint=checkpoints[0])
    # The updates are those of steps 4 and 8, and the checkpoint is that of step 5.
    assert sorted(set(outcome.statistics["step"].tolist())) == [5, 6, 7, 8]
    for row in outcome.history[4:8]:
        of_step = outcome.statistics["step"] == row["step"]
        assert np.nanmean(outcome.statistics["iou"][of_step]) == pytest.approx(row["iou_at_rank"], rel=1e-5)
