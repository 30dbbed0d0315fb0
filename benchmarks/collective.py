"""The all-reduce of the statistics: its bytes, its time on this machine, and a stated model for many workers."""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from benchmarks.gloo import in_processes
from benchmarks.paired import Paired, timed
from benchmarks.schema import Row, at_most, compared_row, stated_row
from benchmarks.workbench import Workbench, preload, step_of, train_split, with_batch
from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.training.collectives import Worker, all_reduce_sum
from dynrcnn_ray.training.state import build_training_state

_FLOAT_BYTES = 4
_RECORDS = 3
_LIMIT = at_most(0.001, "of C steps")
_MANY_WORKERS = (8, 64, 1024)
_WARM_UP = 5


@dataclass(frozen=True)
class Network:
    """What the model assumes of a network; nothing here was measured."""

    latency: float = 50e-6
    """Seconds of one message between two machines: TCP within a datacentre."""
    bandwidth: float = 1.25e9
    """Bytes per second of a worker's link: 10 Gbit/s."""


def measure_collective(bench: Workbench, rounds: int) -> Iterator[Row]:
    """Measured at 2 and 4 gloo processes on this machine; modelled at 8, 64 and 1,024."""
    coco = base_config("coco")
    resnet_step = _step_seconds(bench.resnet)
    for label, config in (("mini", bench.mini), ("coco", coco)):
        interval, batch = config.dynamic.update_interval, config.train.global_batch
        for workers in (2, 4):
            seconds = all_reduce_seconds(config, workers, rounds, bench.scratch)
            if label == "mini":
                # More workers than cores take turns.
                turns = max(1.0, workers / (os.cpu_count() or 1))
                step = turns * _step_seconds(with_batch(config, batch // workers))
                of_step = f"{batch // workers} images a worker"
            else:
                step, of_step = resnet_step, "ResNet-50 at 320 px, two images"
            yield compared_row(
                f"collective.{label}.{workers}_workers",
                f"all-reduce of the statistics, {workers} workers on this machine, scale {label}",
                f"C = {interval} steps",
                Paired(seconds, np.full(len(seconds), interval * step)),
                "seconds",
                must=_LIMIT,
                note=f"{buffer_bytes(interval, batch)} bytes, gloo over loopback; from the arrival of the last worker "
                f"to the departure of the last: waiting for stragglers is not counted. "
                f"A step of {step:.3f} s ({of_step})",
            )
    network = Network()
    interval = coco.dynamic.update_interval
    for workers in _MANY_WORKERS:
        batch = 2 * workers
        size = buffer_bytes(interval, batch)
        seconds = modelled_seconds(size, workers, network)
        yield stated_row(
            f"collective.model.{workers}_workers",
            f"all-reduce of the statistics, {workers} workers, by a model",
            seconds / (interval * resnet_step),
            "of C steps",
            must=_LIMIT,
            note=f"not measured: 2 log2(n) x {network.latency:g} s + 2 (n - 1) / n x {size} bytes / "
            f"{network.bandwidth:g} bytes per second (assumed) = {seconds:.2g} s; {batch} images a step, two a worker; "
            f"C = {interval} steps of {resnet_step:.2f} s, measured here with ResNet-50 at 320 px and two images",
        )


def buffer_bytes(update_interval: int, global_batch: int) -> int:
    """Bytes of the buffer: a float32 slot for I_k, E_k and validity of each image of the interval."""
    return _RECORDS * update_interval * global_batch * _FLOAT_BYTES


def modelled_seconds(size: int, workers: int, network: Network) -> float:
    """Seconds of an all-reduce by the alpha-beta model: a tree there and back, every byte sent and received once.

    Args:
        size: bytes.
        workers: how many.
        network: latency and bandwidth.
    """
    if workers == 1:
        return 0.0
    messages = 2 * math.ceil(math.log2(workers))
    return messages * network.latency + 2 * (workers - 1) / workers * size / network.bandwidth


def all_reduce_seconds(config: TrialConfig, workers: int, rounds: int, scratch: Path) -> NDArray[np.float64]:
    """Seconds of each of so many all-reduces of the trial's buffer, in processes of this machine, `[rounds]`.

    They count from the arrival of the last worker to the departure of the last.
    """
    shape = (_RECORDS, config.dynamic.update_interval, config.train.global_batch)
    # One clock for all processes of a machine: since its start.
    arrivals, departures = np.stack(in_processes(_all_reduce_worker, workers, scratch, shape, rounds), axis=1)
    return departures.max(axis=0) - arrivals.max(axis=0)


def _all_reduce_worker(_worker: Worker, shape: tuple[int, ...], rounds: int) -> NDArray[np.float64]:
    torch.set_num_threads(1)
    buffer = torch.zeros(shape)
    arrivals, departures = [], []
    for _ in range(_WARM_UP + rounds):
        dist.barrier()
        arrivals.append(time.monotonic())
        all_reduce_sum(buffer)
        departures.append(time.monotonic())
    return np.array([arrivals, departures])[:, _WARM_UP:]


def _step_seconds(config: TrialConfig) -> float:
    torch.set_num_threads(config.run.threads_per_worker)
    dataset = train_split(config)
    state = build_training_state(Trial(config), len(dataset.class_names), Worker())
    state.model.train()
    step = step_of(state.model, state.optimizer, config, after=state.dynamic.end_step)
    seconds = [timed(lambda batch=batch: step(batch))() for batch in preload(config, dataset, 5)]
    return float(np.median(seconds[1:]))
