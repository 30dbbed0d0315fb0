"""What the benchmarks train on: the two trials, their data, and steps that can be timed."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import DataConfig, RunConfig, ShapesConfig, TrainConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import validate
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.loader import Batch, train_loader
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.data.sampler import TrainSampler
from dynrcnn_ray.experiment.experiment import identified
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.gradients import ShardGradients
from dynrcnn_ray.training.loop import forward_losses
from dynrcnn_ray.training.optimizer import set_learning_rate
from dynrcnn_ray.training.state import TrainingState, build_training_state

RESNET_SIDE = 320
"""Long side of the images at which ResNet-50-FPN is measured, in pixels."""
_MANY_STEPS = 1_000_000


@dataclass(frozen=True)
class Workbench:
    """What a benchmark gets.

    Attributes:
        mini: scale mini on few generated images; one thread.
        resnet: ResNet-50-FPN with the paper's heads on images of 320 pixels, two images a step; two threads.
        scratch: an empty folder for files that nobody needs afterwards.
        worker: this process, on the device that is measured.
    """

    mini: TrialConfig
    resnet: TrialConfig
    scratch: Path
    worker: Worker = field(default_factory=Worker)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is measured."""
        return self.worker.device.type == "cuda"

    def rounds_of_resnet(self, rounds: int, of_mini: int) -> int:
        """Rounds of ResNet-50: one for so many of mini, at least two. On a GPU as many, where a step is as short."""
        return rounds if self.on_gpu else max(2, rounds // of_mini)


def build_workbench(scratch: Path, data_root: str = "", worker: Worker | None = None) -> Workbench:
    """Make the trials and their data ready.

    Args:
        scratch: an empty folder.
        data_root: COCO 2017 or a part of it, for ResNet-50; empty: generated images.
        worker: this process on the device to measure; default: the CPU.

    Raises:
        DataError: the data cannot be used.
    """
    return Workbench(_mini(), _resnet(data_root), scratch, worker or Worker())


def _mini() -> TrialConfig:
    base = base_config("mini")
    shapes = ShapesConfig(train_images=400, val_images=40)
    return dataclasses.replace(
        base,
        data=_on_disk(dataclasses.replace(base.data, shapes=shapes)),
        # What is compared is one worker's, which takes its images at once.
        train=dataclasses.replace(base.train, shards=1),
        run=dataclasses.replace(base.run, num_workers=1),
    )


def _resnet(data_root: str) -> TrialConfig:
    base = base_config("coco")
    shapes = ShapesConfig(train_images=100, val_images=20, image_size=RESNET_SIDE)
    own: dict[str, Any] = {"root": data_root, "train_split": "train2017", "val_split": "val2017"} if data_root else {}
    data = DataConfig(short_side=RESNET_SIDE, long_side=RESNET_SIDE, shapes=shapes, **own)
    return validate(
        dataclasses.replace(
            base,
            data=_on_disk(data),
            # Without pretrained weights frozen batch norm overflows.
            model=dataclasses.replace(base.model, weights="none", norm="group_norm"),
            train=TrainConfig(global_batch=2, shards=1, reference_batch=2, learning_rate=0.0025),
            run=RunConfig(cpus_per_worker=2),
        )
    )


def _on_disk(data: DataConfig) -> DataConfig:
    """The same as a folder that is read as it stands."""
    return dataclasses.replace(data, root=prepare_data(data).root)


def with_inputs(config: TrialConfig) -> Trial:
    """The trial, its data and its files known by their fingerprints."""
    return identified(config, prepare_data(config.data, include_masks=config.model.has_masks).inputs)


def with_steps(config: TrialConfig, steps: int, **run: int) -> TrialConfig:
    """The trial with so many steps and other fields of its `run` section."""
    return dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, steps=steps),
        run=dataclasses.replace(config.run, **run),
    )


def with_batch(config: TrialConfig, images: int) -> TrialConfig:
    """The trial with so many images a step and as many steps; at its full learning rate few images diverge."""
    rate = config.train.learning_rate * images / config.train.global_batch
    train = dataclasses.replace(config.train, global_batch=images, reference_batch=images, learning_rate=rate)
    return dataclasses.replace(config, train=train)


def with_shards(config: TrialConfig, shards: int, images: int) -> TrialConfig:
    """The trial with so many shards of so many images."""
    return dataclasses.replace(
        config, train=dataclasses.replace(config.train, shards=shards, global_batch=shards * images)
    )


def resting_training(config: TrialConfig, worker: Worker) -> TrainingState:
    """A training whose steps change no weight, so that all of them cost the same."""
    state = build_training_state(Trial(config), len(train_split(config).class_names), worker)
    set_learning_rate(state.optimizer, 0.0)
    state.model.train()
    return state


def train_split(config: TrialConfig) -> CocoDataset:
    """The training images."""
    return CocoDataset(config.data.root, config.data.train_split)


def sampler_of(config: TrialConfig, dataset: CocoDataset) -> TrainSampler:
    """The order in which one worker trains, without an end."""
    return TrainSampler(
        dataset.sizes,
        images=dataset.images_to_train_on(keep_empty=config.data.keep_empty_images),
        global_batch=config.train.global_batch,
        flip_probability=config.data.flip_probability,
        seed=config.seed,
        total_steps=_MANY_STEPS,
    )


def preload(config: TrialConfig, dataset: CocoDataset, count: int) -> list[Batch]:
    """The first batches of a training, read and decoded."""
    loader = train_loader(dataset, sampler_of(config, dataset), loader_workers=0)
    return list(itertools.islice(loader, count))


def step_of(
    model: nn.Module, optimizer: torch.optim.SGD, config: TrialConfig, after: Callable[[], None] = lambda: None
) -> Callable[[Batch], None]:
    """A training step on a batch: model, backward, optimiser, and what comes after them."""
    device = next(model.parameters()).device

    def step(batch: Batch) -> None:
        losses = forward_losses(model, *batch, config, device)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        after()

    return step


def sharded_step_of(config: TrialConfig, worker: Worker) -> Callable[[Sequence[Batch]], None]:
    """A training step of a worker on the batches of its shards, as the engine's loop makes it; no weight changes."""
    state = resting_training(config, worker)
    gradients = ShardGradients(state.model.parameters(), config.train.shards, worker)

    def step(batches: Sequence[Batch]) -> None:
        for shard, batch in zip(worker.shards(config), batches, strict=True):
            state.dynamic.shard = shard
            losses = forward_losses(state.model, *batch, config, worker.device)
            gradients.backward(shard, torch.stack(list(losses.values())).sum())
        state.optimizer.step()

    return step
