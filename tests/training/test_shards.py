"""The same bits on any number of workers: real processes, which exchange gradients and statistics by gloo."""

import dataclasses
import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dynrcnn_ray.config.shares import shards_of_worker
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import with_values
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.events import CheckpointDue
from dynrcnn_ray.training.gradients import ShardGradients
from dynrcnn_ray.training.outcome import TrialOutcome
from dynrcnn_ray.training.trial import run_trial
from tests.prepared import prepared
from tests.processes import run_workers
from tests.trial_events import run_to_end

pytestmark = pytest.mark.slow

CLOCKS = ("images_per_second", "train_seconds", "eval_seconds", "training_began_at")


def checksum(*values: Any) -> str:
    """Of every bit of tensors and arrays, and of all else, but not of what a clock said."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, dict):
            parts = [checksum(name, value[name]) for name in sorted(value, key=str) if name not in CLOCKS]
            found.update("".join(parts).encode())
        elif isinstance(value, list | tuple):
            found.update("".join(map(checksum, value)).encode())
        elif isinstance(value, Tensor):
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(value, np.ndarray):
            found.update(value.tobytes())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


# The sum of the gradients.


def gradients(worker: Worker, shards: int, steps: int = 2) -> Tensor:
    """Of a small network whose one layer no loss reaches in some shards."""
    torch.manual_seed(shards)
    model = nn.ModuleDict({"first": nn.Linear(7, 33), "rare": nn.Linear(33, 33), "last": nn.Linear(33, 3)})
    with ShardGradients(model.parameters(), shards, worker) as summed:
        for step in range(steps):
            for shard in shards_of_worker(shards, worker.rank, worker.world_size):
                torch.manual_seed(1000 * step + shard)
                features = model["first"](torch.randn(9, 7)).relu()
                features = model["rare"](features) if shard % 3 == 1 else features
                summed.backward(shard, model["last"](features).square().mean())
        return torch.cat([torch.zeros(0) if p.grad is None else p.grad.flatten() for p in model.parameters()])


def save_gradients(worker: Worker, folder: Path) -> None:
    found = {shards: gradients(worker, shards) for shards in range(worker.world_size, 17)}
    torch.save(found, folder / f"{worker.rank}.pt")


@pytest.mark.parametrize("workers", [2, 3, 5, 8])
def test_gradients_are_added_in_one_order_however_shards_lie_on_workers(workers: int, tmp_path: Path):
    run_workers(save_gradients, workers, tmp_path, tmp_path)
    for rank in range(workers):
        for shards, found in torch.load(tmp_path / f"{rank}.pt").items():
            assert torch.equal(found, gradients(Worker(), shards)), (shards, rank)


def sum_by_tree(values: list[Tensor]) -> Tensor:
    """Neighbours first, then neighbours of these."""
    while len(values) > 1:
        pairs = [values[first : first + 2] for first in range(0, len(values), 2)]
        values = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    return values[0]


@pytest.mark.parametrize("shards", [2, 5, 8])
def test_the_sum_is_that_of_a_balanced_tree_over_the_shards(shards: int):
    """By hand."""
    values = [torch.randn(1000, generator=torch.Generator().manual_seed(shard)) for shard in range(shards)]
    parameter = nn.Parameter(torch.zeros(1000))
    with ShardGradients([parameter], shards, Worker()) as summed:
        for shard, value in enumerate(values):
            summed.backward(shard, (parameter * value).sum())
        assert parameter.grad is not None
        found = parameter.grad.clone()
    assert torch.equal(found, sum_by_tree(values) / shards)
    assert parameter.grad is None, "nothing is left of it"


# Whole trials.

EIGHT = {"train.shards": 8, "train.global_batch": 8, "train.reference_batch": 8}
SHORT = {"train.steps": 5, "dynamic.update_interval": 2, "run.log_every": 2, "run.checkpoint_every": 2}
OWN = {"dynamic.all_reduce": False}
FIXED = {"dynamic.dla": False, "dynamic.dsl": False}
KINDS: dict[str, dict[str, Any]] = {
    "paper": {},
    "each shard by itself": OWN,
    "released": {"dynamic.convention": "released", "dynamic.initial_iou": 0.2},
    "mmdetection by itself": {"dynamic.convention": "mmdetection", "dynamic.initial_iou": 0.2} | OWN,
    "bfloat16": {"train.precision": "bfloat16"},
    "mask_rcnn": {"model.name": "mask_rcnn"},
    "cascade_rcnn": {"model.name": "cascade_rcnn"} | FIXED,
    "retinanet": {"model.name": "retinanet"} | FIXED,
    "recorded": {"run.record_statistics": True, "run.evaluate_checkpoints": True},
}


def of_kind(smoke: TrialConfig, kind: str) -> TrialConfig:
    return with_values(smoke, EIGHT | SHORT | KINDS[kind])


def facts(outcome: TrialOutcome) -> str:
    """All but times."""
    return checksum(dataclasses.asdict(outcome))


def train_whole(worker: Worker, config: TrialConfig) -> str:
    """A checksum of every checkpoint, and on the first worker of all that comes out."""
    states: list[str] = []
    outcome = run_to_end(config, worker, on_checkpoint=lambda state, _: states.append(checksum(state.state_dict())))
    return checksum(states, facts(outcome) if worker.is_first else "")


def train_kinds(worker: Worker, smoke: TrialConfig, kinds: list[str], folder: Path) -> None:
    found = {kind: train_whole(worker, of_kind(smoke, kind)) for kind in kinds}
    if worker.is_first:
        torch.save(found, folder / "found.pt")


@pytest.fixture(scope="module")
def of_one_worker(smoke: TrialConfig) -> dict[str, str]:
    return {kind: train_whole(Worker(), of_kind(smoke, kind)) for kind in KINDS}


@pytest.mark.parametrize(("workers", "kinds"), [(2, ["paper"]), (3, list(KINDS)), (4, ["paper"]), (8, list(KINDS)[:4])])
def test_a_trial_has_the_same_bits_on_any_number_of_workers(
    workers: int, kinds: list[str], smoke: TrialConfig, of_one_worker: dict[str, str], tmp_path: Path
):
    """Weights, momentum, T_now and beta_now, every row, proposals, detections and AP."""
    run_workers(train_kinds, workers, tmp_path, smoke, kinds, tmp_path)
    assert torch.load(tmp_path / "found.pt") == {kind: of_one_worker[kind] for kind in kinds}
    assert len(set(of_one_worker.values())) == len(KINDS), "they are different trials"


def train_a_part(worker: Worker, config: TrialConfig, last_step: int, folder: Path) -> None:
    """From the checkpoint in the folder, if there is one, to that of a step, which takes its place."""
    file = folder / "state.pt"
    checkpoint = torch.load(file, weights_only=True) if file.exists() else None
    for event in run_trial(prepared(config), worker, checkpoint=checkpoint):
        if isinstance(event, CheckpointDue):
            state = event.state.state_dict()
            if event.state.step == last_step:
                if worker.is_first:
                    torch.save(state, file)
                return


@pytest.mark.parametrize("kind", ["paper", "mmdetection by itself"])
def test_a_training_that_loses_workers_and_gets_others_ends_with_the_same_bits(
    kind: str, smoke: TrialConfig, tmp_path: Path
):
    config = with_values(of_kind(smoke, kind), {"run.checkpoint_every": 1})
    plan = random.Random(kind).sample([1, 2, 3, 5, 8], 4)
    for step, workers in enumerate(plan, start=1):
        (tmp_path / "rendezvous").unlink(missing_ok=True)
        run_workers(train_a_part, workers, tmp_path, config, step, tmp_path)
    states: dict[int, str] = {}
    outcome = run_to_end(
        config, Worker(), on_checkpoint=lambda state, _: states.update({state.step: checksum(state.state_dict())})
    )
    interrupted = torch.load(tmp_path / "state.pt", weights_only=True)
    assert checksum(interrupted) == states[len(plan)], plan
    assert facts(run_to_end(config, Worker(), checkpoint=interrupted)) == facts(outcome)
