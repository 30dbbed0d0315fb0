"""Algorithm 1 over many workers: checkpoints, collectives, and the same result for any split."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.config.shares import shards_of_worker
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.state import AllReduceSum, DynamicTrainingState
from dynrcnn_ray.training.collectives import Worker
from tests.dynamic.cases import (
    EVERY_CONVENTION,
    KINDS,
    Workers,
    make_config,
    measure_shards,
    random_image,
    run_alone,
    split,
)
from tests.dynamic.oracle import Image
from tests.processes import run_workers

# 2. Checkpoints.


def assert_identical(state: DynamicTrainingState, other: DynamicTrainingState) -> None:
    """Of the shards that the first one holds."""
    assert state.step == other.step
    for shard in state.own_shards:
        state.shard = other.shard = shard
        for name in ("iou_now", "beta_now", "kept_iou_updates", "kept_beta_updates"):
            assert torch.equal(getattr(state, name), getattr(other, name)), name


@EVERY_CONVENTION
@pytest.mark.parametrize("all_reduce", [True, False])
@pytest.mark.parametrize(("before", "after"), [(2, 2), (1, 4), (4, 1), (4, 3), (3, 2)])
@pytest.mark.parametrize("saved_after", [3, 4, 5])
def test_resuming_continues_identically_on_any_number_of_workers(
    convention: str, all_reduce: bool, before: int, after: int, saved_after: int
) -> None:
    config = make_config(convention=convention, all_reduce=all_reduce, shards=4, initial_iou=0.2, initial_beta=8.0)
    rng = np.random.default_rng(saved_after)
    steps = [[random_image(rng, "ordinary") for _ in range(4)] for _ in range(11)]
    uninterrupted, interrupted, resumed = Workers(config, 1), Workers(config, before), Workers(config, after)
    file = io.BytesIO()

    for number, images in enumerate(steps):
        uninterrupted.step(images)
        (interrupted if number < saved_after else resumed).step(images)
        if number + 1 == saved_after:
            torch.save(interrupted.state_dict(), file)
            interrupted.step(steps[number + 1])  # The checkpoint must not share memory with the running state.
            file.seek(0)
            checkpoint = torch.load(file, weights_only=True)
            for state in resumed.states:
                state.load_state_dict(checkpoint)
        if number + 1 >= saved_after:
            for state in resumed.states:
                assert_identical(state, uninterrupted.states[0])
    assert uninterrupted.states[0].iou_now > 0.2


def test_saving_does_not_disturb_the_run_or_alias_it() -> None:
    config, rng = make_config(initial_iou=0.2, shards=2), np.random.default_rng(0)
    steps = [[random_image(rng, "ordinary") for _ in range(4)] for _ in range(6)]
    saved_often, plain = Workers(config, 2), Workers(config, 2)
    for images in steps:
        saved_often.step(images)
        plain.step(images)
        before = saved_often.state_dict()
        kept = {name: torch.as_tensor(value).clone() for name, value in before.items()}
        saved_often.state_dict()
        assert all(torch.equal(torch.as_tensor(before[name]), value) for name, value in kept.items())
    assert_identical(saved_often.states[1], plain.states[1])


def test_loading_discards_the_records_of_the_loading_run() -> None:
    config, rng = make_config(initial_iou=0.2), np.random.default_rng(1)
    steps = [[random_image(rng, "ordinary") for _ in range(4)] for _ in range(3)]
    fresh, dirty = DynamicTrainingState(config), DynamicTrainingState(config)
    checkpoint = fresh.state_dict()
    run_alone(dirty, steps[:2])
    dirty.load_state_dict(checkpoint)
    run_alone(fresh, steps)
    run_alone(dirty, steps)
    assert_identical(dirty, fresh)


@pytest.mark.parametrize("other", [make_config(update_interval=4), make_config(global_batch=8)])
def test_a_checkpoint_of_other_settings_is_refused(other: TrialConfig) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        DynamicTrainingState(other).load_state_dict(DynamicTrainingState(make_config()).state_dict())


# 3. Collectives.


@EVERY_CONVENTION
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("interval", [1, 4])
def test_one_all_reduce_every_c_steps(convention: str, world_size: int, interval: int) -> None:
    rng = np.random.default_rng(0)
    workers = Workers(make_config(convention=convention, shards=4, update_interval=interval), world_size)
    for step in range(1, 3 * interval + 2):
        workers.step([random_image(rng, str(rng.choice(KINDS))) for _ in range(4)])
        assert workers.calls == [step // interval] * world_size


@EVERY_CONVENTION
@pytest.mark.parametrize("world_size", [1, 2])
def test_without_the_all_reduce_each_shard_follows_its_own_records(convention: str, world_size: int) -> None:
    """Two shards of two images are two runs of two images, which meet for no collective."""
    alone = make_config(global_batch=2, convention=convention, initial_iou=0.2, initial_beta=8.0)
    together = make_config(convention=convention, shards=2, all_reduce=False, initial_iou=0.2, initial_beta=8.0)
    workers, singles = Workers(together, world_size), [DynamicTrainingState(alone) for _ in range(2)]
    rng = np.random.default_rng(5)
    for _ in range(7):
        images = [random_image(rng, "ordinary") for _ in range(4)]
        workers.step(images)
        for single, own in zip(singles, split(images, 2), strict=True):
            run_alone(single, [own])
    values = workers.state_dict()["values"]
    for of_shard, single in zip(values, singles, strict=True):
        assert torch.equal(of_shard, single.state_dict()["values"][0])
    assert values[0, 0] != values[1, 0]
    assert workers.calls == [2] * world_size, "those of the checkpoint"


def test_a_checkpoint_of_an_earlier_release_has_a_row_for_each_worker() -> None:
    """Where all followed the same values, any number of them goes on; else as many shards must."""
    shared, own = (make_config(all_reduce=all_reduce, shards=2) for all_reduce in (True, False))
    earlier = DynamicTrainingState(shared).state_dict() | {"values": torch.tensor([[0.625, 0.5, 1, 2]] * 4)}
    state = DynamicTrainingState(shared)
    state.load_state_dict(earlier)
    assert (state.iou_now.item(), state.beta_now.item(), state.kept_beta_updates.item()) == (0.625, 0.5, 2)
    with pytest.raises(ValueError, match="4 values of T_now, this run 2 shards"):
        DynamicTrainingState(own).load_state_dict(earlier)


@pytest.mark.parametrize("all_reduce", [True, False])
def test_recorded_statistics_are_those_of_all_workers(all_reduce: bool) -> None:
    config = replace(make_config(all_reduce=all_reduce, shards=2), run=RunConfig(record_statistics=True))
    rng = np.random.default_rng(8)
    steps = [[random_image(rng, "ordinary") for _ in range(4)] for _ in range(7)]
    one, two = DynamicTrainingState(config), Workers(config, 2)
    run_alone(one, steps[:3])
    for images in steps[:3]:
        two.step(images)
    assert one.recorded is not None
    assert len(one.recorded) == 1
    for state in two.states:
        assert state.recorded is not None
        assert torch.equal(state.recorded[0], one.recorded[0])
    checkpoint = two.state_dict()
    resumed = DynamicTrainingState(replace(config, dynamic=replace(config.dynamic, all_reduce=True)))
    resumed.load_state_dict(checkpoint)
    run_alone(resumed, steps[3:])
    assert resumed.recorded is not None
    assert [interval.shape for interval in resumed.recorded] == [(3, 3, 4)] * 2


# 4. Partition invariance.

INVARIANT = make_config(global_batch=8, shards=4, initial_iou=0.2, initial_beta=8.0)


def steps_of_eight() -> list[list[Image]]:
    rng = np.random.default_rng(11)
    return [[random_image(rng, str(rng.choice(KINDS))) for _ in range(8)] for _ in range(13)]


def trace(all_reduce: AllReduceSum, config: TrialConfig, own_shards: range) -> Tensor:
    """T_now and beta_now after every step, as one worker of so many computes them."""
    state = DynamicTrainingState(config, own_shards=own_shards)
    rows = []
    for images in steps_of_eight():
        measure_shards(state, images, config.train.shards)
        state.end_step(all_reduce)
        rows.append(torch.stack([state.iou_now, state.beta_now]))
    return torch.stack(rows)


def one_of_four(worker: Worker, folder: Path) -> None:
    """The first process, the first three and all four train in turn."""
    rank = worker.rank
    for world_size in (1, 3, 4):
        group = dist.new_group(list(range(world_size)))
        if rank < world_size:
            own = shards_of_worker(4, rank, world_size)
            values = trace(lambda tensor: dist.all_reduce(tensor, group=group), INVARIANT, own)  # noqa: B023
            torch.save(values, folder / f"{world_size}-{rank}.pt")


@pytest.mark.slow
def test_the_split_over_processes_does_not_matter(tmp_path: Path) -> None:
    run_workers(one_of_four, 4, tmp_path, tmp_path)

    alone = trace(lambda _: None, INVARIANT, range(4))
    assert len(alone.unique(dim=0)) == 5, "four updates change T_now and beta_now"
    for world_size in (1, 3, 4):
        for rank in range(world_size):
            assert torch.equal(torch.load(tmp_path / f"{world_size}-{rank}.pt"), alone)


def test_nor_does_the_number_of_shards_in_the_convention_of_the_paper() -> None:
    alone = trace(lambda _: None, INVARIANT, range(4))
    for shards in (1, 2, 8):
        config = replace(INVARIANT, train=replace(INVARIANT.train, shards=shards))
        torch.testing.assert_close(trace(lambda _: None, config, range(shards)), alone, rtol=0, atol=1e-6)
