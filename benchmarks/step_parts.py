"""Where the time of a mini training step goes: its parts, and what averaging the gradients of two workers adds."""

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.gloo import in_processes
from benchmarks.paired import Paired, timed
from benchmarks.schema import Row, compared_row
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
from dynrcnn_ray.training.loop import forward_losses, seed_step
from dynrcnn_ray.training.state import TrainingState

_NUM_BATCHES = 8
_WARM_UP = 3
_WORKERS = 2
_PARTS = {
    "backbone": "backbone and feature pyramid, forward",
    "rpn": "region proposals with their loss, forward",
    "rpn_nms": "of the region proposals: decoding and NMS",
    "roi_heads": "RoI heads with their losses, forward",
    "roi_align": "of the RoI heads: RoIAlign",
    "backward": "backward",
    "optimizer": "the optimiser",
    "dynamic": "Algorithm 1's end of a step",
}


def measure_step_parts(bench: Workbench, rounds: int) -> Iterator[Row]:
    """Each part's share of one worker's step, where two workers train a mini trial."""
    share = with_batch(bench.mini, bench.mini.train.global_batch // _WORKERS)
    of_part = _seconds_of_parts(share, rounds)
    whole = of_part.pop("step")
    for name, seconds in of_part.items():
        yield compared_row(
            f"step_parts.{name}",
            f"{_PARTS[name]}, mini",
            "the whole step",
            Paired(seconds, whole),
            "seconds a step",
            note=f"one worker of {_WORKERS}, {share.train.global_batch} images, one thread",
        )
    yield compared_row(
        "step_parts.two_workers",
        f"a step of {_WORKERS} workers that average their gradients, mini",
        f"the same in {_WORKERS} processes, each for itself",
        _averaging_against_not(share, rounds, bench.scratch),
        "seconds a step",
        note=f"gloo over loopback, {share.train.global_batch} images a worker",
    )


def _seconds_of_parts(config: TrialConfig, rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each part and of the whole step, `[rounds]` each."""
    torch.set_num_threads(config.run.threads_per_worker)
    state = resting_training(config, Worker())
    clock = _Clock()
    for name, module in (("backbone", state.model.backbone), ("rpn", state.model.rpn)):
        clock.watch(name, module, "forward")
    clock.watch("rpn_nms", state.model.rpn, "filter_proposals")
    roi_heads: Any = state.model.roi_heads
    clock.watch("roi_heads", roi_heads, "forward")
    clock.watch("roi_align", roi_heads.box_roi_pool, "forward")
    batches = preload(config, train_split(config), _NUM_BATCHES)
    for number in range(_WARM_UP + rounds):
        seed_step(0, number, 0)
        _clocked_step(state, config, batches[number % _NUM_BATCHES], clock)
    return {name: np.array(clock.seconds[name][_WARM_UP:]) for name in ("step", *_PARTS)}


class _Clock:
    """Seconds of named parts, one entry a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def watch(self, name: str, owner: Any, method: str) -> None:
        """Time every call of a method."""
        called = getattr(owner, method)
        setattr(owner, method, wraps(called)(lambda *given, **named: self.time(name, lambda: called(*given, **named))))

    def time(self, name: str, run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = run()
        self.seconds[name].append(time.perf_counter() - started)
        return result


def _clocked_step(state: TrainingState, config: TrialConfig, batch: Batch, clock: _Clock) -> None:
    def step() -> None:
        images, targets = batch
        losses = forward_losses(state.model, images, targets, config, torch.device("cpu"))
        state.optimizer.zero_grad()
        clock.time("backward", lambda: torch.stack(list(losses.values())).sum().backward())
        clock.time("optimizer", state.optimizer.step)
        clock.time("dynamic", state.dynamic.end_step)

    clock.time("step", step)


def _averaging_against_not(config: TrialConfig, rounds: int, scratch: Path) -> Paired:
    averaged, alone = in_processes(_averaging_worker, _WORKERS, scratch, config, rounds)[0]
    return Paired(averaged, alone)


def _averaging_worker(worker: Worker, config: TrialConfig, rounds: int) -> np.ndarray:
    prepare_device(torch.device("cpu"))
    torch.set_num_threads(config.run.threads_per_worker)
    state = resting_training(config, Worker())
    numbers = itertools.count(worker.rank)
    batches = preload(config, train_split(config), _NUM_BATCHES)

    def stepper(step: Callable[[Batch], None]) -> Callable[[], float]:
        def measure() -> float:
            number = next(numbers)
            seed_step(0, number, 0)
            dist.barrier()
            return timed(lambda: step(batches[number % _NUM_BATCHES]))()

        return measure

    sharded = sharded_step_of(with_shards(config, _WORKERS, config.train.global_batch), worker)
    averaged = stepper(lambda batch: sharded([batch]))
    alone = stepper(step_of(state.model, state.optimizer, config))
    measured = [(averaged(), alone()) for _ in range(_WARM_UP + rounds)]
    return np.array(measured[_WARM_UP:]).T
