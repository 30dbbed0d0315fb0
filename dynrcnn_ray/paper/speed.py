"""Images per second of several models side by side, one image at a time as in the paper's Table 7."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynrcnn_ray.config.errors import DynrcnnError
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset, Sample, Target
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.loop import autocast, forward_losses, to_device
from dynrcnn_ray.training.optimizer import set_learning_rate
from dynrcnn_ray.training.state import TrainingState, build_training_state

_WARM_UP_ROUNDS = 3


class SpeedError(DynrcnnError, ValueError):
    """A model whose speed would mean nothing. Its text is one line."""

    would_repeat = True


@dataclass(frozen=True)
class Speed:
    """Images per second of one model: the median over the rounds, and the quartiles.

    Attributes:
        model: its name.
        phase: `training` (forward, backward, optimiser) or `inference`.
        median: images per second.
        lower: first quartile.
        upper: third quartile.
    """

    model: str
    phase: str
    median: float
    lower: float
    upper: float


def measure_speed(
    configs: Mapping[str, TrialConfig],
    dataset: CocoDataset,
    worker: Worker,
    *,
    rounds: int,
    on_round: Callable[[int], None] = lambda done: None,
) -> list[Speed]:
    """Time all models in turn, round after round, so that a drift of the machine meets them alike.

    The models are untrained and stay so. Every one sees the same images, all of the data set's most common size;
    reading them is not timed.

    Args:
        configs: a trial for each model's name; batches are of one image whatever they say.
        dataset: the images, with masks if any model needs them.
        worker: this process.
        rounds: timed rounds, after a few that are not counted.
        on_round: called after each round.

    Raises:
        SpeedError: a model detects nothing: the activations of a deep one without pretrained weights overflow.
    """
    states = {
        name: build_training_state(Trial(config), len(dataset.class_names), worker) for name, config in configs.items()
    }
    seconds: dict[tuple[str, str], list[float]] = {(name, phase): [] for name in configs for phase in _PHASES}
    images = _images_of_one_size(dataset)
    for round_index in range(-_WARM_UP_ROUNDS, rounds):
        image, target = dataset[Sample(images[round_index % len(images)], flip=False)]
        for name, config in configs.items():
            for phase, run in _PHASES.items():
                _synchronise(worker)
                started = time.perf_counter()
                run(config, states[name], image, target, worker)
                _synchronise(worker)
                if round_index >= 0:
                    seconds[name, phase].append(time.perf_counter() - started)
        on_round(round_index + 1)
    return [
        Speed(name, phase, *(1 / np.quantile(times, (0.5, 0.75, 0.25))).tolist())
        for (name, phase), times in seconds.items()
    ]


def _train_step(config: TrialConfig, state: TrainingState, image: Tensor, target: Target, worker: Worker) -> None:
    state.model.train()
    # Steps that change nothing: the models stay untrained, and equally so.
    set_learning_rate(state.optimizer, 0.0)
    losses = forward_losses(state.model, [image], [target], config, worker.device)
    state.optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    state.optimizer.step()
    state.dynamic.end_step()


@torch.inference_mode()
def _detect(config: TrialConfig, state: TrainingState, image: Tensor, target: Target, worker: Worker) -> None:
    state.model.eval()
    with autocast(config, worker.device):
        (output,) = state.model(to_device([image], worker.device))
    if not len(output["scores"]):
        raise SpeedError(
            f"model.backbone: an untrained {config.model.backbone} with {config.model.norm} detects nothing: "
            "there is nothing to time; add --model.norm group_norm, or give --model.weights"
        )


_PHASES = {"training": _train_step, "inference": _detect}


def _images_of_one_size(dataset: CocoDataset) -> list[int]:
    sizes = [tuple(size) for size in dataset.sizes.tolist()]
    most_common = Counter(sizes).most_common(1)[0][0]
    return [index for index, size in enumerate(sizes) if size == most_common]


def _synchronise(worker: Worker) -> None:
    if worker.device.type == "cuda":
        torch.cuda.synchronize(worker.device)
