import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from dynrcnn_ray.boxes import assign_labels, match_proposals
from dynrcnn_ray.config import DynamicConfig, ModelConfig, TrainConfig, TrialConfig
from dynrcnn_ray.dynamic_training import AssignedProposals, DynamicTrainingState, ProposalStatistics, single_worker
from tests.dynamic_oracle import CONVENTIONS, WEIGHTS, Box, Image, Oracle

EVERY_CONVENTION = pytest.mark.parametrize("convention", CONVENTIONS)
KINDS = ("ordinary", "no_gt", "one_gt", "few", "no_positive", "exact", "negatives_sampled")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_config(global_batch: int = 4, rois: int = 64, **dynamic: object) -> TrialConfig:
    """A small trial: 64 RoIs an image make K_I = 9 and K_beta = 10, more than there are appended ground truths."""
    return TrialConfig(
        dynamic=replace(DynamicConfig(update_interval=3, beta_top_k=80), **dynamic),
        model=ModelConfig(rois_per_image=rois),
        train=TrainConfig(global_batch=global_batch),
    )


# Random images. All coordinates are multiples of 1/16, so that float32 adds and multiplies them exactly.


def random_gt(rng: np.random.Generator) -> Box:
    x, y, width, height = np.floor(rng.uniform([0, 0, 16, 16], [80, 80, 48, 48]) * 16) / 16
    return float(x), float(y), float(x + width), float(y + height)


def jitter(box: Box, rng: np.random.Generator, shift: float) -> Box:
    """Move a box by up to `shift` of its size along each axis, and change its size by up to a fifth."""
    sizes = np.subtract(box[2:], box[:2])
    centre = np.add(box[2:], box[:2]) / 2 + rng.uniform(-shift, shift, 2) * sizes
    half = sizes * rng.uniform(0.8, 1.2, 2) / 2
    x1, y1, x2, y2 = (np.round(np.concatenate([centre - half, centre + half]) * 16) / 16).tolist()
    return x1, y1, x2, y2


def random_image(rng: np.random.Generator, kind: str) -> Image:
    gts = [random_gt(rng) for _ in range(1 if kind in ("one_gt", "no_positive") else rng.integers(2, 6))]
    count = int(rng.integers(1, 4) if kind == "few" else rng.integers(10, 60))
    around = [gts[index] for index in rng.integers(len(gts), size=count)]
    shift = rng.choice([0.05, 0.2, 0.6])
    proposals = around if kind == "exact" else [jitter(box, rng, shift) for box in around]
    if kind == "no_positive":
        x1, y1, x2, y2 = gts[0]
        proposals = [(x1 + 14, y1 + 14 + move, x2 + 14, y2 + 14 + move) for move in range(count)]
        gts = [(x1, y1, x1 + 16, y1 + 16)]
    else:
        proposals = [*proposals, *gts]
    sampled = rng.permutation(len(proposals))[: max(1, len(proposals) // 2)].tolist()
    if kind == "negatives_sampled":
        sampled = [len(proposals)]
        proposals = [*proposals, (200.0, 200.0, 220.0, 220.0)]
    return Image(proposals, [] if kind == "no_gt" else gts, sampled)


def fair_image(rng: np.random.Generator, kinds: Sequence[str], oracle: Oracle) -> Image:
    """An image about whose positives float32 and float64 agree."""
    while True:
        image = random_image(rng, str(rng.choice(kinds)))
        if not oracle.is_near_threshold(image):
            return image


def fair_step(rng: np.random.Generator, kinds: Sequence[str], oracle: Oracle) -> list[Image]:
    return [fair_image(rng, kinds, oracle) for _ in range(oracle.config.train.global_batch)]


def split(images: Sequence[Image], world_size: int) -> list[Sequence[Image]]:
    each = len(images) // world_size
    return [images[rank * each : (rank + 1) * each] for rank in range(world_size)]


# The implementation, as a training step calls it.


def assigned(image: Image, threshold: Tensor) -> AssignedProposals:
    proposals, gt_boxes = torch.tensor(image.proposals), torch.tensor(image.gt_boxes).reshape(-1, 4)
    sampled = torch.tensor(image.sampled, dtype=torch.int64)
    if not image.gt_boxes:
        return AssignedProposals(proposals, gt_boxes, None, sampled, torch.zeros_like(sampled))
    match = match_proposals(proposals, gt_boxes)
    labels = assign_labels(match, torch.arange(1, len(gt_boxes) + 1), threshold)
    return AssignedProposals(proposals, gt_boxes, match, sampled, labels[sampled])


def measure_and_record(state: DynamicTrainingState, images: Sequence[Image]) -> None:
    state.record(state.measure([assigned(image, state.iou_threshold) for image in images], WEIGHTS))


def run_alone(state: DynamicTrainingState, steps: Sequence[Sequence[Image]]) -> None:
    for images in steps:
        measure_and_record(state, images)
        state.end_step()


class Workers:
    """Workers of this process, one thread each, whose all-reduce meets at a barrier and counts its calls."""

    def __init__(self, config: TrialConfig, world_size: int) -> None:
        self.states = [DynamicTrainingState(config, rank=rank, world_size=world_size) for rank in range(world_size)]
        self.calls = [0] * world_size
        self._barrier = Barrier(world_size, timeout=20)
        self._parts = [torch.empty(0)] * world_size

    def all_reduce_of(self, rank: int) -> Callable[[Tensor], None]:
        def all_reduce(tensor: Tensor) -> None:
            self.calls[rank] += 1
            self._parts[rank] = tensor.clone()
            self._barrier.wait()
            total = torch.stack(self._parts).sum(0)
            self._barrier.wait()
            tensor.copy_(total)

        return all_reduce

    def step(self, images: Sequence[Image]) -> None:
        for state, own in zip(self.states, split(images, len(self.states)), strict=True):
            measure_and_record(state, own)
        self._together(lambda rank: self.states[rank].end_step(self.all_reduce_of(rank)))

    def state_dict(self) -> dict[str, object]:
        return self._together(lambda rank: self.states[rank].state_dict(self.all_reduce_of(rank)))[0]

    def _together(self, act: Callable[[int], object]) -> list:
        with ThreadPoolExecutor(len(self.states)) as pool:
            return list(pool.map(act, range(len(self.states))))


def assert_agree(state: DynamicTrainingState, oracle: Oracle) -> None:
    for name in ("iou_now", "iou_threshold", "beta_now", "smooth_l1_beta"):
        expected = pytest.approx(getattr(oracle, name), rel=1e-6, abs=1e-6)
        assert getattr(state, name).item() == expected, (name, oracle.steps)
    for name in ("kept_iou_updates", "kept_beta_updates"):
        assert getattr(state, name).item() == getattr(oracle, name), (name, oracle.steps)


def compare(
    config: TrialConfig, rng: np.random.Generator, kinds_of_step: Sequence[Sequence[str]], world_size: int
) -> Oracle:
    """Run implementation and oracle side by side; they agree on every worker after every step."""
    oracle, workers = Oracle(config), Workers(config, world_size)
    for kinds in kinds_of_step:
        images = fair_step(rng, kinds, oracle)
        oracle.step(split(images, world_size))
        workers.step(images)
        for state in workers.states:
            assert_agree(state, oracle)
    return oracle


# 1. Against the oracle.


@EVERY_CONVENTION
@pytest.mark.parametrize("seed", range(100))
def test_random_runs(convention: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    world_size, interval = int(rng.choice([1, 2, 3])), int(rng.choice([1, 2, 3, 4]))
    config = make_config(
        global_batch=world_size * int(rng.integers(1, 4)),
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
    compare(config, rng, [kinds] * (3 * interval + 1), world_size)


@EVERY_CONVENTION
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize(("dla", "dsl"), list(itertools.product([False, True], repeat=2)))
def test_one_kind_of_image_only(convention: str, kind: str, interval: int, dla: bool, dsl: bool) -> None:
    config = make_config(
        convention=convention, update_interval=interval, dla=dla, dsl=dsl, initial_iou=0.2, initial_beta=8.0
    )
    oracle = compare(config, np.random.default_rng(KINDS.index(kind)), [[kind]] * 2 * interval, world_size=2)

    nothing_recorded = kind in ("no_gt", "no_positive") or (kind == "negatives_sampled" and convention == "mmdetection")
    assert oracle.kept_iou_updates == (2 if nothing_recorded else 0)
    assert oracle.kept_beta_updates == (2 if nothing_recorded or kind == "exact" else 0)


@EVERY_CONVENTION
def test_an_interval_without_records_keeps_both_values(convention: str) -> None:
    config = make_config(convention=convention, initial_iou=0.2, initial_beta=8.0)
    intervals = [["ordinary"], ["no_positive", "no_gt"], ["few", "ordinary"], ["exact"]]
    kinds_of_step = [kinds for kinds in intervals for _ in range(3)]

    oracle = compare(config, np.random.default_rng(7), kinds_of_step, world_size=2)

    assert (oracle.kept_iou_updates, oracle.kept_beta_updates) == (1, 2)
    assert oracle.iou_now > 0.2
    assert oracle.beta_now < 8


@EVERY_CONVENTION
def test_a_worker_with_nothing_to_measure_leaves_the_others_records_alone(convention: str) -> None:
    config = make_config(global_batch=2, convention=convention, update_interval=1, initial_beta=8.0)
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


# 2. Checkpoints.


def assert_identical(state: DynamicTrainingState, other: DynamicTrainingState) -> None:
    assert state.step == other.step
    for name in ("iou_now", "beta_now", "kept_iou_updates", "kept_beta_updates"):
        assert torch.equal(getattr(state, name), getattr(other, name)), name


@pytest.mark.parametrize(
    ("convention", "before", "after"),
    [(convention, 2, 2) for convention in CONVENTIONS] + [("paper", *worlds) for worlds in ((1, 4), (4, 1), (4, 2))],
)
@pytest.mark.parametrize("saved_after", [3, 4, 5])
def test_resuming_continues_identically(convention: str, before: int, after: int, saved_after: int) -> None:
    config = make_config(convention=convention, initial_iou=0.2, initial_beta=8.0)
    rng = np.random.default_rng(saved_after)
    steps = [[random_image(rng, "ordinary") for _ in range(4)] for _ in range(11)]
    uninterrupted, interrupted, resumed = Workers(config, before), Workers(config, before), Workers(config, after)
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
    config, rng = make_config(initial_iou=0.2), np.random.default_rng(0)
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
    workers = Workers(make_config(convention=convention, update_interval=interval), world_size)
    for step in range(1, 3 * interval + 2):
        workers.step([random_image(rng, str(rng.choice(KINDS))) for _ in range(4)])
        assert workers.calls == [step // interval] * world_size


# 4. Partition invariance.

INVARIANT = make_config(global_batch=8, initial_iou=0.2, initial_beta=8.0)


def steps_of_eight() -> list[list[Image]]:
    rng = np.random.default_rng(11)
    return [[random_image(rng, str(rng.choice(KINDS))) for _ in range(8)] for _ in range(13)]


def trace(all_reduce: Callable[[Tensor], None], rank: int, world_size: int) -> Tensor:
    """T_now and beta_now after every step, as one worker of so many computes them."""
    state = DynamicTrainingState(INVARIANT, rank=rank, world_size=world_size)
    rows = []
    for images in steps_of_eight():
        measure_and_record(state, split(images, world_size)[rank])
        state.end_step(all_reduce)
        rows.append(torch.stack([state.iou_now, state.beta_now]))
    return torch.stack(rows)


def gloo_process(rank: int, folder: Path) -> None:
    """One of four processes: the first one, the first two and all four train in turn."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=4)
    for world_size in (1, 2, 4):
        group = dist.new_group(list(range(world_size)))
        if rank < world_size:
            values = trace(partial(dist.all_reduce, group=group), rank, world_size)
            torch.save(values, folder / f"{world_size}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_the_split_over_processes_does_not_matter(tmp_path: Path) -> None:
    mp.spawn(gloo_process, (tmp_path,), nprocs=4)

    alone = trace(single_worker, 0, 1)
    assert len(alone.unique(dim=0)) == 5, "four updates change T_now and beta_now"
    for world_size in (1, 2, 4):
        for rank in range(world_size):
            torch.testing.assert_close(torch.load(tmp_path / f"{world_size}-{rank}.pt"), alone, rtol=0, atol=1e-6)


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
