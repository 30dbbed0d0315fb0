"""What it costs in time and memory that a trial's bits do not depend on its workers.

Two workers are compared with PyTorch's `DistributedDataParallel`, one worker with two shards with a batch at once.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from benchmarks.gloo import in_processes
from benchmarks.paired import Paired, paired, timed
from benchmarks.schema import Row, at_most, compared_row, stated_row
from benchmarks.workbench import (
    Workbench,
    preload,
    resting_training,
    sharded_step_of,
    step_of,
    train_split,
    with_batch,
    with_shards,
)
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.loader import Batch
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.device import prepare_device
from dynrcnn_ray.training.loop import seed_step

_SHARDS = 2
_NUM_BATCHES = 8
_WARM_UP = 3
_ROUNDS_OF_MINI_FOR_ONE = 6
"""A step of ResNet-50 takes so many of mini's."""
_PEAKS = 3
"""Rounds of memory, each in processes of its own."""
_STEPS_TO_PEAK = 4
_MEGABYTE = 1e6


def measure_shards(bench: Workbench, rounds: int) -> Iterator[Row]:
    """Two workers with a shard each, and one worker with both; at scale mini and with ResNet-50-FPN."""
    for label, config, of_label in (
        ("mini", bench.mini, rounds),
        ("ResNet-50 320 px", replace(bench.resnet, run=replace(bench.resnet.run, cpus_per_worker=1)), 0),
    ):
        number = of_label or max(6, rounds // _ROUNDS_OF_MINI_FOR_ONE)
        name = label.split()[0].lower()
        images = config.train.global_batch // _SHARDS
        yield compared_row(
            f"shards.{name}.two_workers",
            f"a step of two workers with a shard each, {label}",
            "the same under PyTorch's DistributedDataParallel",
            two_workers(with_batch(config, images), number, bench.scratch),
            "seconds a step",
            must=at_most(1.02),
            note=f"gloo over loopback, {images} images a worker, one thread each",
        )
        yield compared_row(
            f"shards.{name}.one_worker",
            f"a step of one worker with two shards, {label}",
            "the same images in one batch",
            _one_worker(config, number),
            "seconds a step",
            must=at_most(1.1) if label != "mini" else None,
            note=f"{config.train.global_batch} images, one thread",
        )
    yield from _memory_of_resnet(bench, min(rounds, _PEAKS))


def two_workers(share: TrialConfig, rounds: int, scratch: Path) -> Paired:
    """Seconds of a step of two processes, with the exchange in a fixed order and by PyTorch's.

    Args:
        share: a trial of a worker's images.
        rounds: of each.
        scratch: for a folder of its own.
    """
    # A step has ended when the last worker is there.
    ordered, by_pytorch = np.stack(in_processes(_steps_of_worker, _SHARDS, scratch, share, rounds)).max(axis=0)
    return Paired(ordered, by_pytorch)


def _steps_of_worker(worker: Worker, share: TrialConfig, rounds: int) -> np.ndarray:
    prepare_device(torch.device("cpu"))
    torch.set_num_threads(share.run.threads_per_worker)
    batches = preload(share, train_split(share), _NUM_BATCHES)
    # Images are the worker's own share in both.
    sharded = sharded_step_of(with_shards(share, _SHARDS, share.train.global_batch), worker)
    pytorchs = resting_training(share, Worker())
    parallel = step_of(nn.parallel.DistributedDataParallel(pytorchs.model), pytorchs.optimizer, share)
    sides = [lambda batch: sharded([batch]), parallel]
    return _in_turn(sides, batches, rounds, worker.rank)


def _in_turn(sides: Sequence[Callable[[Batch], None]], batches: Sequence[Batch], rounds: int, rank: int) -> np.ndarray:
    """Seconds of each side on the same batches with the same draws, `[sides, rounds]`; the first ones do not count."""
    seconds = []
    for number in range(_WARM_UP + rounds):
        batch = batches[(number + rank) % len(batches)]
        of_round = {}
        # Whoever comes second finds a warmer cache.
        for index in (0, 1) if number % 2 else (1, 0):
            seed_step(0, number, rank)
            dist.barrier()
            of_round[index] = timed(partial(sides[index], batch))()
        seconds.append([of_round[0], of_round[1]])
    return np.array(seconds[_WARM_UP:]).T


def _one_worker(config: TrialConfig, rounds: int) -> Paired:
    torch.set_num_threads(config.run.threads_per_worker)
    whole = resting_training(config, Worker())
    at_once = step_of(whole.model, whole.optimizer, config)
    in_shards = sharded_step_of(with_shards(config, _SHARDS, config.train.global_batch // _SHARDS), Worker())
    numbers = itertools.count()
    dataset = train_split(config)
    batches = preload(config, dataset, _NUM_BATCHES)
    parts = [_in_parts(batch, config.train.global_batch // _SHARDS) for batch in batches]

    def place() -> int:
        return next(numbers) // 2 % _NUM_BATCHES

    return paired(timed(lambda: in_shards(parts[place()])), timed(lambda: at_once(batches[place()])), rounds=rounds)


def _memory_of_resnet(bench: Workbench, rounds: int) -> Iterator[Row]:
    """How much more a process holds at its peak than under PyTorch: at most the partial sums of the tree."""
    config = replace(bench.resnet, run=replace(bench.resnet.run, cpus_per_worker=1))
    model = resting_training(config, Worker()).model
    gradients = sum(each.numel() * each.element_size() for each in model.parameters() if each.requires_grad)
    for name, workers, what, of_pytorch, share in (
        (
            "two_workers",
            2,
            "two workers",
            "DistributedDataParallel",
            with_batch(config, config.train.global_batch // 2),
        ),
        ("one_worker", 1, "one worker with two shards", "the batch at once", config),
    ):
        ours, pytorchs = (
            np.array(
                [max(in_processes(_peak_of_worker, workers, bench.scratch, share, side)) for _ in range(rounds)]
            ).ravel()
            for side in (True, False)
        )
        yield stated_row(
            f"shards.memory.{name}",
            f"peak memory of {what} above {of_pytorch}, ResNet-50 320 px",
            float(np.median(ours) - np.median(pytorchs)),
            "MB",
            rounds=rounds,
            must=at_most(gradients / _MEGABYTE * math.log2(_SHARDS), "MB"),
            note=f"the larger process; {np.median(ours):.0f} MB against {np.median(pytorchs):.0f}; "
            "the limit is log2(shards) sums of the gradients",
        )


def _peak_of_worker(worker: Worker, share: TrialConfig, is_ours: bool) -> np.ndarray:
    """The most that this process held in a few steps, in megabytes, `[1]`."""
    prepare_device(torch.device("cpu"))
    torch.set_num_threads(share.run.threads_per_worker)
    batches = preload(share, train_split(share), _STEPS_TO_PEAK)
    if is_ours:
        each = share.train.global_batch * worker.world_size // _SHARDS
        sharded = sharded_step_of(with_shards(share, _SHARDS, each), worker)
        for batch in batches:
            sharded(_in_parts(batch, each))
    else:
        training = resting_training(share, Worker())
        is_alone = worker.world_size == 1
        model = training.model if is_alone else nn.parallel.DistributedDataParallel(training.model)
        step = step_of(model, training.optimizer, share)
        for batch in batches:
            step(batch)
    # The kernel's own record of this process; `getrusage` also counts what the parent had when it was forked.
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return np.array([int(peak) * 1024 / _MEGABYTE])


def _in_parts(batch: Batch, each: int) -> list[Batch]:
    """A batch as shards of so many images."""
    images, targets = batch
    return [(images[first : first + each], targets[first : first + each]) for first in range(0, len(images), each)]
