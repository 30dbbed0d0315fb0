"""One worker's training loop: plain PyTorch, with or without Ray, alone or among others."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynrcnn_ray.config.errors import DynrcnnError, innermost_line
from dynrcnn_ray.config.shares import share_of_worker
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.loader import train_loader
from dynrcnn_ray.data.sampler import TrainSampler
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.cascade import CascadeRoIHeads
from dynrcnn_ray.models.detector import Detector, build_model
from dynrcnn_ray.models.roi_heads import DynamicRoIHeads
from dynrcnn_ray.models.user_module import model_builder
from dynrcnn_ray.models.weights import require_weights
from dynrcnn_ray.training.collectives import Worker, all_reduce_sum
from dynrcnn_ray.training.device import distributed, on_device, prepare_device
from dynrcnn_ray.training.events import CheckpointDue, Logged, TrainingEvent
from dynrcnn_ray.training.optimizer import build_optimizer, learning_rate, set_learning_rate
from dynrcnn_ray.training.out_of_memory import is_out_of_memory
from dynrcnn_ray.training.snapshots import ProposalColumns, proposal_columns, steps_of_snapshots
from dynrcnn_ray.training.telemetry import DynamicsRow, Telemetry, loss_names

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainingDivergedError(DynrcnnError, RuntimeError):
    """The loss is no longer a finite number. Its text says where and what the terms were."""

    would_repeat = True


class CheckpointError(DynrcnnError, ValueError):
    """A checkpoint that does not belong to this run. Its text is one line."""

    would_repeat = True


@dataclass
class TrainingState:
    """Everything that changes while a trial trains; its `state_dict` is a checkpoint."""

    training_id: str
    worker: Worker
    model: Detector
    optimizer: torch.optim.SGD
    dynamic: DynamicTrainingState
    scaler: torch.amp.GradScaler
    telemetry: Telemetry
    history: list[DynamicsRow] = field(default_factory=list)
    snapshots: list[ProposalColumns] = field(default_factory=list)
    train_seconds: float = 0.0
    best_average_precision: float = -1.0
    checkpoint_average_precision: float | None = None
    """Of the newest checkpoint; None if it was not evaluated. The first worker's alone is known, the others have 0."""

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
            "training_id": self.training_id,
            "world_size": self.worker.world_size,
            "train_seconds": self.train_seconds,
            "best_average_precision": self.best_average_precision,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "dynamic": self.dynamic.state_dict(all_reduce_sum),
            "scaler": self.scaler.state_dict(),
            "telemetry": self.telemetry.state_dict(all_reduce_sum),
            "history": self.history,
            "snapshots": self.snapshots,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, also one of another number of workers.

        Raises:
            CheckpointError: it is another training's, or not a training state at all.
        """
        self.load_model(state)
        with _refused_unless_it_fits():
            self.optimizer.load_state_dict(state["optimizer"])
            self.dynamic.load_state_dict(state["dynamic"])
            self.scaler.load_state_dict(state["scaler"])
            self.telemetry.load_state_dict(state["telemetry"])
            self.history = list(state["history"])
            self.snapshots = list(state["snapshots"])
            self.train_seconds = float(state["train_seconds"])
            self.best_average_precision = float(state["best_average_precision"])

    def load_model(self, state: dict[str, Any]) -> None:
        """Take the model's weights alone from a checkpoint.

        Raises:
            CheckpointError: it is another training's or another model's, or not a training state at all.
        """
        found = state.get("training_id") if isinstance(state, dict) else None
        if found != self.training_id:
            raise CheckpointError(
                f"the checkpoint is of training {found!r}, not of {self.training_id!r}; move it away, or bring "
                "back the right one"
            )
        with _refused_unless_it_fits():
            self.model.load_state_dict(state["model"])


@contextlib.contextmanager
def _refused_unless_it_fits() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Whatever somebody put into the file decides which.
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"the checkpoint does not fit this training's model ({innermost_line(error, 200)}); move it away, or bring "
            "back the right one"
        ) from None


def build_training_state(trial: Trial, num_classes: int, worker: Worker) -> TrainingState:
    """Build a trial's model, optimiser and dynamic state on the worker's device, from its seed.

    Args:
        trial: the trial.
        num_classes: classes of the data set, the background not counted.
        worker: this process.

    Raises:
        WeightsError: the backbone's weights cannot be loaded, or are not those with which the trial began.
        ModuleError: the configuration's own module cannot build the model.
    """
    config = trial.config
    require_weights(config.model, trial.inputs.weights)
    prepare_device(worker.device, share=config.run.gpu or 1.0)
    torch.manual_seed(config.seed)
    dynamic = DynamicTrainingState(config, device=worker.device, rank=worker.rank, world_size=worker.world_size)
    build = model_builder(config.model, build_model, trial.inputs.module)
    model = on_device(build(config, num_classes, dynamic), worker.device)
    scaler = torch.amp.GradScaler(worker.device.type, enabled=config.train.precision == "float16")
    telemetry = Telemetry(loss_names(config.model), config.train.global_batch, worker)
    return TrainingState(trial.training_id, worker, model, build_optimizer(model, config), dynamic, scaler, telemetry)


def load_trained(
    trial: Trial, num_classes: int, worker: Worker, checkpoint: dict[str, Any], training_id: str
) -> Detector:
    """A trial's detector with the weights of a checkpoint, on the worker's device.

    Args:
        trial: the trial.
        num_classes: classes of the data set, the background not counted.
        worker: this process.
        checkpoint: a training state.
        training_id: whose it must be; the trial may be tested on other workers.

    Raises:
        CheckpointError: it is another training's or another model's, or not a training state at all.
    """
    model = dataclasses.replace(trial.config.model, weights="none", detector_weights="")
    untrained = Trial(dataclasses.replace(trial.config, model=model), dataclasses.replace(trial.inputs, weights=""))
    state = build_training_state(untrained, num_classes, worker)
    state.training_id = training_id
    state.load_model(checkpoint)
    return state.model


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
    sampler = TrainSampler(
        dataset.sizes,
        images=dataset.images_to_train_on(keep_empty=config.data.keep_empty_images),
        global_batch=config.train.global_batch,
        flip_probability=config.data.flip_probability,
        short_sides=config.data.train_short_sides,
        photometric=config.data.photometric,
        seed=config.seed,
        start_step=state.step,
        total_steps=config.total_steps,
        rank=worker.rank,
        world_size=worker.world_size,
    )
    snapshot_steps = steps_of_snapshots(config.total_steps, config.run.log_every)
    loss_weight = _loss_weight(config, worker)
    clock = _Clock()
    state.model.train()
    state.telemetry.start_clock()
    model = distributed(state.model, worker.device) if worker.world_size > 1 else state.model
    for images, targets in train_loader(dataset, sampler, loader_workers=config.run.loader_workers):
        seed_step(config.seed, state.step, worker.rank)
        rate = learning_rate(config, state.step)
        set_learning_rate(state.optimizer, rate)
        losses = forward_losses(model, images, targets, config, worker.device)
        state.optimizer.zero_grad()
        state.scaler.scale(torch.stack(list(losses.values())).sum() * loss_weight).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()

        step = state.step + 1
        state.telemetry.add(losses, state.assignment, len(images))
        is_last = step == config.total_steps
        checkpoint_is_due = is_last or step % config.run.checkpoint_every == 0
        is_wanted = False
        if is_last or step % config.run.log_every == 0:
            # Before an update of T_now and beta_now: a row holds what was in force in its step.
            row = state.telemetry.row(step, rate, state.dynamic, state.assignment, all_reduce_sum)
            _check_finite(row)
            state.history.append(row)
            if step in snapshot_steps and worker.is_first and state.assignment:
                state.snapshots.append(proposal_columns(step, state.assignment, state.dynamic))
            yield (logged := Logged(row))
            is_wanted = logged.wants_checkpoint
            if config.run.checkpoint_minutes:
                checkpoint_is_due |= clock.has_run(config.run.checkpoint_minutes, worker)
        state.dynamic.end_step(all_reduce_sum)
        if checkpoint_is_due or is_wanted:
            _check_sums_are_finite(state, rate)
            state.train_seconds += clock.seconds()
            yield CheckpointDue(state, is_wanted)
            clock.start()


def _loss_weight(config: TrialConfig, worker: Worker) -> float:
    """Makes the mean of the workers' gradients that of all images, where some workers have one image more. Else 1."""
    share = share_of_worker(config.train.global_batch, worker.rank, worker.world_size)
    return (share.stop - share.start) * worker.world_size / config.train.global_batch


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


def _check_sums_are_finite(state: TrainingState, rate: float) -> None:
    """No checkpoint of a run that has diverged since its last row."""
    if not state.telemetry.is_finite(all_reduce_sum):
        row = state.telemetry.row(state.step, rate, state.dynamic, state.assignment, all_reduce_sum)
        _check_finite(row)


def _check_finite(row: DynamicsRow) -> None:
    if not np.isfinite(row["loss"]):
        terms = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name.startswith("loss_"))
        raise TrainingDivergedError(
            f"the loss is not finite at step {row['step']}: {terms}; learning rate {row['learning_rate']:.4g}, "
            f"T_now {row['T_now']:.3f}, beta_now {row['beta_now']:.3g}; lower train.learning_rate"
        )
