"""What changes while a trial trains, and how it is built and brought back from a checkpoint."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from dynrcnn_ray.config.errors import DynrcnnError, innermost_line
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.detector import Detector
from dynrcnn_ray.models.own_parts import parts_of
from dynrcnn_ray.models.roi_heads import TrainingRoIHeads
from dynrcnn_ray.models.user_module import own_module
from dynrcnn_ray.models.weights import require_weights
from dynrcnn_ray.training.collectives import Worker, all_reduce_sum
from dynrcnn_ray.training.device import on_device, prepare_device
from dynrcnn_ray.training.optimizer import build_optimizer
from dynrcnn_ray.training.out_of_memory import is_out_of_memory
from dynrcnn_ray.training.snapshots import ProposalColumns
from dynrcnn_ray.training.telemetry import DynamicsRow, Telemetry, loss_names


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
        """How the last shard's proposals were assigned, image by image; empty for a detector of one stage."""
        heads = getattr(self.model, "roi_heads", None)
        return heads.last_assignment if isinstance(heads, TrainingRoIHeads) else []

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain Python values alone. Every worker must call it; all get the same."""
        return {
            "training_id": self.training_id,
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
        """Go on from a checkpoint, whatever the number of workers that made it.

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
    prepare_device(worker.device, share=config.run.gpu or 1.0, deterministic=config.run.deterministic)
    torch.manual_seed(config.seed)
    parts = parts_of(own_module(config.model, trial.inputs.module), config.model)
    dynamic = parts.dynamic_state(config, device=worker.device, own_shards=worker.shards(config))
    model = on_device(parts.build_model(config, num_classes, dynamic), worker.device)
    scaler = torch.amp.GradScaler(worker.device.type, enabled=config.train.precision == "float16")
    telemetry = Telemetry(loss_names(config.model), config, worker)
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
