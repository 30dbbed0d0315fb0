"""How long a trial will take on this machine: a few steps of its own model on its own images, before it begins."""

import dataclasses
import statistics
import time
from typing import NamedTuple

import torch

from dynrcnn_ray.config.trial import Inputs, Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.events import Logged
from dynrcnn_ray.training.inference import outputs_of
from dynrcnn_ray.training.loop import train
from dynrcnn_ray.training.state import build_training_state

_MOST_STEPS = 4
_MOST_SECONDS = 8.0
"""No step is begun after so long; one takes as long as it takes."""


class MeasuredTime(NamedTuple):
    """What was measured of one worker, and what follows of it for the whole trial.

    Attributes:
        parts: steps that were measured, each of one shard.
        part_seconds: of one, the median.
        training: seconds of all steps.
        testing: seconds of the whole validation split.
    """

    parts: int
    part_seconds: float
    training: float
    testing: float


def time_lines(config: TrialConfig, inputs: Inputs) -> str:
    """How long a trial will take here, and what that is taken from, in lines.

    Args:
        config: the trial.
        inputs: its data, ready to be read.
    """
    if config.model.module:
        return "time: not measured, as model.module builds the detector, and its trial alone runs it"
    if config.run.gpu and not torch.cuda.is_available():
        return "time: not measured, as run.gpu asks for a GPU, and this machine has none"
    found = measured_time(config, inputs)
    workers, shards = config.run.num_workers, config.train.shards
    images = config.train.global_batch // shards
    return (
        f"time: {config.total_steps} steps take about {_duration(found.training)} here, and the test "
        f"{_duration(found.testing)}\n"
        f"  timed just now, {found.parts} x {images} of these images through this model with random weights, "
        f"{found.part_seconds:.2g} s a pass; a worker has {_parts_of_a_worker(config)} a step\n"
        f"  not counted: the start of {workers} workers, their waiting for each other, and checkpoints"
    )


def measured_time(config: TrialConfig, inputs: Inputs) -> MeasuredTime:
    """Train one worker's part of a few steps, and test an image; seconds at most, but for a step that takes longer.

    A part is one shard: workers train theirs one after another. Nothing is written, and no weights are read.

    Args:
        config: the trial, whose detector is one of the package's.
        inputs: its data, ready to be read.
    """
    data = dataclasses.replace(config.data, keep_empty_images=True)
    model = dataclasses.replace(config.model, weights="none", detector_weights="")
    images = config.train.global_batch // config.train.shards
    alone = dataclasses.replace(config.train, global_batch=images, shards=1, steps=10**9)
    run = dataclasses.replace(config.run, num_workers=1, loader_workers=0, log_every=1, checkpoint_every=10**9)
    part = dataclasses.replace(config, data=data, model=model, train=alone, run=run)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.run.threads_per_worker)
    try:
        seconds, image_seconds = _measure(part, inputs)
    finally:
        torch.set_num_threads(threads)
    part_seconds = statistics.median(seconds)
    val_images = len(CocoDataset(inputs.data_root, config.data.val_split))
    return MeasuredTime(
        parts=len(seconds),
        part_seconds=part_seconds,
        training=config.total_steps * _parts_of_a_worker(config) * part_seconds,
        testing=-(-val_images // config.run.num_workers) * image_seconds,
    )


def _measure(part: TrialConfig, inputs: Inputs) -> tuple[list[float], float]:
    """Seconds of each step but the first, unless there is no time for a second; and those of testing an image."""
    train_split = CocoDataset(inputs.data_root, part.data.train_split, include_masks=part.model.has_masks)
    worker = Worker(device=torch.device("cuda" if part.run.gpu else "cpu"))
    state = build_training_state(Trial(part, inputs), len(train_split.class_names), worker)
    seconds: list[float] = []
    began = last = time.perf_counter()
    steps = train(part, state, train_split)
    for event in steps:
        if not isinstance(event, Logged):
            continue
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
        if len(seconds) > _MOST_STEPS or now - began > _MOST_SECONDS:
            break
    steps.close()  # pyright: ignore[reportAttributeAccessIssue]
    state.model.eval()
    with torch.inference_mode():
        image, _ = train_split[Sample(0, flip=False)]
        outputs_of(part, state.model, [image], worker.device)
        last = time.perf_counter()
        image, _ = train_split[Sample(0, flip=False)]
        outputs_of(part, state.model, [image], worker.device)[0]["scores"].tolist()
    return seconds[1:] or seconds, time.perf_counter() - last


def _parts_of_a_worker(config: TrialConfig) -> int:
    """Shards that the busiest worker trains in a step."""
    return -(-config.train.shards // config.run.num_workers)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
