"""Random images, simulated workers and the comparison with the oracle, for the tests of Algorithm 1."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
import torch
from torch import Tensor

from dynrcnn_ray.config.sections import DynamicConfig, ModelConfig, TrainConfig
from dynrcnn_ray.config.shares import shards_of_worker
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.boxes import assign_labels, match_proposals
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from tests.dynamic.oracle import CONVENTIONS, WEIGHTS, Box, Image, Oracle

EVERY_CONVENTION = pytest.mark.parametrize("convention", CONVENTIONS)
KINDS = ("ordinary", "no_gt", "one_gt", "few", "no_positive", "exact", "negatives_sampled")


def make_config(global_batch: int = 4, rois: int = 64, shards: int = 1, **dynamic: object) -> TrialConfig:
    """A small trial: 64 RoIs an image make K_I = 9 and K_beta = 10, more than there are appended ground truths."""
    return TrialConfig(
        dynamic=replace(DynamicConfig(update_interval=3, beta_top_k=80), **dynamic),
        model=ModelConfig(rois_per_image=rois),
        train=TrainConfig(global_batch=global_batch, shards=shards),
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
    images = [fair_image(rng, kinds, oracle) for _ in range(oracle.config.train.global_batch)]
    return images if oracle.config.dynamic.count_ground_truths else [appended(image) for image in images]


def appended(image: Image) -> Image:
    """The image with its ground truths as its last proposals, all of them sampled."""
    count = len(image.proposals)
    own = range(count, count + len(image.gt_boxes))
    return Image([*image.proposals, *image.gt_boxes], image.gt_boxes, [*image.sampled, *own])


def split(images: Sequence[Image], shards: int) -> list[Sequence[Image]]:
    each = len(images) // shards
    return [images[shard * each : (shard + 1) * each] for shard in range(shards)]


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


def measure_shards(state: DynamicTrainingState, images: Sequence[Image], shards: int) -> None:
    """What a worker does in a step with its shards."""
    for shard in state.own_shards:
        state.shard = shard
        measure_and_record(state, split(images, shards)[shard])


def run_alone(state: DynamicTrainingState, steps: Sequence[Sequence[Image]]) -> None:
    """One worker, which has all shards."""
    for images in steps:
        measure_shards(state, images, len(state.own_shards))
        state.end_step()


class Workers:
    """Workers of this process, one thread each, whose all-reduce meets at a barrier and counts its calls."""

    def __init__(self, config: TrialConfig, world_size: int) -> None:
        self.shards = config.train.shards
        self.states = [
            DynamicTrainingState(config, own_shards=shards_of_worker(self.shards, rank, world_size))
            for rank in range(world_size)
        ]
        self.calls = [0] * world_size
        self._barrier = Barrier(world_size, timeout=600)
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
        for state in self.states:
            measure_shards(state, images, self.shards)
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
    shards = config.train.shards
    oracle, workers = Oracle(config), Workers(config, world_size)
    for kinds in kinds_of_step:
        images = fair_step(rng, kinds, oracle)
        oracle.step(split(images, shards))
        workers.step(images)
        for state in workers.states:
            assert_agree(state, oracle)
    return oracle
