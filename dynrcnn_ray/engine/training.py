"""One worker's training loop: plain PyTorch, with or without Ray, alone or among others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.loader import train_loader
from dynrcnn_ray.data.sampler import TrainSampler
from dynrcnn_ray.dynamic_training import AssignedProposals, DynamicTrainingState
from dynrcnn_ray.engine.collectives import Worker, all_reduce_sum
from dynrcnn_ray.engine.optimizer import build_optimizer, learning_rate, set_learning_rate
from dynrcnn_ray.engine.snapshots import ProposalColumns, proposal_columns, steps_of_snapshots
from dynrcnn_ray.engine.telemetry import DynamicsRow, Telemetry, loss_names
from dynrcnn_ray.models.cascade import CascadeRoIHeads
from dynrcnn_ray.models.detector import Detector, build_model
from dynrcnn_ray.models.roi_heads import DynamicRoIHeads

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a finite number. Its text says where and what the terms were."""


@dataclass
class TrainingState:
    """Everything that changes while a trial trains; its `state_dict` is a checkpoint."""

    worker: Worker
    model: Detector
    optimizer: torch.optim.SGD
    dynamic: DynamicTrainingState
    scaler: torch.amp.GradScaler
    telemetry: Telemetry
    history: list[DynamicsRow] = field(default_factory=list)
    snapshots: list[ProposalColumns] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Training steps done."""
        return self.dynamic.step

    @property
    def assignment(self) -> list[AssignedProposals]:
        """How the last step's proposals were assigned, image by image; empty for a detector of one stage."""
        heads = getattr(self.model, "roi_heads", None)
        return heads.last_assignment if isinstance(heads, DynamicRoIHeads | CascadeRoIHeads) else []

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain Python values alone. Every worker must call it; all get the same."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "dynamic": self.dynamic.state_dict(all_reduce_sum),
            "scaler": self.scaler.state_dict(),
            "telemetry": self.telemetry.state_dict(self.worker.rank, all_reduce_sum),
            "history": self.history,
            "snapshots": self.snapshots,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.dynamic.load_state_dict(state["dynamic"])
        self.scaler.load_state_dict(state["scaler"])
        self.telemetry.load_state_dict(state["telemetry"], self.worker.rank)
        self.history = list(state["history"])
        self.snapshots = list(state["snapshots"])


def build_training_state(config: TrialConfig, num_classes: int, worker: Worker) -> TrainingState:
    """Build a trial's model, optimiser and dynamic state on the worker's device, from its seed.

    Args:
        config: the trial.
        num_classes: classes of the data set, the background not counted.
        worker: this process.

    Raises:
        WeightsError: the backbone's weights cannot be loaded.
    """
    torch.manual_seed(config.seed)
    dynamic = DynamicTrainingState(config, device=worker.device, rank=worker.rank, world_size=worker.world_size)
    model = build_model(config, num_classes, dynamic).to(worker.device)
    scaler = torch.amp.GradScaler(worker.device.type, enabled=config.train.precision == "float16")
    telemetry = Telemetry(loss_names(config.model), worker.device, worker.world_size)
    return TrainingState(worker, model, build_optimizer(model, config), dynamic, scaler, telemetry)


def train(
    config: TrialConfig,
    state: TrainingState,
    dataset: CocoDataset,
    *,
    on_row: Callable[[DynamicsRow], None],
    on_checkpoint: Callable[[TrainingState], None],
) -> None:
    """Train from the state's step to the last one.

    Every worker calls both functions at the same steps, and every worker's rows are the same.

    Args:
        config: the trial.
        state: where to start; changed in place.
        dataset: the training split.
        on_row: called every `log_every` steps and after the last one.
        on_checkpoint: called every `checkpoint_every` steps and after the last one.

    Raises:
        TrainingDivergedError: a loss was not finite in the last logging interval.
    """
    worker = state.worker
    sampler = TrainSampler(
        dataset.sizes,
        global_batch=config.train.global_batch,
        flip_probability=config.data.flip_probability,
        short_sides=config.data.train_short_sides,
        seed=config.seed,
        start_step=state.step,
        total_steps=config.total_steps,
        rank=worker.rank,
        world_size=worker.world_size,
    )
    snapshot_steps = steps_of_snapshots(config.total_steps, config.run.log_every)
    state.model.train()
    state.telemetry.start_clock()
    model = _distributed(state.model, worker)
    for images, targets in train_loader(dataset, sampler, loader_workers=config.run.loader_workers):
        seed_step(config.seed, state.step, worker.rank)
        rate = learning_rate(config, state.step)
        set_learning_rate(state.optimizer, rate)
        losses = forward_losses(model, images, targets, config, worker.device)
        state.optimizer.zero_grad()
        state.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.dynamic.end_step(all_reduce_sum)

        state.telemetry.add(losses, state.assignment, len(images))
        if state.step % config.run.log_every == 0 or state.step == config.total_steps:
            row = state.telemetry.row(state.step, rate, state.dynamic, state.assignment, all_reduce_sum)
            _check_finite(row)
            state.history.append(row)
            if state.step in snapshot_steps and worker.is_first and state.assignment:
                state.snapshots.append(proposal_columns(state.step, state.assignment, state.dynamic))
            on_row(row)
        if state.step % config.run.checkpoint_every == 0 or state.step == config.total_steps:
            on_checkpoint(state)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed what a step draws (the sampled anchors and RoIs), so that a resumed run draws the same."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1))


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


def _distributed(model: nn.Module, worker: Worker) -> nn.Module:
    if worker.world_size == 1:
        return model
    device_ids = [worker.device.index] if worker.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)


def _check_finite(row: DynamicsRow) -> None:
    if not np.isfinite(row["loss"]):
        terms = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name.startswith("loss_"))
        raise TrainingDivergedError(
            f"the loss is not finite at step {row['step']}: {terms}; learning rate {row['learning_rate']:.4g}, "
            f"T_now {row['T_now']:.3f}, beta_now {row['beta_now']:.3g}; lower train.learning_rate"
        )
