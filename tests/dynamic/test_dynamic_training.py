import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.dynamic.statistics import ProposalStatistics
from tests.dynamic.cases import (
    EVERY_CONVENTION,
    KINDS,
    Workers,
    appended,
    assert_agree,
    assigned,
    compare,
    fair_image,
    make_config,
    random_image,
    run_alone,
    split,
)
from tests.dynamic.oracle import WEIGHTS, Oracle

# 1. Against the oracle.

FEW_SEEDS = 20
"""How many of the seeds are not slow: `make check` takes these alone."""


def seeds(count: int) -> list[Any]:
    return [*range(FEW_SEEDS), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(FEW_SEEDS, count))]


@EVERY_CONVENTION
@pytest.mark.parametrize("seed", seeds(100))
def test_random_runs(convention: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shards, interval = int(rng.choice([1, 2, 3])), int(rng.choice([1, 2, 3, 4]))
    config = make_config(
        global_batch=shards * int(rng.integers(1, 4)),
        shards=shards,
        rois=int(rng.choice([16, 64, 128, 512])),
        beta_top_k=int(rng.choice([10, 40, 120])),
        convention=convention,
        update_interval=interval,
        dla=bool(seed & 1),
        dsl=bool(seed & 2),
        initial_iou=float(rng.choice([0.2, 0.4, 0.6])),
        initial_beta=float(rng.choice([0.3, 1.0, 8.0])),
    )
    kinds = rng.choice(KINDS, size=rng.integers(1, len(KINDS) + 1), replace=False)
    compare(config, rng, [kinds] * (3 * interval + 1), world_size=int(rng.integers(1, shards + 1)))


@EVERY_CONVENTION
@pytest.mark.parametrize("seed", seeds(30))
def test_ground_truths_may_be_left_out_of_the_statistics(convention: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = make_config(
        convention=convention,
        count_ground_truths=False,
        update_interval=2,
        initial_iou=0.2,
        initial_beta=8.0,
        shards=2,
    )
    compare(config, rng, [KINDS] * 7, world_size=2)


@EVERY_CONVENTION
def test_ground_truths_left_out_are_measured_nowhere(convention: str) -> None:
    """Without proposals of the RPN there is nothing to measure, however many ground truths are appended."""
    rng = np.random.default_rng(0)
    truths = [appended(replace(random_image(rng, "ordinary"), proposals=[], sampled=[])) for _ in range(4)]
    kept = {}
    for counted in (True, False):
        state = DynamicTrainingState(make_config(convention=convention, count_ground_truths=counted, update_interval=1))
        run_alone(state, [truths])
        kept[counted] = state.kept_iou_updates.item()
    assert kept == {True: 0, False: 1}


@EVERY_CONVENTION
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize(("dla", "dsl"), list(itertools.product([False, True], repeat=2)))
def test_one_kind_of_image_only(convention: str, kind: str, interval: int, dla: bool, dsl: bool) -> None:
    config = make_config(
        convention=convention, update_interval=interval, dla=dla, dsl=dsl, initial_iou=0.2, initial_beta=8.0, shards=2
    )
    oracle = compare(config, np.random.default_rng(KINDS.index(kind)), [[kind]] * 2 * interval, world_size=2)

    nothing_recorded = kind in ("no_gt", "no_positive") or (kind == "negatives_sampled" and convention == "mmdetection")
    assert oracle.kept_iou_updates == (2 if nothing_recorded else 0)
    assert oracle.kept_beta_updates == (2 if nothing_recorded or kind == "exact" else 0)


@EVERY_CONVENTION
def test_an_interval_without_records_keeps_both_values(convention: str) -> None:
    config = make_config(convention=convention, shards=2, initial_iou=0.2, initial_beta=80.0)
    intervals = [["ordinary"], ["no_positive", "no_gt"], ["few", "ordinary"], ["exact"]]
    kinds_of_step = [kinds for kinds in intervals for _ in range(3)]

    oracle = compare(config, np.random.default_rng(7), kinds_of_step, world_size=2)

    assert (oracle.kept_iou_updates, oracle.kept_beta_updates) == (1, 2)
    assert oracle.iou_now > 0.2
    assert oracle.beta_now < 80


@EVERY_CONVENTION
def test_a_shard_with_nothing_to_measure_leaves_the_others_records_alone(convention: str) -> None:
    config = make_config(global_batch=2, shards=2, convention=convention, update_interval=1, initial_beta=8.0)
    oracle, workers = Oracle(config), Workers(config, 2)
    rng = np.random.default_rng(3)
    for _ in range(4):
        images = [fair_image(rng, [kind], oracle) for kind in ("no_gt", "ordinary")]
        oracle.step(split(images, 2))
        workers.step(images)
        assert_agree(workers.states[0], oracle)
        assert_agree(workers.states[1], oracle)
    assert oracle.kept_iou_updates == 0


def test_an_empty_sample_records_nothing() -> None:
    config = make_config(global_batch=1, convention="mmdetection", update_interval=1)
    oracle, workers = Oracle(config), Workers(config, 1)
    image = replace(random_image(np.random.default_rng(0), "ordinary"), sampled=[])
    oracle.step([[image]])
    workers.step([image])
    assert_agree(workers.states[0], oracle)


# 5. The update rule.


def updated(config: TrialConfig, ious: Sequence[float], errors: Sequence[float]) -> DynamicTrainingState:
    """The state after one interval with these records, as many a step as there are images."""
    state = DynamicTrainingState(config)
    batch = config.train.global_batch
    for step in range(config.dynamic.update_interval):
        own = slice(step * batch, (step + 1) * batch)
        step_ious, step_errors = torch.tensor(ious[own]), torch.tensor(errors[own])
        state.record(ProposalStatistics(step_ious, step_errors, torch.ones_like(step_ious, dtype=torch.bool)))
        state.end_step()
    return state


def test_both_values_are_clipped_at_their_start() -> None:
    state = updated(make_config(initial_iou=0.4, initial_beta=1.0), [0.1] * 12, [3.0] * 12)
    assert state.iou_now == torch.tensor(0.4)
    assert state.beta_now == 1
    assert (state.kept_iou_updates, state.kept_beta_updates) == (0, 0)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0.5], 0.5),
        ([0.7, 0.1], 0.4),
        ([0.9, 0.1, 0.2], 0.2),
        ([0.7, 0.1, 0.3, 0.2], 0.25),
        ([0.0, 0.0, 0.0, 0.6], None),
        ([0.0, 0.0, 0.6, 0.6], 0.3),
    ],
)
def test_beta_is_the_midpoint_median(errors: list[float], expected: float | None) -> None:
    state = updated(make_config(), [0.5] * len(errors), errors)
    assert state.beta_now.item() == pytest.approx(1.0 if expected is None else expected, abs=1e-7)
    assert state.kept_beta_updates == (expected is None)


def test_the_released_code_takes_the_upper_median() -> None:
    state = updated(make_config(convention="released"), [0.5] * 4, [0.7, 0.1, 0.3, 0.2])
    assert state.beta_now.item() == pytest.approx(0.3, abs=1e-7)


def test_the_clips_and_the_median_ignore_invalid_values() -> None:
    state = DynamicTrainingState(make_config(update_interval=1))
    values = torch.tensor([0.8, math.inf, math.nan, 0.6])
    state.record(ProposalStatistics(values, values, torch.tensor([True, False, False, True])))
    state.end_step()
    assert state.iou_now.item() == pytest.approx(0.7, abs=1e-7)
    assert state.beta_now.item() == pytest.approx(0.7, abs=1e-7)


def test_the_mean_of_many_records_is_exact() -> None:
    config = make_config(global_batch=64, update_interval=2000)
    values = np.random.default_rng(0).uniform(0.5, 1, 64 * 2000).astype(np.float32).tolist()
    state = updated(config, values, values)
    assert state.iou_now.item() == pytest.approx(math.fsum(values) / len(values), abs=6e-8)
    assert state.beta_now.item() == pytest.approx(np.median(values), abs=6e-8)


# 6. Nothing waits for the device.

SYNCS = ("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero", "aten::masked_select")
"""Operators that copy a value to the host."""
UPLOADS = ("aten::lift_fresh",)
"""A tensor from a Python list. On CUDA that is a blocking copy, which waits for all queued work."""


def operators_of(act: Callable[[], object]) -> dict[str, int]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        act()
    return {event.key: event.count for event in profile.key_averages()}


def test_the_profiler_sees_a_sync() -> None:
    value = torch.ones(1)
    seen = operators_of(lambda: (value.item(), bool(value), value[value > 0], value.new_tensor([1.0])))
    assert {*SYNCS[:-1], *UPLOADS} <= seen.keys()


@EVERY_CONVENTION
@pytest.mark.parametrize("forbidden", [SYNCS, UPLOADS], ids=["downloads", "uploads"])
def test_no_step_waits_for_the_device(convention: str, forbidden: tuple[str, ...]) -> None:
    state = DynamicTrainingState(make_config(convention=convention, update_interval=2))
    rng = np.random.default_rng(0)
    images = [assigned(random_image(rng, kind), state.iou_threshold) for kind in KINDS]

    def two_steps() -> None:
        for four in (images[:4], images[3:]):
            state.record(state.measure(four, WEIGHTS))
            state.end_step()

    seen = operators_of(two_steps)
    assert "aten::topk" in seen
    assert {name: seen[name] for name in forbidden if name in seen} == {}
