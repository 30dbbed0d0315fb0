"""How long a trial takes from its driver's start to its first step, and where the seconds go."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.schema import Row, at_most, stated_row
from benchmarks.workbench import Workbench, train_split, with_inputs, with_steps
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.cluster import ray_cluster
from dynrcnn_ray.execution.job import PlannedTrial
from dynrcnn_ray.execution.trials import run_trials
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import build_training_state

FIRST_MEASUREMENT = 11.5
"""Seconds from the driver's start, two trials at once on two quiet cores, when this was first measured."""
_WORKER = "dynrcnn_ray.execution.worker"


@dataclass(frozen=True)
class Startup:
    """Of two trials that start together, the mean seconds to the first step.

    Attributes:
        from_driver: from the start of the trial's driver, as its row has it.
        from_command: from the moment at which the grid of the two was asked for.
    """

    from_driver: float
    from_command: float


def measure_startup(bench: Workbench, rounds: int) -> Iterator[Row]:
    """Two trials at once on a fresh cluster, the same two again on the warm one, and the parts that can be timed."""
    config = with_steps(bench.mini, 1, log_every=1)
    # An elastic worker has a process of its own, even a single one.
    by_ray_train = with_steps(bench.mini, 1, log_every=1, min_workers=1)
    first, again, of_ray_train = [], [], []
    for number in range(rounds):
        with ray_cluster():
            first.append(_start_two(config, bench, f"first_{number}"))
            again.append(_start_two(config, bench, f"again_{number}"))
            of_ray_train.append(_start_two(by_ray_train, bench, f"ray_train_{number}"))
    for name, measured, where in (
        ("first_trials", first, "on a cluster that has just started"),
        ("later_trials", again, "on a cluster that has run two"),
    ):
        yield stated_row(
            f"startup.{name}",
            f"time to the first step, two trials at once, {where}",
            statistics.median(each.from_driver for each in measured),
            "seconds",
            rounds=rounds,
            must=at_most(FIRST_MEASUREMENT / 2, "seconds"),
            note=f"from the start of the trial's driver; must be half of the first measurement, {FIRST_MEASUREMENT} s. "
            f"From the moment at which the grid is asked for: {_from_command(measured):.1f} s",
        )
    yield stated_row(
        "startup.ray_train",
        "the same where Ray Train starts the workers",
        statistics.median(each.from_driver for each in of_ray_train),
        "seconds",
        rounds=rounds,
        note="as for a trial of several workers; from the moment at which the grid is asked for: "
        f"{_from_command(of_ray_train):.1f} s",
    )
    imports = [_import_seconds() for _ in range(rounds)]
    yield stated_row(
        "startup.imports",
        "of it: importing all that a worker needs",
        statistics.median(imports),
        "seconds",
        rounds=rounds,
        note="in one process alone; a driver's process does it once and goes on to the next trial",
    )
    yield stated_row(
        "startup.data_and_model",
        "of it: reading the annotations, building model and optimiser",
        statistics.median(_data_and_model_seconds(config) for _ in range(rounds)),
        "seconds",
        rounds=rounds,
    )


def _start_two(config: TrialConfig, bench: Workbench, name: str) -> Startup:
    storage = str(bench.scratch / f"startup_{name}")
    trials = [with_inputs(config).with_seed(seed) for seed in range(2)]
    asked_at = time.time()
    run_trials([PlannedTrial(trial, "benchmark", name) for trial in trials], storage=storage, git_commit="")
    rows = ResultStore.open(storage).trials()
    from_driver = rows["startup_seconds"].to_numpy()
    ended_at = np.array([moment.timestamp() for moment in rows["finished_at"]])
    from_command = ended_at - rows["wall_seconds"].to_numpy() + from_driver - asked_at
    return Startup(float(from_driver.mean()), float(from_command.mean()))


def _from_command(measured: list[Startup]) -> float:
    return statistics.median(each.from_command for each in measured)


def _import_seconds() -> float:
    code = f"import time; started = time.perf_counter(); import {_WORKER}; print(time.perf_counter() - started)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _data_and_model_seconds(config: TrialConfig) -> float:
    torch.set_num_threads(config.run.threads_per_worker)
    started = time.perf_counter()
    dataset = train_split(config)
    build_training_state(Trial(config), len(dataset.class_names), Worker())
    return time.perf_counter() - started
