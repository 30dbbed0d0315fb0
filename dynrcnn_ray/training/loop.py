"""One worker's training loop: plain PyTorch, with or without Ray, alone or among others."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynrcnn_ray.config.errors import DynrcnnError
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.loader import Batch, train_loader
from dynrcnn_ray.data.sampler import TrainSampler
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.training.collectives import Worker, all_reduce_sum, copy_from_first
from dynrcnn_ray.training.events import CheckpointDue, Logged, Timed, TrainingEvent
from dynrcnn_ray.training.gradients import ShardGradients
from dynrcnn_ray.training.optimizer import learning_rate, set_learning_rate
from dynrcnn_ray.training.snapshots import proposal_columns, steps_of_snapshots
from dynrcnn_ray.training.state import TrainingState
from dynrcnn_ray.training.telemetry import DynamicsRow

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


_TIMED_STEPS = 5
"""How many steps are timed at the beginning, after the first one, which is slower."""
_FEWEST_STEPS = 50
"""A training of fewer is over before its speed would be of use."""
_FIRST_SHARD = 0
"""Whose proposals are recorded."""


class TrainingDivergedError(DynrcnnError, RuntimeError):
    """The loss is no longer a finite number. Its text says where and what the terms were."""

    would_repeat = True


def train(config: TrialConfig, state: TrainingState, dataset: CocoDataset) -> Iterator[TrainingEvent]:
    """Train from the state's step to the last one.

    Args:
        config: the trial.
        state: where to start; changed in place.
        dataset: the training split.

    Yields:
        Rows of the dynamics, and where a checkpoint is due. Every worker gets the same rows, at the same steps.

    Raises:
        TrainingDivergedError: a loss was not finite in the last logging interval.
    """
    worker = state.worker
    own_shards = worker.shards(config)
    batches = batches_of(config, dataset, own_shards, start_step=state.step)
    snapshot_steps = steps_of_snapshots(config.total_steps, config.run.log_every)
    clock = _Clock()
    first_steps = _FirstSteps(state.step, config.total_steps)
    copy_from_first(state.model.state_dict().values(), worker)
    state.model.train()
    state.telemetry.start_clock()
    with ShardGradients(state.model.parameters(), config.train.shards, worker) as gradients:
        while state.step < config.total_steps:
            rate = learning_rate(config, state.step)
            set_learning_rate(state.optimizer, rate)
            assignments = {shard: _train_on(shard, config, state, next(batches), gradients) for shard in own_shards}
            state.telemetry.end_step()
            state.scaler.step(state.optimizer)
            state.scaler.update()

            step = state.step + 1
            if timed := first_steps.end(step, worker):
                yield timed
            is_last = step == config.total_steps
            checkpoint_is_due = is_last or step % config.run.checkpoint_every == 0
            is_wanted = False
            if is_last or step % config.run.log_every == 0:
                # Before an update of T_now and beta_now: a row holds what was in force in its step.
                row = state.telemetry.row(step, rate, state.dynamic, assignments, all_reduce_sum)
                _check_finite(row)
                state.history.append(row)
                if step in snapshot_steps and assignments.get(_FIRST_SHARD):
                    state.dynamic.shard = _FIRST_SHARD
                    state.snapshots.append(proposal_columns(step, assignments[_FIRST_SHARD], state.dynamic))
                yield (logged := Logged(row))
                is_wanted = logged.wants_checkpoint
                if config.run.checkpoint_minutes:
                    checkpoint_is_due |= clock.has_run(config.run.checkpoint_minutes, worker)
            state.dynamic.end_step(all_reduce_sum)
            if checkpoint_is_due or is_wanted:
                _check_sums_are_finite(state, rate, assignments)
                state.train_seconds += clock.seconds()
                yield CheckpointDue(state, is_wanted)
                clock.start()


def _train_on(
    shard: int, config: TrialConfig, state: TrainingState, batch: Batch, gradients: ShardGradients
) -> list[AssignedProposals]:
    """Add a shard's gradients to the step's, and its losses and statistics to what is recorded.

    Returns:
        How its proposals were assigned.
    """
    images, targets = batch
    state.dynamic.shard = shard
    seed_step(config.seed, state.step, shard)
    losses = forward_losses(state.model, images, targets, config, state.worker.device)
    gradients.backward(shard, state.scaler.scale(torch.stack(list(losses.values())).sum()))
    state.telemetry.add(shard, losses, state.assignment, len(images))
    return state.assignment


def batches_of(config: TrialConfig, dataset: CocoDataset, own_shards: range, *, start_step: int) -> Iterator[Batch]:
    """A trial's batches of some shards, from a step on; one shard's after the other's in each step.

    Args:
        config: the trial.
        dataset: its training split.
        own_shards: whose batches.
        start_step: training steps done before.
    """
    sampler = TrainSampler(
        dataset.sizes,
        images=dataset.images_to_train_on(keep_empty=config.data.keep_empty_images),
        global_batch=config.train.global_batch,
        flip_probability=config.data.flip_probability,
        short_sides=config.data.train_short_sides,
        photometric=config.data.photometric,
        seed=config.seed,
        start_step=start_step,
        total_steps=config.total_steps,
        shards=config.train.shards,
        own_shards=own_shards,
    )
    return iter(train_loader(dataset, sampler, loader_workers=config.run.loader_workers))


class _Clock:
    """Seconds of training since the last checkpoint; making one does not count."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._started = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def has_run(self, minutes: float, worker: Worker) -> bool:
        """Whether so many minutes have passed on the first worker's clock; all workers get the same answer."""
        answer = torch.tensor(float(worker.is_first and self.seconds() >= 60 * minutes), device=worker.device)
        all_reduce_sum(answer)
        return bool(answer)


class _FirstSteps:
    """Times the steps after the first one, which is slower."""

    def __init__(self, step: int, total: int) -> None:
        self._step, self._total = step, total
        self._started = 0.0

    def end(self, step: int, worker: Worker) -> Timed | None:
        """How long they took, at the end of the last of them; it comes at the same step on all workers."""
        ended = step - self._step
        if self._total - self._step < _FEWEST_STEPS or ended not in (1, 1 + _TIMED_STEPS):
            return None
        if worker.device.type == "cuda":
            torch.cuda.synchronize(worker.device)
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        return Timed(_TIMED_STEPS, seconds / _TIMED_STEPS, self._total - step) if ended > 1 else None


def seed_step(seed: int, step: int, shard: int) -> None:
    """Seed what a shard draws in a step, its anchors and RoIs: a resumed run draws the same, on any workers."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, shard]).generate_state(1, np.uint64)[0] >> 1))


def to_device(images: list[Tensor], device: torch.device) -> list[Tensor]:
    """Move uint8 images to the device and scale them there to 0..1: a quarter of the bytes to copy."""
    return [image.to(device, non_blocking=True).float().div_(255) for image in images]


def autocast(config: TrialConfig, device: torch.device) -> torch.autocast:
    """Mixed precision as configured; off for float32."""
    dtype = _AUTOCAST[config.train.precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def forward_losses(
    model: nn.Module, images: list[Tensor], targets: list[dict[str, Any]], config: TrialConfig, device: torch.device
) -> dict[str, Tensor]:
    """Move a batch of uint8 images and targets to the device and compute its losses."""
    on_device = [
        {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in target.items()
        }
        for target in targets
    ]
    with autocast(config, device):
        return model(to_device(images, device), on_device)


def _check_sums_are_finite(
    state: TrainingState, rate: float, assignments: Mapping[int, list[AssignedProposals]]
) -> None:
    """No checkpoint of a run that has diverged since its last row."""
    if not state.telemetry.is_finite(all_reduce_sum):
        row = state.telemetry.row(state.step, rate, state.dynamic, assignments, all_reduce_sum)
        _check_finite(row)


def _check_finite(row: DynamicsRow) -> None:
    if not np.isfinite(row["loss"]):
        terms = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name.startswith("loss_"))
        raise TrainingDivergedError(
            f"the loss is not finite at step {row['step']}: {terms}; learning rate {row['learning_rate']:.4g}, "
            f"T_now {row['T_now']:.3f}, beta_now {row['beta_now']:.3g}; lower train.learning_rate"
        )
