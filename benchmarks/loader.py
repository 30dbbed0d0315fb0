"""What the loader delivers, and whether training waits for it."""

import itertools
import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.paired import Paired, paired
from benchmarks.schema import Row, compared_row
from benchmarks.workbench import Workbench, sampler_of, step_of, train_split, with_steps
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.loader import train_loader
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import build_training_state


def measure_loader(bench: Workbench, rounds: int) -> Iterator[Row]:
    """Images per second of the loader alone and of training, and the share of a step that waits for images."""
    for label, config, steps in (("mini", bench.mini, 20), ("ResNet-50 320 px", bench.resnet, 3)):
        torch.set_num_threads(config.run.threads_per_worker)
        key = label.split()[0].lower()
        yield _throughput_row(key, label, config, steps, rounds)
        for processes in (0, 1):
            yield _waiting_row(key, label, with_steps(config, steps * rounds, loader_workers=processes), rounds)


def _throughput_row(key: str, label: str, config: TrialConfig, steps: int, rounds: int) -> Row:
    dataset = train_split(config)
    state = build_training_state(Trial(config), len(dataset.class_names), Worker())
    state.model.train()
    step = step_of(state.model, state.optimizer, config, after=state.dynamic.end_step)
    images = steps * config.train.global_batch
    batches = iter(train_loader(dataset, sampler_of(config, dataset), loader_workers=0))

    def load() -> float:
        started = time.perf_counter()
        for _ in itertools.islice(batches, steps):
            pass
        return images / (time.perf_counter() - started)

    def work() -> float:
        read = list(itertools.islice(batches, steps))
        started = time.perf_counter()
        for batch in read:
            step(batch)
        return images / (time.perf_counter() - started)

    return compared_row(
        f"loader.{key}.throughput",
        f"reading and decoding on one core, {label}",
        f"what training takes on {config.run.cpus_per_worker:g} cores",
        paired(load, work, rounds=rounds),
        "images per second",
    )


def _waiting_row(key: str, label: str, config: TrialConfig, rounds: int) -> Row:
    """Seconds in the loader's `next` against seconds of the whole step, a round being as many steps each."""
    dataset = train_split(config)
    state = build_training_state(Trial(config), len(dataset.class_names), Worker())
    state.model.train()
    step = step_of(state.model, state.optimizer, config, after=state.dynamic.end_step)
    processes = config.run.loader_workers
    batches = iter(train_loader(dataset, sampler_of(config, dataset), loader_workers=processes))
    step(next(batches))
    waited, whole = [], []
    for _ in range(config.total_steps):
        started = time.perf_counter()
        batch = next(batches)
        arrived = time.perf_counter()
        step(batch)
        waited.append(arrived - started)
        whole.append(time.perf_counter() - started)
    of_rounds = [np.array(values).reshape(rounds, -1).mean(axis=1) for values in (waited, whole)]
    return compared_row(
        f"loader.{key}.waiting_{processes}",
        f"waiting for images, {processes} loader processes, {label}",
        "the whole step",
        Paired(*of_rounds),
        "seconds a step",
        note="with 0 the training process reads the images itself, so that this is the time of reading them",
    )
